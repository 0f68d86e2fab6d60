"""Governed tool calls over the wire: keys, doubts, replays, cancellation. Effects are counted in a file of the server's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp_support import SHOP, Proxy, call_params, code_of, eventually, proxy, words

from surefoot import CallState, Event
from surefoot_mcp_server.wire import CALL_ID, KEY, REPLAYED
from surefoot_recovery import quarantined, released

MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


async def until(wire: Proxy, effect: str) -> None:
    """Wait until the server has done something."""
    await eventually(lambda: effect in wire.effects())


@pytest.mark.parametrize("unsafe", [[], ["pay"]], ids=["unclassified", "unsafe"])
async def test_dropped_as_11(tmp_path: Path, unsafe: list[str]) -> None:
    """AS-11: a server commits and goes away; asked again, without a key and by a new proxy, the call is in doubt and its effect one."""
    async with proxy(tmp_path, dies="after", unsafe=unsafe) as wire:
        first = await wire.call("pay", {"amount": 7})
    async with proxy(tmp_path, unsafe=unsafe) as wire:
        second = await wire.call("pay", {"amount": 7})
        third = await wire.call("pay", {"amount": 7}, key="another-name")
        [doubt] = wire.guard.calls.list(state=CallState.IN_DOUBT)
        other = await wire.call("pay", {"amount": 8})
        assert wire.effects() == ['pay {"amount": 7}', 'pay {"amount": 8}']
    for outcome in (first, second, third):
        assert code_of(outcome) == "in_doubt"
        assert outcome["result"]["isError"] is True
        assert outcome["result"]["_meta"][CALL_ID] == doubt.call_id
        assert doubt.call_id in words(outcome)
        assert "may already have happened" in words(outcome)
    assert words(other) == "paid 8"


async def test_not_sent_is_not_in_doubt(tmp_path: Path) -> None:
    """A call that the server cannot have got did not happen, and may be asked again."""
    async with proxy(tmp_path, dies="after") as wire:
        await wire.call("pay", {"amount": 1}, key="a")
        await wire.relay
    async with proxy(tmp_path) as wire:
        assert words(await wire.call("pay", {"amount": 2}, key="b")) == "paid 2"


@pytest.mark.parametrize("answer", ["happened", "will_not_happen", "not_seen", "junk"])
async def test_reconciled_as_12(tmp_path: Path, answer: str) -> None:
    """AS-12: a declared read tool settles a doubt: the recorded result, or one dispatch, or it stays a doubt."""
    script = f"""
import json, sys
log = open({str(tmp_path / "effects")!r}, "a", buffering=1)
for line in sys.stdin:
    message = json.loads(line)
    if message.get("params", {{}}).get("name") == "pay":
        log.write("pay\\n")
        if len(open({str(tmp_path / "effects")!r}).readlines()) == 1: sys.exit(0)
        result = {{"content": [{{"type": "text", "text": "paid live"}}]}}
    else:
        assert message["params"]["arguments"] == {{"amount": 7}}
        found = {{"outcome": {answer!r}, "result": {{"content": [{{"type": "text", "text": "paid before"}}]}}}}
        result = {{"content": [{{"type": "text", "text": json.dumps(found)}}]}}
    print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], "result": result}}), flush=True)
"""
    options: dict[str, Any] = {
        "command": ["python3", "-c", script],
        "unsafe": ["pay"],
        "reads": ["find*"],
        "probes": {"pay": "find_payment"},
    }
    async with proxy(tmp_path, **options) as wire:
        assert code_of(await wire.call("pay", {"amount": 7}, key="k")) == "in_doubt"
    async with proxy(tmp_path, **options) as wire:
        second = await wire.call("pay", {"amount": 7}, key="k")
        third = await wire.call("pay", {"amount": 7}, key="k")
        paid = wire.effects().count("pay")
    if answer == "happened":
        assert (words(second), words(third), paid) == ("paid before", "paid before", 1)
    elif answer == "will_not_happen":
        assert (words(second), words(third), paid) == ("paid live", "paid live", 2)
    else:
        assert (code_of(second), code_of(third), paid) == ("in_doubt", "in_doubt", 1)


async def test_annotations_as_13(tmp_path: Path) -> None:
    """AS-13: the server calls its tools read-only, and they are governed all the same; only a local declaration lets one run again."""
    for reads, runs in (([], 1), (["pay"], 2)):
        folder = tmp_path / str(runs)
        folder.mkdir()
        async with proxy(folder, dies="after", reads=reads) as wire:
            assert (await wire.ask("tools/list"))["result"]["tools"][0]["annotations"] == {"readOnlyHint": True}
            await wire.call("pay", {"amount": 1})
        async with proxy(folder, reads=reads) as wire:
            await wire.call("pay", {"amount": 1})
            assert len(wire.effects()) == runs


async def test_late_as_14(tmp_path: Path) -> None:
    """AS-14: a call that has timed out and lands later is recorded as landed late, with an event; asked again, it is answered."""
    events: list[Event] = []
    async with proxy(tmp_path, limit=0.2, unsafe=["late"], events=events) as wire:
        assert code_of(await wire.call("late", key="k")) == "in_doubt"
        assert code_of(await wire.call("late", key="k")) == "in_doubt"
        await wire.send({"jsonrpc": "2.0", "method": "notifications/land"})
        await wire.ask("ping")  # the server answers in order
        await eventually(lambda: "call.landed_late" in [event.type for event in events])
        found = await wire.call("late", key="k")
        assert words(found) == "landed"
        assert found["result"]["_meta"][REPLAYED] is True
        assert wire.effects() == ["late"]


@pytest.mark.parametrize("effect", ["reads", "idempotent", "", "unsafe"])
async def test_client_leaves_as_45(tmp_path: Path, effect: str) -> None:
    """AS-45: when a client that never cancels goes away, the proxy cancels upstream; an unsafe call is in doubt instead."""
    rules = {effect: ["hang"]} if effect else {}
    async with proxy(tmp_path, grace=0.1, **rules) as wire:
        await wire.send({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": call_params("hang")})
        await until(wire, "hang")
        await wire.end()
        assert wire.effects() == (["hang"] if effect == "unsafe" else ["hang", "cancelled 9"])
        states = [call.state for call in wire.guard.calls.list()]
        assert states == ([] if effect == "reads" else [CallState.IN_DOUBT])


@pytest.mark.parametrize("effect", ["reads", "", "unsafe"])
async def test_cancelled_as_65(tmp_path: Path, effect: str) -> None:
    """AS-65: a cancellation travels to the server, unless the call is unsafe: that one is finished and recorded. Nobody is answered."""
    rules = {effect: ["late"]} if effect else {}
    async with proxy(tmp_path, **rules) as wire:
        await wire.send({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": call_params("late")})
        await until(wire, "late")
        await wire.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}})
        await wire.ask("ping")
        assert ("cancelled 9" in wire.effects()) == (effect != "unsafe")
        if effect == "":
            [call] = wire.guard.calls.list(state=CallState.IN_DOUBT)
            assert "its client cancelled it" in call.reason
        await wire.send({"jsonrpc": "2.0", "method": "notifications/land"})
        await wire.ask("ping")
        if effect == "unsafe":
            found = await wire.call("late")  # never delivered: the next equal call gets it, once
            assert words(found) == "landed"
            assert wire.effects() == ["late"]
        assert 9 not in [message.get("id") for message in wire.seen]


async def test_reissued_i31(tmp_path: Path) -> None:
    """I31: a call that is issued again under a new request id and the same key has one effect and the same result."""
    async with proxy(tmp_path) as wire:
        first = await wire.call("pay", {"amount": 1, "to": "a"}, key="k")
        second = await wire.call("pay", {"to": "a", "amount": 1.0}, key="k")
        assert len(wire.effects()) == 1
    assert second["result"].pop("_meta") == {REPLAYED: True}
    assert second == first
    assert first["result"]["structuredContent"] == {"paid": 1}


async def test_in_flight_i31(tmp_path: Path) -> None:
    """I31, I6: equal calls at the same time have one effect; the second waits for the first one's result."""
    async with proxy(tmp_path) as wire:
        for about in range(20):
            await wire.send({"jsonrpc": "2.0", "id": about, "method": "tools/call", "params": call_params("pay", {"amount": 1}, key="k")})
        found = [await wire.read() for _ in range(20)]
        assert {message["id"] for message in found} == set(range(20))
        assert {words(message) for message in found} == {"paid 1"}
        assert len(wire.effects()) == 1


async def test_without_a_key_equal_calls_are_two(tmp_path: Path) -> None:
    """Without a key, or a scope that was asked for, two equal calls are two."""
    async with proxy(tmp_path) as wire:
        for _ in range(2):
            assert words(await wire.call("pay", {"amount": 1})) == "paid 1"
        assert len(wire.effects()) == 2


async def test_once_in_a_scope(tmp_path: Path) -> None:
    """In a scope, equal calls of a declared tool are one call, also for a new proxy; in another scope they are others."""
    for scope, effects in (("task-1", 1), ("task-1", 1), ("task-2", 2)):
        async with proxy(tmp_path, once=["pay"], scope=scope) as wire:
            assert words(await wire.call("pay", {"amount": 1})) == "paid 1"
            assert len(wire.effects()) == effects


async def test_spellings_as_87(tmp_path: Path) -> None:
    """AS-87: our own key and the spellings of SEP-3182 are one key."""
    meta = [{"_meta": {name: "k"}} for name in (KEY, "io.modelcontextprotocol/idempotencyKey", "idempotencyKey")]
    async with proxy(tmp_path) as wire:
        await wire.call("pay", {"amount": 1}, key="k")
        for spelt in (*meta, {"idempotencyKey": "k"}):
            assert words(await wire.call("pay", {"amount": 1}, **spelt)) == "paid 1"
        assert len(wire.effects()) == 1


@pytest.mark.parametrize("unsafe", [[], ["pay"]], ids=["unclassified", "unsafe"])
async def test_codes_as_87(tmp_path: Path, unsafe: list[str]) -> None:
    """AS-87: a key with other arguments, a call in flight and a missing key have the Agentic Commerce Protocol's codes, and no effect."""
    async with proxy(tmp_path, wait=0.1, grace=0.1, keyed=["p*"], unsafe=unsafe) as wire:
        missing = await wire.call("pay", {"amount": 1})
        await wire.call("pay", {"amount": 1}, key="k")
        conflict = await wire.call("pay", {"amount": 2}, key="k")
        await wire.send({"jsonrpc": "2.0", "id": "h", "method": "tools/call", "params": call_params("hang", key="h")})
        await until(wire, "hang")
        flying = await wire.call("hang", key="h")
        found = [missing, conflict, flying]
        assert [code_of(one) for one in found] == ["idempotency_key_required", "idempotency_conflict", "idempotency_in_flight"]
        assert [one["result"]["_meta"]["surefoot/error"]["status"] for one in found] == [400, 422, 409]
        assert wire.effects() == ['pay {"amount": 1}', "hang"]


async def test_error_result_is_no_proof(tmp_path: Path) -> None:
    """An error result after dispatch proves nothing: the same key gets it again, another request for an unsafe tool is in doubt."""
    async with proxy(tmp_path, unsafe=["refuse"]) as wire:
        first = await wire.call("refuse", {"card": "1"}, key="k")
        second = await wire.call("refuse", {"card": "1"}, key="k")
        third = await wire.call("refuse", {"card": "1"}, key="l")
        assert words(first) == words(second) == "the card was declined"
        assert "_meta" not in first["result"]
        assert second["result"]["_meta"][REPLAYED] is True
        assert code_of(third) == "in_doubt"
        assert wire.effects() == ["refuse"]


async def test_protocol_errors(tmp_path: Path) -> None:
    """A JSON-RPC error comes back as the server wrote it, and is recorded: the same key gets it again."""
    async with proxy(tmp_path) as wire:
        first = await wire.call("nothing", key="k")
        assert first == await wire.call("nothing", key="k")
        assert first["error"] == {"code": -32602, "message": "unknown tool nothing"}


@pytest.mark.parametrize("unsafe", [[], ["ask"]], ids=["unclassified", "unsafe"])
async def test_input_required_is_no_result(tmp_path: Path, unsafe: list[str]) -> None:
    """A result that asks the client is none: the continuation under the same key runs, and its result is the call's."""
    more: dict[str, Any] = {"inputResponses": {"sure": {"action": "accept"}}, "requestState": "s1"}
    async with proxy(tmp_path, unsafe=unsafe) as wire:
        assert (await wire.call("ask", key="k", _meta=MODERN))["result"]["resultType"] == "input_required"
        assert (await wire.call("ask", key="k", _meta=MODERN))["result"]["resultType"] == "input_required"
        assert words(await wire.call("ask", key="k", _meta=MODERN, **more)) == "asked and done"
        assert words(await wire.call("ask", key="k", _meta=MODERN, **more)) == "asked and done"
        assert words(await wire.call("ask", key="k", _meta=MODERN)) == "asked and done"
        assert wire.effects() == ["ask"]


async def test_rounds_in_a_scope(tmp_path: Path) -> None:
    """In a scope, what a continuation carries is part of what it is."""
    more: dict[str, Any] = {"inputResponses": {"sure": {"action": "accept"}}, "requestState": "s1"}
    async with proxy(tmp_path, once=["ask"], scope="task") as wire:
        assert (await wire.call("ask", _meta=MODERN))["result"]["resultType"] == "input_required"
        for _ in range(2):
            assert words(await wire.call("ask", _meta=MODERN, **more)) == "asked and done"
        assert wire.effects() == ["ask"]


async def test_replays_speak_the_revision_that_asks(tmp_path: Path) -> None:
    """A result that was recorded in one revision is replayed in the one that is asked in: with the kind of result, or without."""
    async with proxy(tmp_path) as wire:
        assert "resultType" not in (await wire.call("pay", {"amount": 1}, key="old"))["result"]
        assert (await wire.call("pay", {"amount": 1}, key="old", _meta=MODERN))["result"]["resultType"] == "complete"
        await wire.call("ask", key="new", _meta=MODERN, inputResponses={})
        assert "resultType" not in (await wire.call("ask", key="new"))["result"]
        assert (await wire.call("pay", {"amount": 2}, key="old", _meta=MODERN))["result"]["resultType"] == "complete"


async def test_unsafe_doubts_hold_themselves_alone(tmp_path: Path) -> None:
    """An unsafe call in doubt holds nothing but itself; settled by a person, it is answered with what they said."""
    async with proxy(tmp_path, limit=0.2, unsafe=["*"]) as wire:
        assert code_of(await wire.call("hang", key="k")) == "in_doubt"
        assert words(await wire.call("pay", {"amount": 1}, key="l")) == "paid 1"
        [doubt] = wire.guard.calls.list(state=CallState.IN_DOUBT)
        wire.guard.calls.settle(doubt.call_id, committed={"paid": 1}, by="me")
        assert json.loads(words(await wire.call("hang", key="k"))) == {"paid": 1}


async def test_settled_as_failed_runs_again(tmp_path: Path) -> None:
    """A doubt that a person settled as failed runs once more."""
    async with proxy(tmp_path, dies="before", unsafe=["pay"]) as wire:
        assert code_of(await wire.call("pay", {"amount": 1}, key="k")) == "in_doubt"
        [doubt] = wire.guard.calls.list(state=CallState.IN_DOUBT)
        wire.guard.calls.settle(doubt.call_id, failed=True, by="me")
    async with proxy(tmp_path, unsafe=["pay"]) as wire:
        assert words(await wire.call("pay", {"amount": 1}, key="k")) == "paid 1"
        assert len(wire.effects()) == 1


async def test_the_strictest_pattern_counts(tmp_path: Path) -> None:
    """A tool that several patterns match has the strictest of their classes, whatever their order."""
    async with proxy(tmp_path, dies="after", reads=["*"], idempotent=["pa*"], unsafe=["p*"]) as wire:
        assert code_of(await wire.call("pay", {"amount": 1})) == "in_doubt"


async def test_reads_are_written(tmp_path: Path) -> None:
    """The outcomes of reads reach the ledger although nothing else is written."""
    async with proxy(tmp_path, reads=["search"]) as wire:
        for _ in range(3):
            await wire.call("search")
        await eventually(lambda: len(wire.guard.calls.list(state=CallState.COMMITTED)) == 3)
        assert wire.guard._riders == []


async def test_calls_that_take_the_server_down_are_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that may run again, and kills the server each time, is refused the third time, listed, and let go by a person."""
    monkeypatch.setenv("SUREFOOT_POISON_CRASHES", "2")
    said = []
    for dies in ("after", "after", ""):
        async with proxy(tmp_path, dies=dies, idempotent=["pay"]) as client:
            said.append(await client.call("pay", {"amount": 7}, key="k"))
            if not dies:
                assert words(await client.call("pay", {"amount": 8})) == "paid 8"  # another call
    assert [code_of(outcome) for outcome in said] == ["no_answer", "no_answer", "run_stopped"]
    assert "died 2 times" in words(said[-1])
    async with proxy(tmp_path, idempotent=["pay"]) as client:
        (aside,) = quarantined(client.guard)
        released(client.guard, aside.run_id, by="maria")
        assert words(await client.call("pay", {"amount": 7}, key="k")) == "paid 7"
        assert client.effects().count('pay {"amount": 7}') == 3


async def test_calls_that_the_proxy_died_with_are_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that may run again and whose proxy was killed counts as one that killed it."""
    monkeypatch.setenv("SUREFOOT_POISON_CRASHES", "1")
    effects = tmp_path / "effects"
    command = [sys.executable, "-m", "surefoot_cli.main", "--store", f"sqlite:///{tmp_path / 'ledger.db'}", "mcp", "run", "--name", "shop"]
    command += ["--idempotent", "hang", sys.executable, "-S", "-E", SHOP, str(effects)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:  # noqa: ASYNC220 - nothing else runs here
        assert killed.stdin is not None
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("hang")}
        killed.stdin.write(json.dumps(message).encode() + b"\n")
        killed.stdin.flush()
        await eventually(effects.exists)
        killed.kill()
    async with proxy(tmp_path, idempotent=["hang"]) as client:
        assert code_of(await client.call("hang")) == "run_stopped"


async def test_an_answer_in_between_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was answered since it took the server down has done so no times."""
    monkeypatch.setenv("SUREFOOT_POISON_CRASHES", "2")
    for dies in ("after", "", "after", ""):
        async with proxy(tmp_path, dies=dies, idempotent=["pay"]) as client:
            found = await client.call("pay", {"amount": 7})
    assert words(found) == "paid 7"
