"""One run of a guarded agent: its place, the replies it was given, and which request of them a call is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from agent_framework import Content, UserInputRequiredException

from surefoot import Guard
from surefoot_adapters import Frame, Position, Requests
from surefoot_agent_framework import _convert
from surefoot_agent_framework._history import Conversation
from surefoot_journal import Recording

__all__ = ["Invocation", "Paused", "control_flow", "invocation"]


class Paused(Exception):
    """A run ended with requests that wait for a person: neither result nor error."""


def control_flow(guard: Guard) -> None:
    """Tell a guard how bodies are suspended in this framework."""
    guard.control_flow(Paused, UserInputRequiredException)


@dataclass(eq=False)
class Invocation:
    """One run of a guarded agent, in all its attempts."""

    guard: Guard
    agent: str
    waiting: Sequence[Content] = ()
    """Requests of the model that the run is given answers to: they waited for a person."""
    servers: Sequence[Any] = ()
    """MCP servers whose functions it may call, the framework's ``MCPTool`` objects."""
    tools: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    """By tool, what makes final arguments of what a model writes."""
    known: dict[str, str] = field(default_factory=dict)
    """By tool, the name that the guard knows it by."""
    stopped: BaseException | None = None
    """What must end it, whatever the framework makes of it."""
    inner: list[BaseException] = field(default_factory=list)
    """What ended runs inside of it."""

    def begin(self, frame: Frame) -> None:
        """Begin an attempt in the step that was opened for it."""
        self.frame = frame
        self.recording = Recording(self.guard, frame)
        self.conversation = Conversation()
        self.stopped = None
        self.inner.clear()
        self._requests = Requests(self.guard)
        if self.waiting:
            self.replied(self.waiting)

    def check(self) -> None:
        """Raise what must end it."""
        if self.stopped is not None:
            raise self.stopped

    def stop(self, error: BaseException) -> None:
        """Note what must end it: the framework makes words for the model of whatever comes out of a tool."""
        self.stopped = self.stopped or error

    def replied(self, requests: Sequence[Content]) -> None:
        """Note what a reply of the model asks for; what comes to no tool is not counted."""
        self._requests.replied(lambda: self._asked(requests))

    def position(self, call_id: str | None) -> Position | None:
        """Return where a request stands among those of this attempt."""
        return self._requests.position(call_id)

    def _asked(self, requests: Sequence[Content]) -> Iterator[tuple[str, str, Any]]:
        for request in requests:
            name = request.name or ""
            given = self.tools.get(name, _convert.data)(_convert.arguments(request))
            if given is not None:
                yield request.call_id or "", name, given


invocation: ContextVar[Invocation | None] = ContextVar("surefoot_agent_framework_invocation", default=None)
