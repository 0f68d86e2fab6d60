"""One run of a guarded agent or team: its place, the replies it was given, and which request of them a call is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from surefoot import Guard
from surefoot_adapters import Frame, Position, Requests, each_guard
from surefoot_autogen import _convert
from surefoot_autogen._history import Conversation
from surefoot_journal import Recording

__all__ = ["Invocation", "invocation", "known_of", "name_of"]


@each_guard
def known_of(_guard: Guard) -> dict[str, Callable[[str], Any]]:
    """Return, for the tools that a guard knows, what makes final arguments of what a model writes (``None``: they come to no tool)."""
    return {}


def name_of(owner: Any) -> str:
    """Return the name of an agent or a team, as its step has it. Teams have names since 0.7, by default those of their classes."""
    return getattr(owner, "name", None) or type(owner).__name__


@dataclass(eq=False)
class Invocation:
    """One turn of an agent, or one run of a team, in all its attempts."""

    guard: Guard
    owner: object
    """The agent or the team."""
    name: str
    is_team: bool
    stopped: BaseException | None = None
    """What must end it, whatever the framework makes of it."""
    inner: list[BaseException] = field(default_factory=list)
    """What ended runs inside of it."""
    flying: set[asyncio.Task[Any]] = field(default_factory=set)
    """Calls under way: the framework leaves them behind when a turn ends early."""

    def begin(self, frame: Frame) -> None:
        """Begin an attempt in the step that was opened for it."""
        self.frame = frame
        self.recording = Recording(self.guard, frame)
        self.conversation = Conversation()
        self.stopped = None
        self.inner.clear()
        self._requests = Requests(self.guard)

    def check(self) -> None:
        """Raise what must end it."""
        if self.stopped is not None:
            raise self.stopped

    def stop(self, error: BaseException) -> None:
        """Note what must end it."""
        self.stopped = self.stopped or error

    async def landed(self) -> None:
        """Cancel the calls that are still under way, and wait for them."""
        for task in self.flying:
            task.cancel()
        if self.flying:
            await asyncio.wait(self.flying)

    def replied(self, requests: Sequence[Any]) -> None:
        """Note what a reply of the model asks for, the framework's ``FunctionCall`` objects; what comes to no tool is not counted."""
        known = known_of(self.guard)
        self._requests.replied(
            lambda: [
                (request.id, request.name, given)
                for request in requests
                if (given := known.get(request.name, _convert.given)(request.arguments)) is not None
            ]
        )

    def position(self, call_id: str | None) -> Position | None:
        """Return where a request stands among those of this attempt."""
        return self._requests.position(call_id)


invocation: ContextVar[Invocation | None] = ContextVar("surefoot_autogen_invocation", default=None)
