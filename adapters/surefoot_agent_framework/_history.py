"""Conversations that a model is given, made whole: every call answered with what the ledger knows (AS-32, AS-33)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from agent_framework import Content, Message

from surefoot import Guard
from surefoot_adapters import Frame
from surefoot_agent_framework import _convert
from surefoot_journal.history import Asked, Entry, answered, orphans, settle

__all__ = ["Conversation"]


class Conversation:
    """What was said so far, read once: a model is asked about all of it at every turn, and only its end is new."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, list[Any], list[Entry]]] = []

    def shown(self, messages: Sequence[Message]) -> list[list[Any]]:
        """Return what each message says, as plain data."""
        self._read(messages)
        return [shown for _, shown, _ in self._known]

    async def whole(self, guard: Guard, frame: Frame, messages: Sequence[Message]) -> Sequence[Message]:
        """Return a conversation with the answers in it that it lacks; the same object where it lacks none."""
        self._read(messages)
        entries = [entry for _, _, found in self._known for entry in found]
        asked = orphans(entries)
        if not asked:
            return messages
        known = await guard.adrive(settle(guard, frame.run, asked, str))

        def told(call: Asked) -> Message | None:
            found = known.get(call.call_id)
            return found and Message("tool", [Content.from_function_result(call_id=call.call_id, result=found.text)])

        return [item for item in answered(entries, told) if item is not None]

    def _read(self, messages: Sequence[Message]) -> None:
        same = sum(1 for _ in takewhile(lambda pair: pair[0][0] is pair[1], zip(self._known, messages, strict=False)))
        self._known[same:] = [(message, _convert.shown(message), _entries(message)) for message in messages[same:]]


def _entries(message: Message) -> list[Entry]:
    """Return what a message says: one item for it, and one without an item for each further answer in it."""
    if asked := _convert.requests([message]):
        return [Entry(message, tuple(Asked(one.call_id or "", one.name or "", _convert.arguments(one)) for one in asked))]
    answers = [content.call_id for content in message.contents if content.type == "function_result"]
    if not answers:
        return [Entry(message)]
    first, *others = answers
    return [Entry(message, answers=first, speaks=False), *(Entry(None, answers=other, speaks=False) for other in others)]
