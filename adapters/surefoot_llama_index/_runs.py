"""One run of a guarded workflow: its place in a run of ours, and the requests of its model, numbered."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from surefoot import Guard, NotStorable
from surefoot_adapters import ActiveCall, Frame, Position
from surefoot_journal import Recording
from surefoot_llama_index import _convert

__all__ = ["Invocation", "Known", "asked", "invocation"]


@dataclass(frozen=True, slots=True)
class Known:
    """A tool as the guard knows it."""

    name: str
    signature: inspect.Signature
    injected: frozenset[str]
    """Parameters that the model does not see: the context, and what the tool was made with."""

    def arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call (see :func:`surefoot_llama_index._convert.arguments`)."""
        return _convert.arguments(self.signature, self.injected, args, kwargs)

    def digest(self, guard: Guard, asked: Mapping[str, Any]) -> str | None:
        """Return the digest of what a model asked for as it will come to the body, ``None`` for what the function refuses."""
        parameters = self.signature.parameters
        given = {**dict.fromkeys(name for name in self.injected if name in parameters), **asked}
        try:
            found = self.arguments((), given)
        except TypeError:
            return None
        try:
            return guard.codec.digest(found)
        except NotStorable:
            return guard.opaque_digest(found)


@dataclass(eq=False)
class Invocation:
    """One attempt of an agent's run: from the user's words to the answer."""

    guard: Guard
    known: Mapping[str, Known]
    """Tools by the name that the model calls them."""
    frame: Frame
    recording: Recording | None
    """What its models answered; ``None`` in a workflow that is no agent: its steps are its own."""
    agent: str = ""
    """Name of the agent whose turn it is."""
    _positions: dict[str, Position] = field(default_factory=dict)
    _ranks: Counter[tuple[str, str]] = field(default_factory=Counter)

    def replied(self, requests: Iterable[Any]) -> None:
        """Give what a reply asks for its numbers: replies in order, requests in order."""
        found = []
        for request in requests:
            known = self.known.get(request.tool_name)
            digest = known.digest(self.guard, request.tool_kwargs) if known is not None else None
            if digest is not None and request.tool_id not in self._positions:
                found.append((request.tool_id, request.tool_name, digest))
        for tool_id, tool, digest in found:
            siblings = [other for same_id, same, other in found if same == tool and same_id != tool_id]
            self._positions[tool_id] = Position(digest, self._ranks[tool, digest], siblings)
            self._ranks[tool, digest] += 1

    def position(self, tool_id: str) -> Position | None:
        """Return where a request stands among those of this attempt."""
        return self._positions.get(tool_id)

    def taken(self, place: Frame | ActiveCall, tool: str) -> str | None:
        """Return the id of the request that the step here is about, if it is for this tool; what a body asks for is another one."""
        waiting = asked.get()
        if place is not self.frame or not waiting or waiting[0].tool_name != tool:
            return None
        found: str = waiting.pop(0).tool_id
        return found


invocation: ContextVar[Invocation | None] = ContextVar("surefoot_llama_index_invocation", default=None)
asked: ContextVar[list[Any] | None] = ContextVar("surefoot_llama_index_asked", default=None)
"""The request that a step is about, until its tool is called."""
