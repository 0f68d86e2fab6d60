"""Answers of tools: what a framework's tool returned, as something that can always be stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from surefoot import NotStorable
from surefoot.codec import Codec

__all__ = ["Answer", "returned", "storable"]

_PLAIN = frozenset({str, int, float, bool, type(None)})


class Answer:
    """What a tool returned, where it is no plain data. An adapter registers a subclass of its own, which says how that is stored."""

    def __init__(self, value: Any) -> None:
        self.value = value


def storable(codec: Codec, value: Any, kind: Callable[[Any], Answer]) -> Any:
    """Return a tool's result as it is where it can be stored so, else as an answer of this kind."""
    if type(value) in _PLAIN:
        return value
    try:
        codec.dumps(value)
    except NotStorable:
        return kind(value)
    return value


def returned(value: Any) -> Any:
    """Return what the tool returned, now or before a crash."""
    return value.value if isinstance(value, Answer) else value
