"""AS-84 on OpenAI Agents: the model is told what a dry run has found, and its token lets exactly that happen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, function_tool
from crash import Effects
from mailroom import MAILS, PLAN, delete_all, filled, token_in
from oai_support import FACES, Script, asks, invoke, says

import surefoot
from surefoot import Guard


@pytest.fixture(autouse=True)
def mails() -> Iterator[None]:
    """Two mails in the spam folder."""
    with filled():
        yield


@pytest.mark.parametrize("comes", [[], ["invoice"]], ids=["as planned", "changed"])
@pytest.mark.parametrize("face", FACES)
def test_as_84_only_what_the_dry_run_named_is_carried_out(effects: Effects, tmp_path: Path, face: str, comes: list[str]) -> None:
    """AS-84: the model asks, is told the targets and a token, and asks with it: carried out once, and not at all if they changed."""
    told: list[str] = []

    @function_tool
    async def delete(folder: str, plan_token: str = "") -> str:
        """Delete all mails of a folder."""
        return delete_all(effects, folder)

    def reply(answered: list[str], _items: list[Any]) -> list[Any]:
        told[:] = answered
        if not answered:
            return [asks("delete", folder="spam", plan_token="")]
        if len(answered) == 1:
            MAILS["spam"] += comes
            return [asks("delete", folder="spam", plan_token=token_in(answered[0]))]
        return [says("done")]

    (tmp_path / "surefoot.yaml").write_text(PLAN)
    guard = Guard(f"sqlite:///{tmp_path}/surefoot.db", policy=str(tmp_path / "surefoot.yaml"))
    agent = surefoot.wrap(Agent(name="a", model=Script(reply), tools=[delete]), guard=guard)
    with surefoot.run("r"):
        assert invoke(agent, face=face).final_output == "done"
    dry, carried = told
    assert "nothing has happened" in dry
    assert '["win money", "cheap pills"]' in dry
    assert effects.count("delete") == (0 if comes else 2)
    assert ("plan_mismatch" in carried and "invoice" in carried) if comes else carried == "deleted 2"
