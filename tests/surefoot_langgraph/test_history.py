"""Turns after a crash: the conversation is made whole with what the ledger knows."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest
from crash import Children, Effects, look
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from providers import anthropic, openai
from support import ask, config, react

import surefoot
from surefoot import Guard, StepRule
from surefoot_langgraph import _convert

children = Children(Path(__file__).parent / "child.py")


@pytest.fixture(autouse=True, scope="module")
def closed() -> Iterator[None]:
    """Nothing outlives the tests."""
    yield
    children.close()


def chat(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return messages as the rules of the providers want them."""
    roles = {"human": "user", "ai": "assistant"}
    return [
        {"role": roles.get(message.type, message.type)}
        | ({"asks": [call["id"] for call in message.tool_calls]} if isinstance(message, AIMessage) else {})
        | ({"answers": message.tool_call_id} if isinstance(message, ToolMessage) else {})
        for message in messages
    ]


class Turn:
    """The next turn: what the model is shown, and what the tool does."""

    def __init__(self, saver: Any, replies: Sequence[AIMessage] = (AIMessage("I see."),)) -> None:
        self.shown: list[BaseMessage] = []
        self.paid: list[int] = []
        replies_left = list(replies)

        @tool
        def charge(amount: int) -> str:
            """Charge a customer."""
            self.paid.append(amount)
            return f"charged {amount}"

        def model(state: Any) -> Any:
            self.shown = list(state["messages"])
            return {"messages": [replies_left.pop(0)]}

        self.bare = react(model, [charge]).compile(checkpointer=saver)

    def broken(self) -> list[str]:
        """Return what providers refuse of what the model was shown."""
        return openai(chat(self.shown)) + anthropic(chat(self.shown))

    def answers(self) -> list[tuple[str, str, str]]:
        """Return the answers that were put in: text, status, state."""
        made = [message for message in self.shown if isinstance(message, ToolMessage)]
        return [(str(m.content), m.status, m.additional_kwargs["surefoot"]["state"]) for m in made]


def saved(folder: Path) -> SqliteSaver:
    """Return the children's checkpointer."""
    return SqliteSaver(sqlite3.connect(folder / "lg.db", check_same_thread=False))


@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize(
    ("point", "text", "status", "state"),
    [
        ("call.committed", "charged 5", "success", "committed"),
        ("effect", "Outcome unknown: this charge call may already have happened", "error", "in_doubt"),
        ("call.claimed", "Outcome unknown: this charge call may already have happened", "error", "in_doubt"),
    ],
)
def test_as_32_the_next_turn_finds_the_true_result(tmp_path: Path, point: str, text: str, status: str, state: str, effect: str) -> None:
    """Killed between the effect and its message: what the next turn shows the model is valid and has the true result, or the doubt."""
    tools = {"charge": effect}
    children.killed(tmp_path, scenario="pay", kill=point, input="go", tools=tools)
    guard = look(tmp_path)
    (run,) = guard.runs.list()
    turn = Turn(saved(tmp_path))
    surefoot.wrap(turn.bare, guard=guard).invoke({"messages": [("user", "did it work?")]}, config(run.thread or ""))
    assert turn.broken() == []
    (found,) = turn.answers()
    assert found[0].startswith(text)
    assert found[1:] == (status, state)
    assert [message.type for message in turn.shown] == ["human", "ai", "tool", "human"]
    assert Effects(tmp_path / "effects").count("charge") == (point != "call.claimed")
    newest = guard.runs.list()[0].run_id
    (event,) = [event for event in guard.runs.events(newest) if event.type == "history.repaired"]
    assert event.data["calls"].endswith(f": {state}")


def test_as_32_negative_control_bare_the_conversation_is_refused(tmp_path: Path) -> None:
    """The same without surefoot is a conversation that no provider takes."""
    children.killed(tmp_path, scenario="pay", kill="call.committed", input="go")
    turn = Turn(saved(tmp_path))
    turn.bare.invoke({"messages": [("user", "did it work?")]}, config(look(tmp_path).runs.list()[0].thread or ""))
    assert turn.broken()


def test_as_98_a_result_that_was_told_is_still_delivered_once(tmp_path: Path) -> None:
    """A model that finds the result in its conversation and asks all the same gets the recorded value, once; the next request runs."""
    children.killed(tmp_path, scenario="pay", kill="call.committed", input="go")
    guard = look(tmp_path)
    turn = Turn(saved(tmp_path), [*(AIMessage("", tool_calls=[ask("charge", amount=5)]) for _ in range(2)), AIMessage("done")])
    surefoot.wrap(turn.bare, guard=guard).invoke({"messages": [("user", "again!")]}, config(guard.runs.list()[0].thread or ""))
    assert [message.content for message in turn.shown if isinstance(message, ToolMessage)] == ["charged 5"] * 3
    assert turn.paid == [5]


def orphaned(call_id: str, name: str = "charge") -> AIMessage:
    """Return a message of the model that asks for something."""
    return AIMessage("", tool_calls=[{"name": name, "args": {"amount": 5}, "id": call_id, "type": "tool_call"}])


@pytest.mark.parametrize("where", ["last", "middle"])
def test_as_33_an_orphan_without_a_row_is_unknown(where: str, caplog: pytest.LogCaptureFixture) -> None:
    """A request that was never answered, of before surefoot, is answered with 'unknown', wherever it stands; that is flagged."""
    saver, guard = InMemorySaver(), Guard("memory://")
    turn = Turn(saver)
    history: list[Any] = [HumanMessage("pay"), orphaned("call_old")]
    if where == "middle":
        history += [HumanMessage("hello?"), AIMessage("hi")]
    turn.bare.update_state(config("t"), {"messages": history}, as_node="agent")
    surefoot.wrap(turn.bare, guard=guard).invoke({"messages": [("user", "and?")]}, config("t"))
    assert turn.broken() == []
    assert [message.type for message in turn.shown[:3]] == ["human", "ai", "tool"]
    ((text, status, state),) = turn.answers()
    assert text.startswith("Outcome unknown: nothing is recorded of this charge call")
    assert (status, state) == ("error", "unknown")
    assert "nothing is recorded of it" in caplog.text
    assert turn.paid == []


def test_as_33_a_conversation_that_is_given_whole() -> None:
    """A graph without a checkpointer is given the whole conversation: it is made whole the same way."""
    turn = Turn(None)
    given = [HumanMessage("pay"), orphaned("call_old"), HumanMessage("and?")]
    surefoot.wrap(turn.bare, guard=Guard("memory://")).invoke({"messages": given})
    assert turn.broken() == []
    assert [state for _, _, state in turn.answers()] == ["unknown"]


def test_a_whole_conversation_is_not_touched() -> None:
    """Where nothing is missing nothing is written, and the messages are those that were there."""
    saver, guard = InMemorySaver(), Guard("memory://")
    turn = Turn(saver, [AIMessage("", tool_calls=[ask("charge", amount=5)]), AIMessage("done"), AIMessage("yes")])
    graph = surefoot.wrap(turn.bare, guard=guard)
    graph.invoke({"messages": [("user", "pay")]}, config("t"))
    before = [message.id for message in graph.get_state(config("t")).values["messages"]]
    graph.invoke({"messages": [("user", "did it work?")]}, config("t"))
    assert [message.id for message in turn.shown[:-1]] == before
    assert not [event for run in guard.runs.list() for event in guard.runs.events(run.run_id) if event.type == "history.repaired"]


@tool
def charge_and_tell(amount: int, tool_call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
    """Charge a customer, and word the message of it."""
    return ToolMessage(f"charged {amount} for the {len(_told)}. time", tool_call_id=_told.append(tool_call_id) or tool_call_id)


_told: list[str] = []


@pytest.mark.parametrize("broken", [False, True], ids=["rebound", "negative control"])
def test_as_32_a_replayed_message_answers_the_request_of_today(monkeypatch: pytest.MonkeyPatch, broken: bool) -> None:  # noqa: FBT001 - pytest
    """A tool that makes its own message is replayed after the model gave its request another id: the message answers that one."""
    _told.clear()
    if broken:
        monkeypatch.setattr(_convert, "rebound", lambda value, _old, _new: value)

    def model(state: Any) -> Any:
        asked = any(isinstance(message, ToolMessage) for message in state["messages"])
        return {"messages": [AIMessage("done") if asked else AIMessage("", tool_calls=[ask("charge_and_tell", amount=5)])]}

    verdicts = iter([False, True])
    outer: Any = StateGraph(MessagesState)
    outer.add_node("worker", react(model, [charge_and_tell]).compile())
    outer.add_edge(START, "worker")
    rule = StepRule(verifier=lambda _output: next(verdicts))
    graph = surefoot.wrap(outer.compile(), guard=Guard("memory://", steps={"worker": rule}))
    found = chat(graph.invoke({"messages": [("user", "pay")]})["messages"])
    assert len(_told) == 1
    assert (openai(found) == []) is not broken
