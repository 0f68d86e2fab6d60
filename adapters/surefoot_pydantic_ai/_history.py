"""Conversations that a run is given, made whole: every call answered with what the ledger knows (AS-32, AS-33)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, RetryPromptPart, ToolReturnPart

from surefoot import Guard
from surefoot_adapters import Frame
from surefoot_journal.history import Asked, Entry, answered, orphans, settle
from surefoot_pydantic_ai import _convert

__all__ = ["unanswered", "whole"]


def unanswered(messages: Sequence[ModelMessage]) -> set[str]:
    """Return the ids of the calls that have no answer."""
    return {call.call_id for call in orphans([entry for message in messages for entry in _entries(message)])}


async def whole(guard: Guard, frame: Frame, messages: Sequence[ModelMessage]) -> Sequence[ModelMessage]:
    """Return a conversation with the answers in it that it lacks; the same object where it lacks none."""
    entries = [entry for message in messages for entry in _entries(message)]
    asked = orphans(entries)
    if not asked:
        return messages
    known = await guard.adrive(settle(guard, frame.run, asked, str))

    def told(call: Asked) -> ModelRequest | None:
        found = known.get(call.call_id)
        return found and ModelRequest([ToolReturnPart(call.tool, found.text, tool_call_id=call.call_id)])

    return [item for item in answered(entries, told) if item is not None]


def _entries(message: ModelMessage) -> list[Entry]:
    """Return what a message says: one item for it, and one without an item for each answer in it."""
    if isinstance(message, ModelResponse):
        known = {call_id: arguments for call_id, _, arguments in _convert.requests(message)}
        asks = tuple(Asked(part.tool_call_id, part.tool_name, known.get(part.tool_call_id)) for part in message.tool_calls)
        return [Entry(message, asks)]
    answers = [part.tool_call_id for part in message.parts if isinstance(part, ToolReturnPart | RetryPromptPart) and _is_answer(part)]
    if not answers:
        return [Entry(message)]
    first, *others = answers
    return [Entry(message, answers=first, speaks=False), *(Entry(None, answers=other, speaks=False) for other in others)]


def _is_answer(part: Any) -> bool:
    return part.tool_name is not None
