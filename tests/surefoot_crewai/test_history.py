"""Turns after a crash: the conversation that an agent is kicked off with is made whole with what the ledger knows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, look
from crews import agent
from providers import anthropic, openai
from pydantic import ValidationError

import surefoot
from surefoot import Guard

children = Children(Path(__file__).parent / "crew_child.py")


@pytest.fixture(autouse=True, scope="module")
def closed() -> Iterator[None]:
    """Nothing outlives the tests."""
    yield
    children.close()


def chat(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages as the rules of the providers want them."""
    return [
        {"role": message["role"]}
        | ({"asks": [call["id"] for call in message.get("tool_calls") or ()]} if message["role"] == "assistant" else {})
        | ({"answers": message["tool_call_id"]} if message["role"] == "tool" else {})
        for message in messages
    ]


def history(call_id: str) -> list[dict[str, Any]]:
    """Return a conversation that ends with a request for a charge."""
    function = {"name": "charge", "arguments": '{"amount": 5}'}
    return [
        {"role": "user", "content": "charge maria"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": call_id, "type": "function", "function": function}]},
    ]


def go_on(guard: Guard | None, face: str, call_id: str) -> list[dict[str, Any]]:
    """Kick an agent off with the conversation and a question; return what its model was shown."""
    clerk = agent("I see.")
    made = clerk if guard is None else surefoot.wrap(clerk, guard=guard)
    given: Any = [*history(call_id), {"role": "user", "content": "did it work?"}]
    with surefoot.run("invoice-7"):
        try:
            made.kickoff(given) if face == "sync" else asyncio.run(made.kickoff_async(given))
        except ValidationError as exc:
            if exc.title != "LiteAgentExecutionStartedEvent":
                raise
            pytest.skip("this release of CrewAI refuses a conversation with calls in it, wrapped or not")
    shown: list[dict[str, Any]] = clerk.llm.asked[-1]
    if not any(message.get("tool_calls") for message in shown):
        pytest.skip("this release of CrewAI makes one text of a conversation")
    return shown


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize(
    ("point", "text"), [("call.committed", "charge 5"), ("effect", "Outcome unknown: this charge call may already have happened")]
)
def test_as_32_the_next_turn_finds_the_true_result(tmp_path: Path, point: str, text: str, face: str) -> None:
    """Killed between the effect and its message: what the next turn shows the model is valid and has the true result, or the doubt."""
    children.killed(tmp_path, kill=point, form="agent")
    guard = look(tmp_path)
    (row,) = guard.calls.list()
    shown = go_on(guard, face, row.alias or "")
    assert openai(chat(shown)) + anthropic(chat(shown)) == []
    (answer,) = [message for message in shown if message["role"] == "tool"]
    assert (answer["tool_call_id"], answer["content"][: len(text)]) == (row.alias, text)
    assert Effects(tmp_path / "effects").count("charge") == 1


def test_as_32_negative_control_bare_the_conversation_is_refused() -> None:
    """The same without surefoot is a conversation that no provider takes."""
    shown = go_on(None, "sync", "call_1")
    assert openai(chat(shown))
    assert anthropic(chat(shown))


@pytest.mark.parametrize("face", ["sync", "async"])
def test_as_33_an_orphan_without_a_row_is_unknown(guard: Guard, face: str, caplog: pytest.LogCaptureFixture) -> None:
    """A request that was never answered, of before surefoot, is answered with 'unknown', which is flagged."""
    shown = go_on(guard, face, "call_old")
    assert openai(chat(shown)) + anthropic(chat(shown)) == []
    (answer,) = [message for message in shown if message["role"] == "tool"]
    assert answer["content"].startswith("Outcome unknown: nothing is recorded of this charge call")
    assert "nothing is recorded of it" in caplog.text
    (event,) = [event for event in guard.runs.events(guard.runs.list()[0].run_id) if event.type == "history.repaired"]
    assert event.data["calls"] == "charge (call_old): unknown"
