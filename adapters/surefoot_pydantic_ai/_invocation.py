"""One run of a guarded agent: its place, the replies it was given, and which request of them a call is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import ModelResponse

from surefoot import Guard
from surefoot_adapters import Frame, Position, Requests, Said, here, innermost
from surefoot_journal import Recording
from surefoot_pydantic_ai import _convert

__all__ = ["Invocation", "Paused", "attempted", "control_flow"]


class Paused(Exception):
    """A run ended with requests that wait for a person or for somebody else's result: neither result nor error."""


def control_flow(guard: Guard) -> None:
    """Tell a guard how bodies are suspended in this framework."""
    guard.control_flow(Paused, ApprovalRequired, CallDeferred)


@dataclass(eq=False)
class Invocation:
    """One run of a guarded agent, in all its attempts."""

    guard: Guard
    agent: str
    behind: Sequence[ModelResponse] = ()
    """Replies since the user's newest words that the run is given."""
    defaults: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Static defaults of each tool, by the name that the model calls it."""
    said: Said = field(default_factory=lambda: Said(_convert.shown))
    known: dict[tuple[int, str], tuple[str, Any]] = field(default_factory=dict)
    """Tools that the guard knows, by toolset and name: the qualified name, and the framework's ``Tool`` where there is one."""
    place: Any = field(default_factory=here)
    taken: bool = False
    """The attempt's own :meth:`iter` has begun: another one is somebody else's."""

    driven: bool = False
    """Its caller drives it, and may leave it where it is."""

    def begin(self, frame: Frame) -> None:
        """Begin an attempt in the step that was opened for it."""
        self.frame = frame
        self.recording = Recording(self.guard, frame, behind=len(self.behind))
        self.taken = False
        self._requests = Requests(self.guard)
        for response in self.behind:
            self.replied(response)

    def paused(self, *, now: bool) -> None:
        """Note whether it waits for its caller."""
        if self.driven and self.frame.parent is None:
            self.frame.run.paused = now

    def frame_here(self) -> Frame:
        """Return the frame that a call made here is claimed in: the step, or the inside of the call whose body this is."""
        inner = innermost(here())
        return self.frame if inner is None or here() is self.place else inner

    def replied(self, response: ModelResponse) -> None:
        """Note a reply of the model; its requests come in this order."""
        self._requests.replied(lambda: self._asked(response))

    def position(self, call_id: str | None) -> Position | None:
        """Return where a request stands among those of this attempt."""
        return self._requests.position(call_id)

    def _asked(self, response: ModelResponse) -> Iterator[tuple[str, str, Any]]:
        for call_id, tool, arguments in _convert.requests(response):
            yield call_id, tool, {**self.defaults.get(tool, {}), **arguments}


attempted: ContextVar[Invocation | None] = ContextVar("surefoot_pydantic_ai_attempted", default=None)
"""The attempt that is about to be made by ``iter``."""
