"""What is declared, what is not guarded, and how that is said."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, WebSearchTool, function_tool
from click.testing import CliRunner
from crash import Effects
from oai_support import asks, invoke, payer, says, script

import surefoot
from surefoot import Guard, SurefootWarning, UsageError
from surefoot_cli.main import cli


def test_hosted_tools_are_warned_of_and_refused_by_strict() -> None:
    """A hosted tool runs at the provider: wrapping says so, also of an agent that is handed over to; strict refuses it."""
    second: Any = Agent(name="second", tools=[WebSearchTool()])
    with pytest.warns(SurefootWarning, match="hosted tools of second .*cannot be guarded"):
        surefoot.wrap(Agent(name="first", handoffs=[second]), store="memory://")
    with pytest.raises(UsageError, match="strict=True, and agent first"):
        surefoot.wrap(Agent(name="first", handoffs=[second]), store="memory://", strict=True)


def test_doctor_lists_hosted_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``surefoot doctor MODULE:OBJECT`` says which tools run at the provider, where nothing can guard them."""
    source = "from agents import Agent, WebSearchTool\nfirst = Agent(name='first', tools=[WebSearchTool()])\n"
    (tmp_path / "hosted_shop.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    shown = CliRunner().invoke(cli, ["--store", f"sqlite:///{tmp_path}/s.db", "doctor", "hosted_shop:first"])
    assert shown.exit_code == 0, shown.output
    assert "hosted_shop:first is guarded" in shown.output
    (line,) = [line for line in shown.output.splitlines() if line.startswith("note  unguarded")]
    assert "run at the provider and cannot be guarded (web_search)" in line


def test_an_unnamed_run_is_warned_of_once_and_refused_by_strict(effects: Effects, caplog: pytest.LogCaptureFixture) -> None:
    """Without a name or a session a run cannot be resumed: the log says so once, and strict refuses it."""
    made: Any = Agent(name="nameless", model=script([says("done")]), tools=[])
    agent = surefoot.wrap(made, store="memory://")
    with caplog.at_level(logging.WARNING, "surefoot"):
        invoke(agent)
        invoke(agent)
    assert [record.message for record in caplog.records if "nameless runs without a name" in record.message].__len__() == 1
    with pytest.raises(UsageError, match="strict=True needs a name"):
        invoke(surefoot.wrap(made, guard=Guard("memory://", strict=True)))


def test_two_guards_on_one_agent_are_an_error() -> None:
    """Wrapping twice with one guard is one guard; with another one it is refused."""
    guard = Guard("memory://")
    agent = surefoot.wrap(Agent(name="a"), guard=guard)
    assert surefoot.wrap(agent, guard=guard) is agent
    with pytest.raises(UsageError, match="guarded by another guard"):
        surefoot.wrap(agent, store="memory://")


def test_a_declared_function_keeps_its_rule(effects: Effects) -> None:
    """@surefoot.tool counts below @function_tool and above it, and the call is claimed once."""

    @function_tool
    @surefoot.tool(effect="unsafe", key=["order"])
    async def below(order: str) -> str:
        effects.add("below", order)
        return "ok"

    @surefoot.tool(effect="unsafe")
    @function_tool
    async def above(order: str) -> str:
        return "ok"

    guard = Guard("memory://")
    agent = surefoot.wrap(
        Agent(name="a", model=script([asks("below", order="1"), asks("above", order="1")], [says("done")]), tools=[below, above]),
        guard=guard,
    )
    with surefoot.run("order-1"):
        invoke(agent)
    assert sorted((row.tool, str(row.effect), str(row.state)) for row in guard.calls.list()) == [
        ("above", "unsafe", "committed"),
        ("below", "unsafe", "committed"),
    ]
    assert effects.count("below") == 1


def test_a_guarded_tool_outside_of_any_run_fails_closed(effects: Effects) -> None:
    """A guarded tool that something else than the runner calls does not run: the sentence says what to do."""
    tool = Guard("memory://").tool(payer(effects, failure_error_function=None))
    from agents.tool_context import ToolContext

    context: Any = ToolContext(context=None, tool_name="pay", tool_call_id="c", tool_arguments="{}")
    with pytest.raises(UsageError, match="outside of a run"):
        asyncio.run(tool.on_invoke_tool(context, '{"order": "1", "amount": 5}'))
    assert effects.count("pay") == 0
