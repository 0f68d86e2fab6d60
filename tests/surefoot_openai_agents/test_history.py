"""Turns after a crash: lists, sessions and streams are made whole with what the ledger knows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, Runner, SQLiteSession
from crash import Children, Effects, look
from oai_support import Script, says
from providers import anthropic, openai

import surefoot
from surefoot import Guard

FACES = ["async", "stream"]
FORMS = ["list", "session"]
children = Children(Path(__file__).parent / "oai_child.py")


@pytest.fixture(autouse=True, scope="module")
def closed() -> Iterator[None]:
    """Nothing outlives the tests."""
    yield
    children.close()


def chat(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Return items of the Responses API as the rules of the providers want them: neighbouring requests are one message's."""
    found: list[dict[str, Any]] = []
    for item in items:
        match item.get("type"):
            case "function_call":
                if not found or found[-1]["role"] != "assistant":
                    found.append({"role": "assistant", "asks": []})
                found[-1]["asks"].append(item["call_id"])
            case "function_call_output":
                found.append({"role": "tool", "answers": item["call_id"]})
            case _:
                found.append({"role": item["role"]} | ({"asks": []} if item["role"] == "assistant" else {}))
    return found


class Turn:
    """The next turn, whose model writes down what it is shown."""

    def __init__(self, guard: Guard | None) -> None:
        self.shown: list[Any] = []
        agent: Any = Agent(name="cashier", model=Script(self._reply))
        self.agent = agent if guard is None else surefoot.wrap(agent, guard=guard)

    def _reply(self, _answered: list[str], items: list[Any]) -> list[Any]:
        self.shown = items
        return [says("I see.")]

    def run(self, face: str, given: Any, **options: Any) -> None:
        """Run it under the name of the children's run."""

        async def turn() -> None:
            if face == "async":
                await Runner.run(self.agent, given, **options)
                return
            streamed = Runner.run_streamed(self.agent, given, **options)
            async for _event in streamed.stream_events():
                pass

        with surefoot.run("order-7"):
            asyncio.run(turn())

    def answers(self) -> dict[str, str]:
        """Return what the model was told of each request."""
        return {item["call_id"]: item["output"] for item in self.shown if item.get("type") == "function_call_output"}

    def broken(self) -> list[str]:
        """Return what providers refuse of what the model was shown."""
        return openai(chat(self.shown)) + anthropic(chat(self.shown))


def asked(call_id: str) -> Any:
    """Return an item that asks for a charge."""
    return {"type": "function_call", "name": "charge", "arguments": '{"amount": 5}', "call_id": call_id}


def go_on(turn: Turn, folder: Path, face: str, form: str, history: list[Any]) -> None:
    """Run the next turn after a conversation, given as a list or kept in a session."""
    if form == "list":
        turn.run(face, [*history, {"role": "user", "content": "did it work?"}])
        return
    session = SQLiteSession("customer-7", folder / "history.db")
    asyncio.run(session.add_items(history))
    turn.run(face, "did it work?", session=session)
    session.close()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("point", "text"), [("call.committed", "charged 5"), ("effect", "Outcome unknown: this charge call may already have happened")]
)
def test_as_32_the_next_turn_finds_the_true_result(tmp_path: Path, point: str, text: str, face: str, form: str) -> None:
    """Killed between the effect and its message: what the next turn shows the model is valid and has the true result, or the doubt."""
    children.killed(tmp_path, kill=point)
    guard = look(tmp_path)
    (row,) = [row for row in guard.calls.list() if row.tool == "charge"]
    turn = Turn(guard)
    go_on(turn, tmp_path, face, form, [{"role": "user", "content": "order 7"}, asked(row.alias or "")])
    assert turn.broken() == []
    assert turn.answers()[row.alias or ""].startswith(text)
    assert Effects(tmp_path / "effects").count("charge") == 1


@pytest.mark.parametrize("form", FORMS)
def test_as_32_negative_control_bare_the_model_does_not_know(tmp_path: Path, form: str) -> None:
    """Without surefoot a list is what no provider takes, and of a session the request is dropped: the model would do it again."""
    turn = Turn(None)
    go_on(turn, tmp_path, "async", form, [{"role": "user", "content": "order 7"}, asked("call_1")])
    assert turn.broken() if form == "list" else "call_1" not in str(turn.shown)


@pytest.mark.parametrize("where", ["last", "middle"])
@pytest.mark.parametrize("form", FORMS)
def test_as_33_an_orphan_without_a_row_is_unknown(
    tmp_path: Path, guard: Guard, form: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that was never answered, of before surefoot, is answered with 'unknown', wherever it stands; that is flagged."""
    history = [{"role": "user", "content": "pay"}, asked("call_old")]
    if where == "middle":
        history += [{"role": "user", "content": "hello?"}]
    turn = Turn(guard)
    go_on(turn, tmp_path, "async", form, history)
    assert turn.broken() == []
    assert turn.answers()["call_old"].startswith("Outcome unknown: nothing is recorded of this charge call")
    assert "nothing is recorded of it" in caplog.text
    (event,) = [event for event in guard.runs.events(guard.runs.list()[0].run_id) if event.type == "history.repaired"]
    assert event.data["calls"] == "charge (call_old): unknown"


def test_as_32_what_was_said_is_said_again_when_the_run_is_resumed(tmp_path: Path, guard: Guard) -> None:
    """A run that repaired its conversation and failed is resumed with the same words in it, so the model is asked nothing twice."""
    asked_of: list[int] = []

    def reply(_answered: list[str], _items: list[Any]) -> list[Any]:
        asked_of.append(1)
        return [says("I see.")]

    def fails(_context: Any, _agent: Any, _output: Any) -> Any:
        if len(ran) < 1:
            ran.append(1)
            raise RuntimeError("a guardrail failed")
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

    from agents import GuardrailFunctionOutput, OutputGuardrail

    ran: list[int] = []
    agent = surefoot.wrap(Agent(name="a", model=Script(reply), output_guardrails=[OutputGuardrail(fails)]), guard=guard)
    given: Any = [{"role": "user", "content": "pay"}, asked("call_old"), {"role": "user", "content": "and?"}]
    with surefoot.run("r"), pytest.raises(RuntimeError):
        asyncio.run(Runner.run(agent, given))
    with surefoot.run("r"):
        assert asyncio.run(Runner.run(agent, given)).final_output == "I see."
    assert asked_of == [1]


@pytest.mark.parametrize("face", FACES)
def test_a_conversation_of_the_provider_is_not_touched(guard: Guard, face: str) -> None:
    """An answer whose request the provider keeps, and a whole conversation, are handed on as they are."""
    turn = Turn(guard)
    given = [{"type": "function_call_output", "call_id": "call_1", "output": "ok"}, {"role": "user", "content": "and?"}]
    turn.run(face, given)
    assert turn.shown == given
