"""One invocation of a guarded agent: its place in a run, the replies it was given, and its pending guardrails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from surefoot import Guard
from surefoot_adapters import ActiveCall, Frame, Position, Request, Requests, here, innermost
from surefoot_journal import Recording
from surefoot_journal.history import Settled
from surefoot_openai_agents import _convert

__all__ = ["Gate", "Invocation", "Known", "active", "held", "invocation", "passing", "unheld"]

_GRACE: Final = 0.5
"""Seconds that a refused tool waits for the framework to cancel it: what it raises would hide the tripwire."""


@dataclass(frozen=True, slots=True)
class Known:
    """A tool as the guard knows it."""

    name: str
    """The qualified name: of an MCP tool with its server."""
    defaults: Mapping[str, Any]
    """Static defaults of the parameters that the model can see."""


class Gate:
    """Input guardrails that have not spoken yet: what may have an effect waits for them (AS-47)."""

    def __init__(self, pending: Iterable[object], *, cancels: bool) -> None:
        """Wait for these; ``cancels`` is whether the framework cancels the tools of a run whose guardrail tripped."""
        self._pending = set(pending)
        self._cancels = cancels
        self._tripped: BaseException | None = None
        self._settled = asyncio.Event()
        self._look()

    def ended(self, guardrail: object, tripped: BaseException | None) -> None:
        """Note what a guardrail said; ``tripped`` is how it ends the run."""
        self._pending.discard(guardrail)
        self._tripped = self._tripped or tripped
        self._look()

    def _look(self) -> None:
        if self._tripped is not None or not self._pending:
            self._settled.set()

    async def passed(self) -> None:
        """Wait for every guardrail. Raises what ends the run where one tripped, so that the tool is not executed."""
        await self._settled.wait()
        if self._tripped is not None:
            await asyncio.sleep(_GRACE if self._cancels else 0)
            raise held(self._tripped)


@dataclass(eq=False)
class Invocation:
    """One ``Runner.run`` of a guarded agent."""

    guard: Guard
    known: Mapping[str, Known]
    """Tools by the name that the model calls them."""
    behind: Sequence[Any] = ()
    """Replies of the model that a ``RunState`` already has."""
    agent: str = ""
    """Name of the agent whose turn it is."""
    asked: dict[str, tuple[Frame, Request]] = field(default_factory=dict)
    """Call id → the request that was made of it."""
    listed: bool = False
    """It was given a conversation, which may lack answers."""
    heard: bool = False
    """It has read its session."""
    settled: dict[str, Settled] = field(default_factory=dict)
    """What was said of requests without an answer, by call id."""
    paused: bool = False
    """It ended with approvals to be given."""
    place: Any = field(default_factory=here)
    _open: asyncio.Future[Frame] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def begin(self, frame: Frame, guardrails: Iterable[object], *, streamed: bool) -> None:
        """Begin an attempt in the step that was opened for it."""
        self.recording = Recording(self.guard, frame, behind=len(self.behind))
        self.gate = Gate(guardrails, cancels=not streamed)
        self._requests = Requests(self.guard)
        for reply in self.behind:
            self.replied(reply.output)
        if self._open.done():
            self._open = asyncio.get_running_loop().create_future()
        self._open.set_result(frame)

    def refused(self, error: BaseException) -> None:
        """Note that there will be no step: whoever waits for it gets the error."""
        if not self._open.done():
            self._open.set_exception(error)
            self._open.exception()  # nobody may have waited

    async def frame(self) -> Frame:
        """Return the step of this attempt, once it is open."""
        return self._open.result() if self._open.done() else await asyncio.shield(self._open)

    async def frame_here(self) -> Frame:
        """Return the frame that a call made here is claimed in: the step, or the inside of the call whose body this is."""
        inner = innermost(here())
        return await self.frame() if inner is None or here() is self.place else inner

    def replied(self, output: Sequence[Any]) -> None:
        """Note a reply of the model; its requests come in this order."""
        self._requests.replied(lambda: self._asked(output))

    def position(self, call_id: str) -> Position | None:
        """Return where a request stands among those of this attempt."""
        return self._requests.position(call_id)

    def _asked(self, output: Sequence[Any]) -> Iterator[tuple[str, str, Any]]:
        for item in output:
            kind, name, text, call_id = (_convert.part(item, name) for name in ("type", "name", "arguments", "call_id"))
            arguments = _convert.arguments(text) if kind == "function_call" else None
            known = self.known.get(str(name))
            if arguments is not None and known is not None:
                yield call_id, known.name, _convert.final_arguments(known.defaults, arguments)


invocation: ContextVar[Invocation | None] = ContextVar("surefoot_openai_agents_invocation", default=None)
passing: ContextVar[bool] = ContextVar("surefoot_openai_agents_passing", default=False)
"""Whether this code is a guardrail's own: it waits for no guardrail."""


def held(error: BaseException) -> BaseException:
    """Return the error as one that the framework's own error handling lets through, still of the error's class."""
    from agents.exceptions import AgentsException

    if isinstance(error, AgentsException) or not isinstance(error, Exception):
        return error
    kind = type(error)
    made = _HELD.get(kind)
    if made is None:
        space = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__init__": _like}
        made = _HELD[kind] = type(kind.__name__, (AgentsException, kind), space)
    copy: BaseException = made(error)
    return copy


_HELD: dict[type, type] = {}


def _like(self: Any, error: Exception) -> None:
    Exception.__init__(self, *error.args)
    vars(self).update(vars(error))
    self.run_data = None  # the framework fills it in
    self.surefoot_error = error


def unheld(exc: BaseException) -> BaseException:
    """Return the error that :func:`held` made this one of, or itself."""
    found: BaseException = getattr(exc, "surefoot_error", exc)
    return found


def active() -> ActiveCall | None:
    """Return the call whose body is running here."""
    place = here()
    return place if isinstance(place, ActiveCall) else None
