"""What ``redact=`` keeps out of a call's record: the values of its redacted arguments, wherever they stand.

A tool may put such a value into what it returns or raises, a gate into why it says no. While the call is under way, in its own context,
each of these values is redacted as a registered secret is: a result with one in it is withheld, never stored in part (AS-68).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

from surefoot import Guard, hookimpl
from surefoot.engine.claims import Request
from surefoot.plugins import Plugins

__all__ = ["HIDDEN", "hidden", "hiding"]

HIDDEN: Final = "[redacted]"
"""What stands in the place of such a value."""
_NAME: Final = "redacted arguments"
_SHORTEST: Final = 6
"""Characters; what is shorter, ordinary text would contain."""
_DEPTH: Final = 200
"""Levels; nothing deeper can be stored."""
_lock: Final = threading.Lock()
_values: ContextVar[tuple[str, ...]] = ContextVar("surefoot_hidden", default=())


class _Hider:
    @hookimpl
    def surefoot_redact(self, text: str) -> str:
        """Return ``text`` without the values that the calls around this code hide."""
        for value in _values.get():
            text = text.replace(value, HIDDEN)
        return text


_hider: Final = _Hider()


def hidden(guard: Guard, tool: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the texts, of 6 characters and more, in the arguments of a call that are to be redacted; the longest first."""
    fields = guard.rule(tool).redact
    texts = {text for name in fields if name in arguments for text in _texts(arguments[name], 0)} if fields else set()
    return sorted((text for text in texts if len(text) >= _SHORTEST), key=len, reverse=True)


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Yield the texts of a value, numbers and the like as they are written."""
    inside = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        for item in inside if depth < _DEPTH else ():
            yield from _texts(item, depth + 1)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


@contextmanager
def hiding(guard: Guard, request: Request) -> Iterator[None]:
    """Keep the values of a call's redacted arguments out of whatever is written in this block, and in what it starts."""
    texts = hidden(guard, request.tool, request.arguments)
    if not texts:
        yield
        return
    _install(guard.plugins)
    spelled = {spelling for text in texts for spelling in (text, json.dumps(text)[1:-1], repr(text)[1:-1])}
    token = _values.set((*sorted(spelled, key=len, reverse=True), *_values.get()))
    try:
        yield
    finally:
        with suppress(ValueError):  # a program that is closed elsewhere ends in whatever context that happens
            _values.reset(token)


def _install(plugins: Plugins) -> None:
    """Have what is written under these plugins looked through; without a redacted argument nothing is."""
    with _lock:
        if _NAME not in plugins.names():
            plugins.register(_hider, _NAME)
