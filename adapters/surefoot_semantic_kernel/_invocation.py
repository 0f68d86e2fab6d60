"""One attempt of a step in which a model is asked: its recorded replies, and which request of them a call is."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semantic_kernel.contents import ChatMessageContent, FunctionCallContent

from surefoot import Guard
from surefoot_adapters import Frame, Position, Requests, Said, here, passed_on
from surefoot_journal import Recording
from surefoot_journal.history import Settled
from surefoot_semantic_kernel import _convert

__all__ = ["Invocation", "asked_here", "invocation_at"]


@dataclass(eq=False)
class Invocation:
    """What a step's model has been asked and has answered."""

    guard: Guard
    frame: Frame
    agent: str
    hint: str = ""
    """The verifier's hint, where it was not put into the conversation yet."""
    functions: Mapping[str, Any] = field(default_factory=dict)
    """Metadata of the functions that the model may ask for, by qualified name."""
    offered: list[Any] = field(default_factory=list)
    """What the model is told of them."""
    lacks: bool = False
    """The conversation that it was given has requests without an answer."""
    settled: dict[str, Settled] = field(default_factory=dict)
    """What the ledger knows of requests without an answer in the conversation that it was given."""
    said: Said = field(default_factory=lambda: Said(_convert.shown))
    recording: Recording | None = None

    def __post_init__(self) -> None:
        """Begin."""
        self._requests = Requests(self.guard)

    def offer(self, functions: Mapping[str, Any]) -> None:
        """Let the model ask for these functions too."""
        if new := {name: metadata for name, metadata in functions.items() if name not in self.functions}:
            self.functions = {**self.functions, **new}
            self.offered += [_convert.definition(metadata) for metadata in new.values()]

    async def listen(self, messages: Sequence[ChatMessageContent]) -> Recording:
        """Return the recording. What stands behind in the conversation that it is first given was replied, and is asked for no more."""
        if self.recording is None:
            since = messages[_convert.newest(messages) + 1 :]
            behind = [message for message in since if _convert.is_reply(message)]
            self.lacks = bool(_convert.unanswered(messages))
            self.recording = Recording(self.guard, self.frame, behind=len(behind))
            for message in behind:
                self.replied(message)
            if behind:
                await self.guard.adrive(passed_on(self.frame, _convert.unanswered(since)))
        return self.recording

    def replied(self, message: ChatMessageContent) -> None:
        """Note a reply of the model; its requests come in this order."""
        self._requests.replied(lambda: self._asked(message))

    def position(self, content: FunctionCallContent) -> Position | None:
        """Return where a request stands among those of this attempt."""
        return self._requests.position(content.id)

    def _asked(self, message: ChatMessageContent) -> Iterator[tuple[str, str, Any]]:
        for content in _convert.requests(message):
            metadata = self.functions.get(_convert.name_of(content))
            arguments = _convert.arguments(content)
            if arguments is not None and metadata is not None and content.id:
                yield content.id, metadata.fully_qualified_name, _convert.final_arguments(metadata, arguments)


_known: weakref.WeakKeyDictionary[Frame, Invocation] = weakref.WeakKeyDictionary()


def invocation_at(frame: Frame, guard: Guard, agent: str = "") -> Invocation:
    """Return the invocation of a step."""
    if frame not in _known:
        _known[frame] = Invocation(guard, frame, agent or frame.name)
    return _known[frame]


def asked_here() -> Invocation | None:
    """Return the invocation of the step that this code is in; ``None`` in the body of a call, and in a step that is no model's."""
    place = here()
    return _known.get(place) if isinstance(place, Frame) else None
