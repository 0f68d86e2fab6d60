"""Approvals through the proxy: the client's user is asked where the client can ask; else the call waits for the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mcp_support import Proxy, call_params, code_of, eventually, proxy, words
from test_http import HEADERS, Client, Shop, gateway, running, shop

from surefoot.plugins import Plugins
from surefoot_cli.main import cli
from surefoot_mcp_server.pins import Pins

__all__ = ["running", "shop"]

CAPABLE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
}
YES = {"action": "accept", "content": {"approve": True}}
NO = [{"action": "decline"}, {"action": "accept", "content": {"approve": False}}]
NEITHER = [{"action": "cancel"}, {"action": "accept"}, {"action": "accept", "content": {"approve": "yes"}}]


@pytest.fixture
def policy(tmp_path: Path) -> str:
    """A policy that has a person decide about payments."""
    file = tmp_path / "policy.toml"
    file.write_text('[[tools]]\ntool = "*/pay"\ndecision = "approve"\nreason = "payments need a person"\n')
    return str(file)


async def hello(wire: Proxy, capabilities: dict[str, Any]) -> None:
    """Greet the server as a client with these capabilities."""
    await wire.ask(
        "initialize", {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    )


async def asked_and_told(wire: Proxy, said: Any, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Call, answer the question that comes, and return both question and outcome."""
    call = asyncio.ensure_future(wire.call("pay", {"amount": 7}, **more))
    await eventually(lambda: wire.seen)
    question = wire.seen.pop()
    await wire.send({"jsonrpc": "2.0", "id": question["id"], "result": said})
    return question, await call


@pytest.mark.parametrize("unsafe", [[], ["pay"]], ids=["unclassified", "unsafe"])
async def test_the_client_s_user_is_asked(tmp_path: Path, policy: str, unsafe: list[str]) -> None:
    """A client of an old revision that can ask is sent ``elicitation/create``; a yes lets the call run, and each call is asked about."""
    async with proxy(tmp_path, policy=policy, unsafe=unsafe) as client:
        await hello(client, {"elicitation": {}})
        for _ in range(2):
            question, outcome = await asked_and_told(client, YES)
            assert question["method"] == "elicitation/create"
            assert '{"amount": 7}' in question["params"]["message"]
            assert "payments need a person" in question["params"]["message"]
            assert words(outcome) == "paid 7"
        assert len(client.effects()) == 2


@pytest.mark.parametrize(("said", "code"), [*((no, "denied") for no in NO), *((neither, "approval_pending") for neither in NEITHER)])
async def test_anything_but_a_yes_is_none(tmp_path: Path, policy: str, said: dict[str, Any], code: str) -> None:
    """A no refuses the call; no answer leaves it waiting; neither has an effect."""
    async with proxy(tmp_path, policy=policy) as client:
        await hello(client, {"elicitation": {}})
        assert code_of((await asked_and_told(client, said))[1]) == code
        assert client.effects() == []


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {"url": {}}}], ids=["none", "url-only"])
@pytest.mark.parametrize("key", [None, "order-1"], ids=["without-a-key", "keyed"])
@pytest.mark.parametrize("unsafe", [[], ["pay"]], ids=["unclassified", "unsafe"])
async def test_otherwise_the_command_line_decides(
    tmp_path: Path, policy: str, capabilities: dict[str, Any], key: str | None, unsafe: list[str]
) -> None:
    """A client that cannot ask is told the approval's id; decided from the command line, also after a restart, the call runs once."""
    async with proxy(tmp_path, policy=policy, unsafe=unsafe) as client:
        await hello(client, capabilities)
        pending = [await client.call("pay", {"amount": 7}, key=key) for _ in range(2)]
        assert [code_of(outcome) for outcome in pending] == ["approval_pending"] * 2
        (waiting,) = client.guard.approvals.list()
        assert waiting.id in words(pending[0])
    Plugins.default().cli(cli)
    done = CliRunner().invoke(cli, ["--store", f"sqlite:///{tmp_path / 'ledger.db'}", "approvals", "approve", waiting.id, "--by", "maria"])
    assert done.exit_code == 0, done.output
    async with proxy(tmp_path, policy=policy, unsafe=unsafe) as client:
        assert words(await client.call("pay", {"amount": 7}, key=key)) == "paid 7"
        assert code_of(await client.call("pay", {"amount": 7}, key=key)) == (None if key else "approval_pending")
        assert len(client.effects()) == 1


async def test_a_client_that_cancels_is_asked_no_more(tmp_path: Path, policy: str) -> None:
    """A call that is cancelled while its user is asked has no effect, and a late yes is nobody's."""
    async with proxy(tmp_path, policy=policy) as client:
        await hello(client, {"elicitation": {}})
        await client.send({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": call_params("pay", {"amount": 7})})
        question = await client.read()
        await client.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}})
        await eventually(client.guard.approvals.list)
        await client.ask("ping")
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": YES})
        await client.ask("ping")
        assert client.effects() == []
        assert client.seen == []  # the server was told nothing of it


async def test_rounds_of_the_new_revision(tmp_path: Path, policy: str) -> None:
    """A client of the new revision gets ``input_required`` and asks again with the answer, of which the server sees nothing."""
    async with proxy(tmp_path, policy=policy) as client:
        first = (await client.call("pay", {"amount": 7}, _meta=CAPABLE))["result"]
        assert first["resultType"] == "input_required"
        assert first["inputRequests"]["approval"]["method"] == "elicitation/create"
        more = {"requestState": first["requestState"], "inputResponses": {"approval": YES}}
        found = await client.call("pay", {"amount": 7}, _meta=CAPABLE, **more)
        assert words(found) == "paid 7"
        assert len(client.effects()) == 1


@pytest.mark.parametrize("forged", ["surefoot:appr_x.1:00", "surefoot:", "other"])
async def test_a_forged_answer_decides_nothing(tmp_path: Path, policy: str, forged: str) -> None:
    """A yes under a state that was made up, or is another approval's, approves nothing."""
    async with proxy(tmp_path, policy=policy) as client:
        other = (await client.call("pay", {"amount": 8}, _meta=CAPABLE))["result"]["requestState"]
        await client.call("pay", {"amount": 7}, _meta=CAPABLE)
        for state in (forged, other):
            found = await client.call("pay", {"amount": 7}, _meta=CAPABLE, requestState=state, inputResponses={"approval": YES})
            assert code_of(found) == "approval_pending" or found["result"]["resultType"] == "input_required"
        assert client.effects() == []
        assert [one.state for one in client.guard.approvals.list(state=None)] == ["pending"] * 2


async def test_rounds_over_http(tmp_path: Path, policy: str, shop: Shop) -> None:
    """Over HTTP too a client of the new revision asks its user; one of an old revision that has not said it can is told the id."""
    async with gateway(tmp_path, shop.url, policy=policy) as client:
        asked: dict[str, Any] = {"headers": {**HEADERS, "mcp-name": "pay"}, "_meta": CAPABLE}
        first = (await client.outcome("pay", **asked))["result"]
        more = {"requestState": first["requestState"], "inputResponses": {"approval": YES}}
        assert words(await client.outcome("pay", **asked, **more)) == "paid"
        assert code_of(await client.outcome("pay")) == "approval_pending"
        assert len(shop.effects()) == 1


@asynccontextmanager
async def asking(client: Client, tool: str, number: int = 1) -> AsyncIterator[tuple[dict[str, str], AsyncIterator[dict[str, Any]]]]:
    """Begin a session of an old revision, call a tool in it, and yield the headers that name it and what is said on the call's stream."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}
    begun = await client.post("/mcp", json={"jsonrpc": "2.0", "id": number, "method": "initialize", "params": hello})
    named = {"mcp-session-id": begun.headers["mcp-session-id"]}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params(tool)}
    async with client.stream("POST", "/mcp", json=body, headers=named) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        yield named, (json.loads(line.removeprefix("data: ")) async for line in stream.aiter_lines() if line.startswith("data: "))


SAID = [("pay", YES, "paid", 1), ("stream", YES, "stream done", 1), ("forbidden", YES, "403", 0), ("pay", NO[0], "denied it", 0)]


@pytest.mark.parametrize(("tool", "said", "told", "effects"), SAID)
async def test_old_revisions_over_http(tmp_path: Path, shop: Shop, tool: str, said: Any, told: str, effects: int) -> None:
    """Over HTTP a client of an old revision is asked on the stream of its call, and gets the result there, whatever the server sends."""
    file = tmp_path / "policy.toml"
    file.write_text('[[tools]]\ntool = "shop/*"\ndecision = "approve"\n')
    async with gateway(tmp_path, shop.url, policy=str(file)) as client, asking(client, tool) as (named, heard):
        question = await anext(heard)
        assert (question["method"], shop.effects()) == ("elicitation/create", [])
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": said}
        assert (await client.post("/mcp", json=reply, headers=named)).status_code == 202
        assert told in words([message async for message in heard][-1])
        assert len(shop.effects()) == effects


async def test_nobody_else_answers_i27(tmp_path: Path, policy: str, shop: Shop) -> None:
    """I27: another session, and another credential, cannot answer a client's question; the client's own answer counts."""
    async with gateway(tmp_path, shop.url, policy=policy) as client, asking(client, "pay") as (named, heard):
        yes = {"jsonrpc": "2.0", "id": (await anext(heard))["id"], "result": YES}
        for headers in ({}, {"mcp-session-id": "s2"}, {**named, "authorization": "Bearer other"}):
            await client.post("/mcp", json=yes, headers=headers)
        assert shop.effects() == []
        await client.post("/mcp", json=yes | {"result": {"action": "cancel"}}, headers=named)
        assert code_of(await anext(heard)) == "approval_pending"
        assert shop.effects() == []


async def test_a_client_that_leaves_is_asked_no_more(tmp_path: Path, policy: str, shop: Shop) -> None:
    """A call whose client goes away while its user is asked has no effect; the approval waits for the command line."""
    async with gateway(tmp_path, shop.url, policy=policy) as client:
        async with asking(client, "pay") as (named, heard):
            yes = {"jsonrpc": "2.0", "id": (await anext(heard))["id"], "result": YES}
        (waiting,) = client.guard.approvals.list()
        assert shop.effects() == []
        client.guard.approvals.approve(waiting.id, by="maria")
        assert words(await client.outcome("pay")) == "paid"
        await client.post("/mcp", json=yes, headers=named)
        assert len(shop.effects()) == 1


async def test_approvers_are_who_they_are(tmp_path: Path) -> None:
    """Where the policy names who decides, whoever sits before the client does not, unless ``elicitation`` is named."""
    for approvers, code in (('["ops-*"]', "approval_pending"), ('["ops-*", "elicitation"]', None)):
        file = tmp_path / "named.toml"
        file.write_text(f'[[tools]]\ntool = "*/pay"\ndecision = "approve"\n[approvals]\napprovers = {approvers}\n')
        async with proxy(tmp_path, policy=str(file)) as client:
            await hello(client, {"elicitation": {}})
            if code is None:
                assert words((await asked_and_told(client, YES))[1]) == "paid 7"
            else:
                assert code_of(await client.call("pay", {"amount": 7})) == code


async def test_changed_definitions_void_approvals_as_62(tmp_path: Path, policy: str) -> None:
    """AS-62: what was asked or approved about a tool that is not as it was pinned is void; approved anew, it is asked anew."""
    async with proxy(tmp_path, policy=policy) as client:
        tools = (await client.ask("tools/list"))["result"]["tools"]
        Pins(client.guard, "shop").approve({tool["name"]: tool for tool in tools})
        await client.call("pay", {"amount": 7}, key="k")
        (waiting,) = client.guard.approvals.list()
        client.guard.approvals.approve(waiting.id, by="maria")
        await client.send({"jsonrpc": "2.0", "method": "notifications/change", "params": {"pay": {"description": "Pays me."}}})
        await client.ask("ping")
        assert code_of(await client.call("pay", {"amount": 7}, key="k")) == "pin_mismatch"
        assert client.guard.approvals.show(waiting.id).state == "void"
        changed = {tool["name"]: tool for tool in tools} | {"pay": {**tools[0], "description": "Pays me."}}
        Pins(client.guard, "shop").approve(changed)
        assert code_of(await client.call("pay", {"amount": 7}, key="k")) == "approval_pending"
        assert [one.state for one in client.guard.approvals.list(state=None)] == ["void", "pending"]
        assert client.effects() == []
