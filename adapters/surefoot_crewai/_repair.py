"""Conversations that an agent is kicked off with, made whole: every call answered with what the ledger knows (AS-32, AS-33)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from surefoot import Guard
from surefoot_adapters import Frame, here
from surefoot_journal.history import Asked, Entry, answered, orphans, settle

__all__ = ["whole"]


def whole(guard: Guard, messages: Any, tools: Mapping[str, str]) -> Any:
    """Return messages with the answers in them that they lack; the same object where they lack none, and outside of any run.

    ``tools`` has the qualified name of a tool by the name that the model is told.
    """
    place = here()
    if not isinstance(messages, list) or not isinstance(place, Frame) or not all(isinstance(message, dict) for message in messages):
        return messages
    entries = [_entry(message, tools) for message in messages]
    asked = orphans(entries)
    if not asked:
        return messages
    known = guard.drive(settle(guard, place.run, asked, str))

    def told(call: Asked) -> dict[str, Any] | None:
        found = known.get(call.call_id)
        return found and {"role": "tool", "tool_call_id": call.call_id, "name": call.tool, "content": found.text}

    return answered(entries, told)


def _entry(message: dict[str, Any], tools: Mapping[str, str]) -> Entry:
    if message.get("role") == "tool":
        return Entry(message, answers=str(message.get("tool_call_id")), speaks=False)
    return Entry(message, tuple(_asked(call, tools) for call in message.get("tool_calls") or ()))


def _asked(call: Mapping[str, Any], tools: Mapping[str, str]) -> Asked:
    function = call.get("function") or {}
    name, given = str(function.get("name")), function.get("arguments")
    if isinstance(given, str):
        with suppress(ValueError):
            given = json.loads(given)
    return Asked(str(call.get("id")), tools.get(name, name), given)
