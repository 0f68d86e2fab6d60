"""Conversations that an invocation is given, made whole: every call answered with what the ledger knows (AS-32, AS-33).

The framework drops a session's unanswered calls, so the model would not know what it did, and hands on those of an input list,
which providers refuse. So a session is read, and a list is given, with the answers in it; what is stored stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from surefoot_adapters import Kinds, view
from surefoot_journal.history import Asked, Entry, Settled, orphans
from surefoot_journal.history import whole as whole_of
from surefoot_openai_agents import _convert
from surefoot_openai_agents._invocation import Invocation, invocation

__all__ = ["session", "whole"]

_SPEAKERS = frozenset({"user", "system", "developer"})


def session(given: Any) -> Any:
    """Return a view of a session whose items are whole; of ``None`` itself.

    Raises :class:`~surefoot.AdapterUnavailable` for one that keeps its state in slots.
    """
    return None if given is None else view(given, _SESSIONS)


async def whole(current: Invocation, items: Sequence[Any]) -> Any:
    """Return items of a conversation with the answers in them that it lacks; the same object where it lacks none."""
    if not isinstance(items, list):
        return items
    entries = [_entry(current, item) for item in items]
    if not orphans(entries):
        return items  # before there is a frame, which may not be open yet
    frame = await current.frame()
    return await current.guard.adrive(whole_of(current.guard, frame.run, entries, _output, known=current.settled))


def _output(settled: Settled) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": settled.call_id, "output": settled.text}


def _entry(current: Invocation, item: Any) -> Entry:
    data: Mapping[str, Any] = _convert.as_data(item)
    kind, call_id = data.get("type"), str(data.get("call_id"))
    if kind == "function_call":
        known = current.known.get(str(data.get("name")))
        arguments = _convert.arguments(data.get("arguments"))
        if known is not None:  # hand-offs and other people's tools have no row
            given = None if arguments is None else _convert.final_arguments(known.defaults, arguments)
            return Entry(item, (Asked(call_id, known.name, given),), speaks=False)
        return Entry(item, (Asked(call_id, str(data.get("name")), arguments),), speaks=False)
    if kind == "function_call_output":
        return Entry(item, answers=call_id, speaks=False)
    return Entry(item, speaks=data.get("role") in _SPEAKERS)


def _namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    @functools.wraps(bare.get_items)
    async def get_items(self: Any, *args: Any, **kwargs: Any) -> Any:
        items = await bare.get_items(self, *args, **kwargs)
        current = invocation.get()
        if current is None or current.heard:  # later it looks at what it has written itself
            return items
        current.heard = True
        return await whole(current, items)

    return {"get_items": get_items}


_SESSIONS = Kinds(_namespace)
