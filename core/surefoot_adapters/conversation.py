"""Conversations with a model: which of its requests is which, and what was said so far."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import Any, Final, Generic, TypeVar

from surefoot import Guard
from surefoot.engine.claims import Position

__all__ = ["Read", "Requests", "Said"]

T = TypeVar("T")

_TEXT: Final = json.JSONEncoder(check_circular=False, default=repr, skipkeys=True).encode


class Requests:
    """The requests of one attempt: its replies in order, the requests of each in order."""

    def __init__(self, guard: Guard) -> None:
        self._digest = guard.codec.digest
        self._replies: list[Callable[[], Iterable[tuple[str, str, Any]]]] = []
        self._positions: dict[str, Position] = {}
        self._ranks: Counter[tuple[str, str]] = Counter()

    def replied(self, requests: Callable[[], Iterable[tuple[str, str, Any]]]) -> None:
        """Note a reply. ``requests`` returns the model's id, tool and arguments of each; it is called when one of them is looked for."""
        self._replies.append(requests)

    def position(self, call_id: str | None) -> Position | None:
        """Return where a request stands, ``None`` for one that is in no reply."""
        while self._replies:
            self._number([(known, tool, self._digest(arguments)) for known, tool, arguments in self._replies.pop(0)()])
        return self._positions.get(call_id or "")

    def _number(self, asked: Sequence[tuple[str, str, str]]) -> None:
        for call_id, tool, known in asked:
            siblings = [other for same_id, same, other in asked if same == tool and same_id != call_id]
            self._positions[call_id] = Position(known, self._ranks[tool, known], siblings)
            self._ranks[tool, known] += 1


class Read(Generic[T]):
    """A conversation, each message of it read once: it is asked about at every turn, and only its end is new."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self._read = read
        self._known: list[tuple[Any, T]] = []

    def all(self, messages: Sequence[Any]) -> list[T]:
        """Return what ``read`` makes of each message."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0][0] is pair[1], zip(self._known, messages, strict=False)))
        self._known[same:] = [(message, self._read(message)) for message in messages[same:]]
        return [found for _, found in self._known]


class Said(Read[str]):
    """What was said so far: a text for each message, equal for equal ones."""

    def __init__(self, shown: Callable[[Any], Any]) -> None:
        """Show each message by ``shown``, which returns data that is equal for equal ones."""
        super().__init__(lambda message: _TEXT(shown(message)))
