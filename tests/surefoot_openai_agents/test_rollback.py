"""Rolling back runs of OpenAI Agents, which are one step each; and what counts as the same call. Effects are counted in a file."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, function_tool
from crash import Effects
from oai_support import Script, asks, invoke, says, script

import surefoot
from surefoot import Call, Guard, NotCommitted, ToolRule
from surefoot_recovery import RollbackRefused, undone_on_failure


def tool(effects: Effects, name: str, fails: list[bool] | None = None) -> Any:
    """Return a tool that moves an amount, or says that it did not, as often as ``fails`` says."""

    async def body(amount: int) -> str:
        if fails:
            fails.pop()
            raise NotCommitted("closed")
        effects.add(name, amount)
        return f"{name} {amount}"

    return function_tool(body, name_override=name, description_override=f"Do {name}.")


def rules(guard: Guard, effects: Effects, *names: str, without: str = "") -> Guard:
    """Return a guard over the same store whose tools say how they are undone."""

    def undo(call: Call, value: Any) -> str:
        effects.add(f"undo {call.tool}", call.arguments["amount"], value)
        return "undone"

    made = {name: ToolRule(effect="unsafe", compensate=None if name == without else undo) for name in names}
    return Guard(guard.store, tools=made)


def did(effects: Effects) -> list[str]:
    """Return the names of all effects, in order."""
    return [str(effect[0]) for effect in effects.all()]


def newest(guard: Guard) -> Any:
    """Return the newest run that is no rollback."""
    return next(run for run in guard.runs.list() if run.adapter != "rollback")


TURNS = ([asks("credit", amount=1)], [asks("withdraw", amount=2)], [says("done")])


def test_as_70_an_error_that_is_tried_again_undoes_nothing(guard: Guard, effects: Effects) -> None:
    """The withdrawal fails, the model is shown that and asks again: it succeeds, and nothing is compensated."""
    guard = rules(guard, effects, "credit", "withdraw")
    model = script([asks("credit", amount=1)], [asks("withdraw", amount=2)], [asks("withdraw", amount=2)], [says("done")])
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[tool(effects, "credit"), tool(effects, "withdraw", [True])]), guard=guard)
    with undone_on_failure(guard, "t-7"):
        assert invoke(agent).final_output == "done"
    assert (did(effects), newest(guard).status) == (["credit", "withdraw"], "completed")


def test_as_70_a_scope_that_finally_fails_is_undone_newest_first(guard: Guard, effects: Effects) -> None:
    """The model fails after two effects: both are compensated in reverse order, once each, and the run is ``compensated``."""
    guard = rules(guard, effects, "credit", "withdraw")

    def reply(answered: list[str], _items: list[Any]) -> Any:
        if len(answered) == 2:
            raise RuntimeError("HTTP 500")
        return TURNS[len(answered)]

    agent = surefoot.wrap(Agent(name="a", model=Script(reply), tools=[tool(effects, "credit"), tool(effects, "withdraw")]), guard=guard)
    with pytest.raises(RuntimeError, match="HTTP 500"), undone_on_failure(guard, "t-7"):
        invoke(agent)
    assert did(effects) == ["credit", "withdraw", "undo withdraw", "undo credit"]
    assert newest(guard).status == "compensated"
    guard.runs.rollback(newest(guard).run_id, by="tester")
    assert len(did(effects)) == 4


def test_as_71_as_72_the_plan_lists_refuses_and_leaves(guard: Guard, effects: Effects) -> None:
    """What cannot be undone refuses the rollback before anything is; with ``partial`` it is left, and the next run does not repeat it."""
    guard = rules(guard, effects, "credit", "withdraw", without="withdraw")
    agent = surefoot.wrap(Agent(name="a", model=script(*TURNS), tools=[tool(effects, "credit"), tool(effects, "withdraw")]), guard=guard)
    with surefoot.run("t-7"):
        invoke(agent)
    run = newest(guard).run_id
    plan = guard.runs.rollback(run, plan=True, by="tester")
    assert [(item.tool, item.state, item.fate) for item in plan.items] == [
        ("withdraw", "committed", "irreversible"),
        ("credit", "committed", "compensable"),
    ]
    with pytest.raises(RollbackRefused, match="withdraw declares no compensate="):
        guard.runs.rollback(run, by="tester")
    assert did(effects) == ["credit", "withdraw"]
    assert guard.runs.rollback(run, partial=True, by="tester").status == "compensated"
    with surefoot.run("t-7"):
        assert invoke(agent).final_output == "done"
    assert did(effects) == ["credit", "withdraw", "undo credit", "credit"]


def test_as_81_a_fork_of_a_run_is_answered_from_it(guard: Guard, effects: Effects) -> None:
    """A branch of a completed run under a name of its own has its output: no model is asked, and no tool runs."""
    guard = rules(guard, effects, "credit", "withdraw")
    model = script(*TURNS)
    agent = surefoot.wrap(Agent(name="a", model=model, tools=[tool(effects, "credit"), tool(effects, "withdraw")]), guard=guard)
    with surefoot.run("t-7"):
        invoke(agent)
    asked = model.questions
    guard.runs.fork(newest(guard).run_id, at="a", name="t-7b", by="tester")
    with surefoot.run("t-7b"):
        assert invoke(agent).final_output == "done"
    assert (did(effects), model.questions) == (["credit", "withdraw"], asked)


def test_as_80_what_is_meant_twice_happens_twice_and_reads_are_fresh(guard: Guard, effects: Effects) -> None:
    """Equal mails under two declared keys are both sent, a read after a write reads anew, and a repeated key gets the real answer."""
    heard: list[str] = []

    async def send(ref: str, text: str) -> str:
        effects.add("send", ref)
        return f"sent {ref}"

    async def status() -> str:
        return f"{effects.count('send')} sent"

    tools = [function_tool(body, name_override=body.__name__, description_override="Do.") for body in (send, status)]
    turns = [
        [asks("send", ref="1", text="hi"), asks("send", ref="2", text="hi"), asks("status")],
        [asks("send", ref="3", text="hi")],
        [asks("status")],
        [asks("send", ref="1", text="hi")],
    ]

    def reply(answered: list[str], _items: list[Any]) -> Any:
        heard[:] = answered
        done = {0: 0, 3: 1, 4: 2, 5: 3}
        return turns[done[len(answered)]] if len(answered) in done else [says("done")]

    guard = Guard(guard.store, tools={"send": ToolRule(effect="unsafe", key=["ref"])}, reads=["status"])
    with surefoot.run("t-7"):
        invoke(surefoot.wrap(Agent(name="a", model=Script(reply), tools=tools), guard=guard))
    assert effects.all() == [["send", "1"], ["send", "2"], ["send", "3"]]
    assert heard[4:] == ["3 sent", "sent 1"]
