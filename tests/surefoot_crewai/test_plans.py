"""AS-84 on CrewAI: the model is told what a dry run has found, and its token lets exactly that happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crewai.tools import tool
from crews import Effects, agent, ask, crew, text_ask
from mailroom import MAILS, PLAN, delete_all, filled, token_in

import surefoot
from surefoot import Guard


@pytest.fixture(autouse=True)
def mails() -> Iterator[None]:
    """Two mails in the spam folder."""
    with filled():
        yield


@pytest.mark.parametrize("comes", [[], ["invoice"]], ids=["as planned", "changed"])
@pytest.mark.parametrize("form", ["native", "text"])
def test_as_84_only_what_the_dry_run_named_is_carried_out(effects: Effects, tmp_path: Path, form: str, comes: list[str]) -> None:
    """AS-84: the model asks, is told the targets and a token, and asks with it: carried out once, and not at all if they changed."""
    told: list[str] = []

    @tool("delete")
    def delete(folder: str, plan_token: str = "") -> str:
        """Delete all mails of a folder."""
        return delete_all(effects, folder)

    def request(token: str) -> Any:
        given = {"folder": "spam", "plan_token": token}
        return [ask("delete", **given)] if form == "native" else text_ask("delete", **given)

    def carry_out(messages: Any) -> Any:
        MAILS["spam"] += comes
        return request(token_in(_said(messages)))

    def end(messages: Any) -> str:
        told.append(_said(messages))
        return "Thought: done\nFinal Answer: done"

    (tmp_path / "surefoot.yaml").write_text(PLAN)
    guard = Guard(f"sqlite:///{tmp_path}/surefoot.db", policy=str(tmp_path / "surefoot.yaml"))
    worker = agent(request(""), carry_out, end, tools=[delete], native=form == "native")
    with surefoot.run("r"):
        assert surefoot.wrap(crew(worker), guard=guard).kickoff().raw.endswith("done")
    assert "nothing has happened" in told[0]
    assert json.dumps(["win money", "cheap pills"]) in told[0]
    assert effects.count("delete") == (0 if comes else 2)
    assert ("plan_mismatch" in told[0] and "invoice" in told[0]) if comes else "deleted 2" in told[0]


def _said(messages: Any) -> str:
    return "\n".join(str(message["content"]) for message in messages)
