"""The journal without a framework: what is replayed, what is dropped, on both faces and as streams."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from surefoot import Guard, LeaseLost, register_secret
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do
from surefoot.engine.run import Opened, RunSpec, close_run, open_run
from surefoot.types import RunStatus
from surefoot_journal import Form, Question, Recording, ReplayDiffers, astream, offline, stream

FORM = Form(lambda reply: {"text": reply}, lambda data: data["text"], lambda reply: {"tokens": len(reply)})
ITEMS = Form(list, list)
QUESTION = Question("agent", "model", ["pay", "look"], "pay order 7", [], ["Be brief."])


@pytest.fixture(params=["memory", "sqlite"])
def guard(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Guard]:
    """A guard over a store of each kind."""
    with Guard("memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/surefoot.db") as made:
        yield made


class Entry:
    """One entry of a step, as a process that runs it has it."""

    def __init__(self, guard: Guard, *, behind: int = 0) -> None:
        nothing = Do(dict[str, int])
        spec = RunSpec("test", "default", "thread", "input", "go", "digest", Do(lambda: None), nothing, lambda error: error)
        opened: Opened = guard.drive(open_run(guard, spec))
        self.guard = guard
        self.run = opened.run
        self.frame = Frame(self.run, None, "agent#1", self.run.next_entry(), "agent")
        self.run.entries[self.frame.path] = self.frame.entry
        self.recording = Recording(guard, self.frame, behind=behind)
        self.asked = 0

    def ask(self, answer: str, question: Question = QUESTION) -> str:
        """Ask; the model would answer this."""

        def model() -> str:
            self.asked += 1
            return answer

        return str(self.guard.drive(self.recording.reply(question, Do(model), FORM)))

    def end(self) -> None:
        """Let the process crash, as far as the store can see: the run stays open."""
        self.guard.drive(close_run(self.guard, self.run, RunStatus.OPEN))

    def events(self) -> list[tuple[str, int]]:
        """Return the events of the journal, with the ordinal of the reply."""
        found = self.guard.runs.events(self.run.record.run_id)
        return [(event.type, event.data["ordinal"]) for event in found if event.type.startswith("model.")]


def test_a_reply_is_asked_for_once(guard: Guard) -> None:
    """Asked again at the same place by the next entry, a question gets the recorded reply, and the next one goes to the model."""
    first = Entry(guard)
    assert [first.ask("one"), first.ask("two")] == ["one", "two"]
    first.end()
    second = Entry(guard)
    assert [second.ask("x"), second.ask("y"), second.ask("three")] == ["one", "two", "three"]
    assert second.asked == 1
    assert [kind for kind, _ in second.events()] == ["model.replied"] * 2 + ["model.replayed"] * 2 + ["model.replied"]


async def test_the_asynchronous_face_is_the_same_program(guard: Guard) -> None:
    """What one face recorded, the other replays."""
    Entry(guard).end()
    first = Entry(guard)

    async def model() -> str:
        return "one"

    assert await guard.adrive(first.recording.reply(QUESTION, Do(lambda: None, model), FORM)) == "one"
    first.end()
    assert Entry(guard).ask("x") == "one"


@pytest.mark.parametrize(
    "change",
    [{"agent": "b"}, {"model": "b"}, {"tools": ["pay"]}, {"said": "pay order 8"}, {"results": ["paid"]}],
    ids=lambda change: next(iter(change)),
)
def test_a_question_that_differs_drops_the_rest(guard: Guard, change: dict[str, Any]) -> None:
    """Agent, model, tool names, the user's newest words and the results of tools decide; what is recorded from there on is dropped."""
    first = Entry(guard)
    for answer in ("one", "two", "three"):
        first.ask(answer)
    first.end()
    second = Entry(guard)
    other = dataclasses.replace(QUESTION, **change)
    assert [second.ask("x"), second.ask("new", other), second.ask("newer")] == ["one", "new", "newer"]
    second.end()
    third = Entry(guard)
    assert [third.ask("x"), third.ask("x", other), third.ask("x")] == ["one", "new", "newer"]
    assert ("model.diverged", 1) in third.events()


def test_another_prompt_or_order_of_tools_is_evented_or_nothing(guard: Guard) -> None:
    """Another prompt is evented and the reply replayed; the order of the tools is nobody's business."""
    first = Entry(guard)
    first.ask("one")
    first.end()
    second = Entry(guard)
    assert second.ask("x", dataclasses.replace(QUESTION, prompt=["Be rude."], tools=["look", "pay"])) == "one"
    assert [kind for kind, _ in second.events()] == ["model.replied", "model.prompt_changed", "model.replayed"]


def test_replies_that_the_framework_has_are_not_asked_for(guard: Guard) -> None:
    """An entry that begins with two replies behind it is asked for the third."""
    first = Entry(guard)
    for answer in ("one", "two", "three"):
        first.ask(answer)
    first.end()
    assert Entry(guard, behind=2).ask("x") == "three"


def test_i_09_a_superseded_entry_records_nothing(guard: Guard) -> None:
    """An entry that was taken over while it waited for the model gets no reply, and leaves none."""
    first = Entry(guard)
    first.run.entries[first.frame.path] += 1
    with pytest.raises(LeaseLost):
        first.ask("one")
    assert first.asked == 0


def test_a_model_that_raises_leaves_nothing(guard: Guard) -> None:
    """A failed question is asked again at the same place."""
    entry = Entry(guard)

    def model() -> str:
        raise RuntimeError("HTTP 500")

    with pytest.raises(RuntimeError):
        guard.drive(entry.recording.reply(QUESTION, Do(model), FORM))
    assert entry.ask("one") == "one"
    assert entry.events() == [("model.replied", 0)]


def test_as_68_a_secret_is_not_recorded(guard: Guard) -> None:
    """A reply that would be redacted is not kept: it would not be the truth when it is given back."""
    register_secret("sk-in-a-reply-1", name="key")
    first = Entry(guard)
    first.ask("the key is sk-in-a-reply-1")
    first.end()
    assert Entry(guard).ask("again") == "again"
    with guard.store.transaction(write=False) as tx:
        assert "in-a-reply" not in str(tx.records.list("journal"))


def test_streams(guard: Guard) -> None:
    """Items pass live, the last one when the reply is durable; a recorded stream is replayed without asking."""
    seen: list[str] = []

    def live() -> Iterator[str]:
        for item in ("a", "b", "."):
            seen.append(item)
            yield item

    first = Entry(guard)
    flow = stream(guard, first.recording, QUESTION, live, ITEMS, lambda item: item == ".")
    assert (next(flow), seen, first.events()) == ("a", ["a"], [])
    assert (next(flow), next(flow), first.events()) == ("b", ".", [("model.replied", 0)])
    assert list(flow) == []
    first.end()
    second = Entry(guard)
    assert list(stream(guard, second.recording, QUESTION, live, ITEMS, lambda item: item == ".")) == ["a", "b", "."]
    assert seen == ["a", "b", "."]


async def test_asynchronous_streams(guard: Guard) -> None:
    """The same on the other face; a stream that its consumer leaves is not recorded."""

    async def live() -> AsyncIterator[str]:
        for item in ("a", "."):
            yield item

    first = Entry(guard)
    flow: Any = astream(guard, first.recording, QUESTION, live, ITEMS, lambda item: item == ".")
    assert await anext(flow) == "a"
    await flow.aclose()
    assert first.events() == []
    for _ in range(2):
        assert [item async for item in astream(guard, first.recording, QUESTION, live, ITEMS, lambda item: item == ".")] == ["a", "."]
        first.end()
        first = Entry(guard)
    assert [kind for kind, _ in first.events()] == ["model.replied", "model.replayed"]


def test_as_77_offline_nothing_is_asked_and_nothing_written(guard: Guard) -> None:
    """Offline the recorded reply is given; a question that has none, or any other prompt, is an error that names it."""
    first = Entry(guard)
    first.ask("one")
    first.end()
    before = first.events()
    with offline(guard, first.run.record.run_id) as replay:
        again = Recording(guard, Frame(replay.live(guard, lambda error: error), None, "agent#1", 1))
        ask = Do(lambda: pytest.fail("asked"))
        with pytest.raises(ReplayDiffers, match=r"model call 1 of agent#1 asks otherwise \(prompt\)"):
            guard.drive(again.reply(dataclasses.replace(QUESTION, prompt=[]), ask, FORM))
        assert guard.drive(again.reply(QUESTION, ask, FORM)) == "one"
        with pytest.raises(ReplayDiffers, match="model call 2 of agent#1 has no recorded reply"):
            guard.drive(again.reply(QUESTION, ask, FORM))
    assert replay.replies == ["agent#1.1"]
    assert first.events() == before
