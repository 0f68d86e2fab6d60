"""A wrapped flow in one process: what its methods did stands, whatever becomes of the rest. Effects are counted in a file."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from crewai import Flow
from crewai.flow.flow import listen, start
from crews import Effects

import surefoot
from surefoot import Guard, ToolRule


def billing(guard: Guard, effects: Effects, *, fails: bool) -> Any:
    """Return a wrapped flow of two methods, each with a charge; ``fails``: the second one raises after it."""
    charge = guard.tool(effects.tool("charge"))

    class Billing(Flow[dict[str, Any]]):
        """Charges twice."""

        @start()
        def first(self) -> str:
            """Charge 5."""
            effects.add("first")
            self.state["first"] = charge.run(amount=5)
            return "5"

        @listen(first)
        def second(self, before: str) -> str:
            """Charge 6."""
            effects.add("second")
            said = charge.run(amount=6)
            if fails:
                raise RuntimeError("lost the way")
            return f"{before} and {said}"

    return surefoot.wrap(Billing(), guard=guard)


@pytest.mark.parametrize("face", ["kickoff", "kickoff_async"])
def test_as_04_a_flow_that_failed_goes_on_where_it_was(guard: Guard, effects: Effects, face: str) -> None:
    """A flow whose second method raised after its charge goes on under its name: no charge is repeated, no method that had ended."""
    guard = Guard(guard.store, tools={"charge": ToolRule(effect="unsafe", key=["amount"])})

    def run(flow: Any) -> Any:
        with surefoot.run("invoice-7"):
            output = getattr(flow, face)()
            return asyncio.run(output) if inspect.isawaitable(output) else output

    with pytest.raises(RuntimeError, match="lost the way"):
        run(billing(guard, effects, fails=True))
    flow = billing(guard, effects, fails=False)
    output = run(flow)
    assert output.startswith("5 and ")
    assert flow.state["first"]
    assert (effects.count("charge", 5), effects.count("charge", 6)) == (1, 1)
    assert (effects.count("first"), effects.count("second")) == (1, 2)
    assert [str(run.status) for run in guard.runs.list()] == ["completed"]
