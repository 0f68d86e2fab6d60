"""Whose answer is it? Several tools of one task share LangGraph's list of resume values; each call gets its own (AS-95).

LangGraph numbers ``interrupt()`` calls in the order in which they happen to run, and keeps their answers in one list a task. Here
the ledger keeps them, with the call that asked: when an interrupt surfaces, its call is noted as the one that waits; on re-entry only
that call is given the new answer, and each call the answers that it had before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from langgraph.errors import GraphInterrupt

from surefoot import CallRecord, Effect, Guard, NotStorable
from surefoot_adapters import ActiveCall, Codec, Do, Frame, Pause, Program, Tx, Unit
from surefoot_langgraph import _approvals

__all__ = ["MISSING", "Answers", "Attempt", "consume", "own", "retried", "surfaced"]

_SCRATCHPAD: Final = "__pregel_scratchpad"
_SEND: Final = "__pregel_send"
_RESUME: Final = "__resume__"
_LOOK: Final = 0.002
MISSING: Final = 0.5
"""Seconds without any progress after which a request is taken not to come."""
_GRAPHS: Final = 1_000_000
"""More graphs than one attempt of a step runs."""


class Answers:
    """A task's scratchpad as one of its calls sees it.

    ``alone``: no other call shares the task's answers; it sees them all, and only what it is given is counted.
    ``index`` and ``size`` say which of the task's calls it is.
    """

    def __init__(self, real: Any, codec: Codec, *, alone: bool, index: int = 0, size: int = 1) -> None:
        self.call: ActiveCall | None = None
        """The call whose body is running; set when it starts."""
        self._real = real
        self._codec = codec
        self._alone = alone
        self._asked = 0
        self._asking = False
        self._given: list[Any] | None = None
        self._graph, self._size = index, size

    def _looks_like(self) -> type[Any]:
        """LangGraph numbers graphs only where it sees a scratchpad of its own class."""
        return type(self._real)

    __class__: Any = property(_looks_like)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the task's own."""
        return getattr(self._real, name)

    def _waits(self) -> bool:
        return self._alone or (self.call is not None and self.call.interrupts[-1:] == (None,))

    @property
    def resume(self) -> list[Any]:
        """The answers that this call may read: those it had, and the new one if its question waited for it."""
        if self._alone:
            return self._real.resume  # type: ignore[no-any-return]
        if self._given is None:
            had = [self._codec.loads(a) for a in (self.call.interrupts if self.call else ()) if a is not None]
            self._given = had + (list(self._real.resume[len(had) :]) if self._waits() else [])
            self._keep(self._given[len(had) :])
        return self._given

    def interrupt_counter(self) -> int:
        """Return the index of this call's next interrupt."""
        self._asked, self._asking = self._asked + 1, True
        if not self._alone:
            return self._asked - 1
        index: int = self._real.interrupt_counter()
        self._keep(self._real.resume[index : index + 1])
        return index

    @property
    def upcoming(self) -> int | None:
        """The number of the next graph that the call runs, or ``None`` where only the task knows it."""
        return getattr(self._real, "upcoming", None) if self._alone else self._graph

    def subgraph_counter(self) -> int:
        """Return the number of the next graph that the call runs; LangGraph tells the graphs of a task apart by it.

        A task counts them in the order in which its calls happen to get there, so that on re-entry they would find each other's
        state; here each call has numbers of its own.
        """
        if self._alone:
            return self._real.subgraph_counter()  # type: ignore[no-any-return]
        number, self._graph = self._graph, self._graph + self._size
        return number

    def get_null_resume(self, consume: bool = False) -> Any:  # noqa: FBT001, FBT002 - LangGraph's signature
        """Return the answer of this invocation, if it was this call's question that surfaced."""
        value = self._real.get_null_resume(consume) if self._waits() else None
        if self._asking and value is not None:
            self._keep([value])
        self._asking = False
        return value

    def _keep(self, values: list[Any]) -> None:
        for value in values if self.call is not None else ():
            try:
                self.call.answered.append(self._codec.dumps(value, whole=True))  # type: ignore[union-attr]
            except NotStorable:  # the person is asked again
                return


class Attempt:
    """A task's scratchpad as a later attempt of its step sees it: the graphs that it runs have numbers of their own.

    Numbered on by the task they would be told apart while it lives, and find the state that the first attempt left once it is
    resumed in a new one.
    """

    def __init__(self, real: Any, attempt: int) -> None:
        self._real = real
        self.upcoming = (attempt - 1) * _GRAPHS
        """The number of the next graph."""

    def _looks_like(self) -> type[Any]:
        return type(self._real)

    __class__: Any = property(_looks_like)

    def __getattr__(self, name: str) -> Any:
        """Everything else is the task's own."""
        return getattr(self._real, name)

    def subgraph_counter(self) -> int:
        """Return the number of the next graph that the attempt runs."""
        self.upcoming += 1
        return self.upcoming - 1


def retried(config: Any, attempt: int) -> Any:
    """Return a task's config for this attempt of its step."""
    conf = config.get("configurable", {})
    if attempt == 1 or _SCRATCHPAD not in conf:
        return config
    return {**config, "configurable": {**conf, _SCRATCHPAD: Attempt(conf[_SCRATCHPAD], attempt)}}


def own(config: Any, guard: Guard, *, shared: bool, index: int, size: int) -> tuple[Any, Answers | None]:
    """Return a tool's config with its own view of the task's answers, and that view; it is the ``index``-th of ``size`` calls.

    Where calls share the task, what LangGraph would write into the task's one list is kept out of it.
    """
    conf = (config or {}).get("configurable", {})
    if _SCRATCHPAD not in conf:
        return config, None
    real = conf[_SCRATCHPAD]
    first = getattr(real, "upcoming", None) or 0
    send, answers = conf[_SEND], Answers(real, guard.codec, alone=not shared, index=first + index, size=size)

    def without_answers(writes: Any) -> None:
        send([write for write in writes if write[0] != _RESUME])

    changed = {_SCRATCHPAD: answers, _SEND: without_answers} if shared else {_SCRATCHPAD: answers}
    return {**config, "configurable": {**conf, **changed}}, answers


def consume(config: Any, record: CallRecord) -> None:
    """Advance the task's interrupt counter as the replayed body did."""
    scratchpad = (config or {}).get("configurable", {}).get(_SCRATCHPAD)
    if scratchpad is not None:
        for _ in record.interrupts:
            scratchpad.interrupt_counter()


def surfaced(guard: Guard, frame: Frame, exc: GraphInterrupt, config: Mapping[str, Any], reply: Requests | None) -> Program[None]:
    """Note which call's question is about to surface, once the requests beside it have ended; none may begin after that.

    In a task that calls share, LangGraph's list is set to that call's answers, so that the id of the interrupt and the answer to it
    are the call's own.
    """
    call_id = next((call_id for call_id, error in frame.raised.items() if error is exc), None)
    if reply is None or not reply.shared or (call_id is None and not reply.waiting):
        return
    yield from _requests_ended(reply)
    frame.run.entries[frame.path] = frame.run.next_entry()
    while frame.asked:
        yield Pause(0.002)
    _approvals.merge(exc, reply.waiting)
    if call_id is None:
        return
    answers = yield Tx(lambda unit: _waits(unit, frame, call_id))
    send = config.get("configurable", {}).get(_SEND)
    if send is not None:
        values = [guard.codec.loads(answer) for answer in answers if answer is not None]
        yield Do(lambda: send([(_RESUME, values)]))


class Requests(Protocol):
    """How far the requests of a task are."""

    shared: bool
    expected: int
    begun: int
    ended: int
    waiting: list[GraphInterrupt]


def _requests_ended(reply: Requests) -> Program[None]:
    """Let the requests beside the one that asks come to their end; one that a wrapper kept from its tool is not waited for long."""
    missing = 0.0
    while reply.ended < reply.expected and missing < MISSING:
        missing = 0.0 if reply.ended < reply.begun else missing + _LOOK
        yield Pause(_LOOK)


def _waits(unit: Unit, frame: Frame, call_id: str) -> tuple[str | None, ...]:
    """Mark the call as the only one at its place that waits for an answer; return the answers that it had."""
    found: tuple[str | None, ...] = ()
    for row in unit.calls.under(frame.run.scope, frame.path):
        had = tuple(answer for answer in row.interrupts if answer is not None)
        wanted = (*had, None) if row.call_id == call_id else had
        if row.path == frame.path and row.interrupts != wanted:
            unit.calls.update(row.changed(interrupts=wanted))
        if row.call_id == call_id:
            found = had if row.effect is not Effect.COMPOSITE else ()
    return found
