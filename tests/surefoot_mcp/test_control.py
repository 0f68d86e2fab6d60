"""The control server, asked by a client of the SDK; the ledger is looked at around it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

import surefoot
from surefoot import CallState, Guard, InDoubt
from surefoot_mcp import _support
from surefoot_mcp_server import control

pytestmark = pytest.mark.filterwarnings("ignore:Field 'lifespan' has an incomplete definition")  # SDK 1.26 with a newer pydantic-settings
READING = ["approvals_list", "audit_verify", "call_show", "calls_list", "rollback_plan", "run_show", "runs_list"]


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with one run, in which a payment is in doubt and a search was made."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    @surefoot.tool(effect="unsafe")
    def pay(amount: int) -> str:
        raise InDoubt(f"the bank did not answer about {amount}")

    @surefoot.tool()
    def search(words: str) -> str:
        return f"found {words}"

    def agent() -> None:
        search("shoes")
        pay(7)

    with Guard(url) as guard, surefoot.run("invoice-7"), pytest.raises(InDoubt):
        surefoot.wrap(agent, guard=guard)()
        surefoot.wrap(agent, guard=guard)()
    with Guard(url) as guard, surefoot.run("invoice-7"), pytest.raises(InDoubt):
        surefoot.wrap(agent, guard=guard)()
    return url


async def ask(guard: Guard, tool: str, by: str | None = None, **arguments: Any) -> dict[str, Any]:
    """Call a tool of the control server and return what it said, or its error."""
    async with _support.connected(control.server(guard, by)) as client:
        result = (await client.call_tool(tool, arguments)).model_dump(by_alias=True, mode="json")
    return {"error": result["content"][0]["text"]} if result["isError"] else json.loads(result["content"][0]["text"])


async def test_what_happened_in_a_run(store: str) -> None:
    """``run_show`` tells the events in order, the calls, and what is open with the command that settles it."""
    with Guard(store) as guard:
        (listed,) = (await ask(guard, "runs_list"))["runs"]
        found = await ask(guard, "run_show", run_id=listed["run_id"])
        types = [event["type"] for event in found["events"]]
        assert types[0] == "run.opened"
        assert "run.held" in types
        assert sorted((call["tool"], call["state"]) for call in found["calls"]) == [("pay", "in_doubt"), ("search", "committed")]
        (sentence,) = found["open"]
        assert "pay" in sentence
        assert found["next"] is None
        paged = await ask(guard, "run_show", run_id=listed["run_id"], limit=1)
        assert (len(paged["events"]), paged["next"]) == (1, 1)
        assert (await ask(guard, "audit_verify", run_id=listed["run_id"]))["sound"] is True
        plan = await ask(guard, "rollback_plan", run_id=listed["run_id"])
        assert "pay" in plan["words"]
        assert (await ask(guard, "approvals_list"))["approvals"] == []


async def test_a_person_settles(store: str) -> None:
    """With a name a call is settled through it, in that name; the ledger says so."""
    with Guard(store) as guard:
        (call,) = (await ask(guard, "calls_list", state="in_doubt"))["calls"]
        settled = await ask(guard, "call_settle", by="maria", call_id=call["call_id"], happened=True, result='"paid"')
        assert settled["call"]["state"] == "committed"
        record = guard.calls.show(call["call_id"])
        assert (record.state, guard.codec.loads(record.value or "")) == (CallState.COMMITTED, "paid")
        settlers = [event.data.get("settled_by") for event in guard.runs.events(record.run_id)]
        assert "maria" in settlers
        assert (await ask(guard, "call_show", call_id=call["call_id"]))["call"]["state"] == "committed"


async def test_without_a_name_it_only_answers(store: str) -> None:
    """Nobody is named: there is no tool that changes anything, and those there are say that they read."""
    with Guard(store) as guard:
        for by, more in ((None, []), ("maria", ["approval_decide", "call_settle"])):
            async with _support.connected(control.server(guard, by)) as client:
                tools = [tool.model_dump(by_alias=True) for tool in (await client.list_tools()).tools]
            assert sorted(tool["name"] for tool in tools) == sorted([*READING, *more])
            assert {tool["name"] for tool in tools if tool["annotations"]["readOnlyHint"]} == set(READING)
        assert "error" in await ask(guard, "call_settle", call_id="call_x", happened=False)


async def test_approvals_are_decided(tmp_path: Path) -> None:
    """An approval is decided in the name of the person who started the server."""
    file = tmp_path / "policy.toml"
    file.write_text('[[tools]]\ntool = "pay"\ndecision = "approve"\n')

    @surefoot.tool()
    def pay(amount: int) -> str:
        return f"paid {amount}"

    def agent() -> str:
        return pay(7)

    with Guard(f"sqlite:///{tmp_path / 'ledger.db'}", policy=str(file)) as guard:
        with surefoot.run("invoice-7"), pytest.raises(surefoot.ApprovalPending):
            surefoot.wrap(agent, guard=guard)()
        (waiting,) = (await ask(guard, "approvals_list"))["approvals"]
        (run,) = (await ask(guard, "runs_list"))["runs"]
        assert waiting["id"] in (await ask(guard, "run_show", run_id=run["run_id"]))["open"][0]
        decided = await ask(guard, "approval_decide", by="maria", approval_id=waiting["id"], approve=True)
        assert (decided["approval"]["state"], decided["approval"]["decided_by"]) == ("approved", "maria")
        with surefoot.run("invoice-7"):
            assert surefoot.wrap(agent, guard=guard)() == "paid 7"


async def test_what_is_not_there_is_one_sentence(store: str) -> None:
    """An unknown run, an unknown state and a result that is no JSON are errors with one sentence that says what to do."""
    with Guard(store) as guard:
        (call,) = (await ask(guard, "calls_list", state="in_doubt"))["calls"]
        assert "run_x" in (await ask(guard, "run_show", run_id="run_x"))["error"]
        assert "in_doubt" in (await ask(guard, "calls_list", state="lost"))["error"]
        found = await ask(guard, "call_settle", by="maria", call_id=call["call_id"], happened=True, result="paid")
        assert "not JSON" in found["error"]


@pytest.mark.timeout(60)
async def test_resources_from_the_command_line(store: str) -> None:
    """``surefoot mcp control`` serves the same as resources, over standard input and output."""
    arguments = ["-m", "surefoot_cli.main", "--store", store, "mcp", "control"]
    parameters = StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))
    async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        listed = {str(one.uri) for one in (await session.list_resources()).resources}
        assert listed == {"surefoot://runs", "surefoot://approvals"}

        async def read(uri: str) -> dict[str, Any]:
            found: Any = await session.read_resource(uri if _support.SECOND else _support.of("pydantic", "AnyUrl")(uri))
            return json.loads(found.contents[0].text)

        (run,) = (await read("surefoot://runs"))["runs"]
        found = await read(f"surefoot://runs/{run['run_id']}")
        assert found["run"]["run_id"] == run["run_id"]
        call = found["calls"][0]["call_id"]
        assert (await read(f"surefoot://calls/{call}"))["call"]["call_id"] == call
