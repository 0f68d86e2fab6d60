"""AS-84 on LangGraph: the model is told what a dry run has found, and its token lets exactly that happen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from mailroom import MAILS, PLAN, delete_all, filled, token_in
from support import Agent, Effects, answers, ask, config, hello, planner, react

import surefoot
from surefoot import Guard


@pytest.fixture(autouse=True)
def mails() -> Iterator[None]:
    """Two mails in the spam folder."""
    with filled():
        yield


@pytest.mark.parametrize("comes", [[], ["invoice"]], ids=["as planned", "changed"])
@pytest.mark.parametrize("made", ["tool node", "create_agent"])
@pytest.mark.parametrize("face", ["sync", "async"])
async def test_as_84_only_what_the_dry_run_named_is_carried_out(
    effects: Effects, store: str, tmp_path: Path, face: str, made: str, comes: list[str]
) -> None:
    """AS-84: the model asks, is told the targets and a token, and asks with it: carried out once, and not at all if they changed."""
    told: list[str] = []

    @tool
    def delete(folder: str, plan_token: str = "") -> str:
        """Delete all mails of a folder."""
        return delete_all(effects, folder)

    def carry_out() -> list[Any]:
        MAILS["spam"] += comes
        return [ask("delete", folder="spam", plan_token=token_in(told[-1]))]

    def plan(state: Any) -> Any:
        told[:] = answers(state)
        return planner([ask("delete", folder="spam")], carry_out)(state)

    (tmp_path / "surefoot.yaml").write_text(PLAN)
    guard = Guard(store, policy=str(tmp_path / "surefoot.yaml"))
    built = react(plan, [delete]) if made == "tool node" else Agent([delete], plan)
    graph = surefoot.wrap(built.compile(checkpointer=InMemorySaver()), guard=guard)
    state = await graph.ainvoke(hello(), config("t")) if face == "async" else graph.invoke(hello(), config("t"))
    dry, carried = answers(state)
    assert "nothing has happened" in dry
    assert '["win money", "cheap pills"]' in dry
    assert effects.count("delete") == (0 if comes else 2)
    assert ("plan_mismatch" in carried and "invoice" in carried) if comes else carried == "deleted 2"
