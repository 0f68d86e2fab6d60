"""Steps of a run, the turns that an agent takes in one, and which request of the model a call is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from surefoot import Guard
from surefoot_adapters import ActiveCall, Do, Frame, Instead, Position, Program, StepSpec, Tx, Unit, inside, nested_step, step
from surefoot_crewai import _convert
from surefoot_journal import Recording, current_replay

__all__ = ["Asked", "Requests", "Turn", "Work", "nested", "run_step", "take", "turn", "within", "work"]

T = TypeVar("T")


@dataclass(slots=True)
class Asked:
    """One request of a model reply."""

    tool: str
    """The tool's name as the model is told it."""
    arguments: Mapping[str, Any]
    alias: str | None = None
    begun: bool = False


class Requests:
    """The requests of one turn, numbered: equal ones have ranks, over all replies of the turn.

    The framework calls a tool that raised again, up to six times for one request of the model. So, until the model has
    replied again, an invocation equal to one that raised is the same request; equal to one that runs or has its answer it
    is another one.
    """

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], list[str]] = {}
        self._raised: list[list[str]] = []
        """Those that may have ranks that raised since the model replied."""
        self._reply: list[Asked] = []
        self._lock = threading.Lock()

    def replied(self, reply: Sequence[Asked] = ()) -> None:
        """Note that the model has seen every answer so far, and what it asks for now."""
        with self._lock:
            self._reply = list(reply)
            for states in self._raised:
                states[:] = ["answered" if state == "raised" else state for state in states]
            self._raised.clear()

    @contextmanager
    def request(self, tool: str, digest: str, identify: Callable[[Mapping[str, Any]], str | None]) -> Iterator[tuple[Position, str | None]]:
        """Give a request its number, and the model's id of it, for as long as it is answered."""
        with self._lock:
            states = self._states.setdefault((tool, digest), [])
            rank = states.index("raised") if "raised" in states else len(states)
            states[rank:] = ["running", *states[rank + 1 :]]
            siblings, alias = self._among(tool, digest, identify, again=rank + 1 < len(states))
        state = "raised"
        try:
            yield Position(digest, rank, siblings), alias
            state = "answered"
        finally:
            with self._lock:
                if states[rank] == "running":
                    states[rank] = state
                if states[rank] == "raised":
                    self._raised.append(states)

    def untold(self, tool: str, digest: str, rank: int) -> None:
        """Note that a request was answered with words instead of a result: asked for again it is the same one."""
        with self._lock:
            states = self._states[tool, digest]
            states[rank] = "raised"
            self._raised.append(states)

    def _among(
        self, tool: str, digest: str, identify: Callable[[Mapping[str, Any]], str | None], *, again: bool
    ) -> tuple[list[str], str | None]:
        """Return the digests of the reply's other requests for the tool, and the id of this one.

        The only one of the reply is this one also where a hook has changed its arguments on the way.
        """
        same = [(asked, identify(asked.arguments)) for asked in self._reply if asked.tool == tool]
        mine = next((asked for asked, known in same if known == digest and (again or not asked.begun)), None)
        if mine is None and len(same) == 1 and not same[0][0].begun:
            mine = same[0][0]
        if mine is not None:
            mine.begun = True
        return [known for asked, known in same if asked is not mine and known is not None], mine.alias if mine else None


@dataclass(eq=False)
class Work:
    """One execution of a step in which an agent works: its frame, and how often the agent began."""

    frame: Frame
    attempt: int
    given: Any
    """What the step was given."""
    turns: int = 0

    def begin(self, *, again: bool) -> Frame:
        """Return the frame of the next turn; the one before may claim nothing more.

        ``again``: the framework runs a turn that failed once more, which is another entry of the same attempt; else its
        output was rejected, and this is the next attempt.
        """
        outer, run = self.frame, self.frame.run
        self.turns += 1
        if self.turns > 1:
            if not again:
                self.attempt += 1
                outer.floor = run.next_entry()
            outer.entry = run.entries[outer.path] = run.next_entry()
        reentered = outer.reentered or self.turns > 1
        place = (run, outer.parent, outer.path, outer.entry, outer.name, self.attempt, outer.hint, outer.floor, reentered)
        return Frame(*place, raised=outer.raised, deadline=outer.deadline)


@dataclass(eq=False)
class Turn:
    """One execution of an agent: from its prompt to its answer."""

    frame: Frame
    agent: Any
    work: Work
    recording: Recording
    """What the model answered in it."""
    said: Any
    """What it works on: the step's input, and what was wrong with the last attempt."""
    requests: Requests = field(default_factory=Requests)
    prompt: Any = None
    """The words that its conversation with the model begins with, once it has begun."""


work: ContextVar[Work | None] = ContextVar("surefoot_crewai_work", default=None)
turn: ContextVar[Turn | None] = ContextVar("surefoot_crewai_turn", default=None)


def within(var: ContextVar[T], value: T, body: Do) -> Do:
    """Return ``body`` with a context variable set while it runs."""

    def plain() -> Any:
        token = var.set(value)
        try:
            return body.plain()
        finally:
            var.reset(token)

    async def coro() -> Any:
        assert body.coro is not None  # noqa: S101 - chosen only then
        token = var.set(value)
        try:
            return await body.coro()
        finally:
            var.reset(token)

    return Do(plain, coro if body.coro is not None else None)


def run_step(
    guard: Guard, parent: Frame, path: str, name: str, given: Any, body: Callable[[str], Do], instead: Instead | None = None
) -> Program[Any]:
    """Run a step of ``parent``'s run; ``body`` gets the hint of the verifier that rejected the last attempt."""
    spec = StepSpec(parent.run, parent, path, name, given, _convert.digest(guard.codec, given))
    return step(guard, spec, partial(_worked, given, body), instead=instead)


def _worked(given: Any, body: Callable[[str], Do], frame: Frame) -> Do:
    return within(work, Work(frame, frame.attempt, given), body(frame.hint))


def nested(
    guard: Guard, place: Frame | ActiveCall, name: str, given: Any, body: Callable[[str], Do], instead: Instead | None = None
) -> Program[Any]:
    """Be a step of what is around: the n-th of this name and input, whatever order its siblings run in.

    A call that does so is a composite from now on: a step, not an effect, and entered again on resume (AS-94).
    """
    digest = _convert.digest(guard.codec, given)
    return nested_step(guard, place, name, given, digest, partial(_worked, given, body), instead=instead)


def take(guard: Guard, current: Work, agent: object, why: str | None, body: Do, *, again: bool = False) -> Program[Any]:
    """Let an agent take its next turn in a step; ``why`` says what the framework found wrong with the last one."""
    frame = current.begin(again=again)
    if current.turns > 1 and not again and current_replay() is None:
        yield Tx(partial(_rejected, frame=frame, why=why or ""))
    mine = Turn(frame, agent, current, Recording(guard, frame), [_convert.data(current.given), frame.hint, why])
    try:
        return (yield inside(frame, within(turn, mine, body)))
    except TimeoutError as exc:
        # Out of a worker thread asyncio hands on a copy of this one, and of no other.
        for call_id, error in frame.raised.items():
            if type(error) is TimeoutError and error.args == exc.args:
                frame.raised[call_id] = exc
        raise


def _rejected(unit: Unit, frame: Frame, why: str) -> None:
    unit.emit(frame.run.record.run_id, "step.rejected", step=frame.path, attempt=frame.attempt - 1, verdict="fail", hint=why)
