"""Conversations that a run is given, made whole: every call answered with what the ledger knows (AS-32, AS-33)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, RetryPromptPart, ToolReturnPart

from surefoot import Guard
from surefoot_adapters import Frame
from surefoot_journal.history import Asked, Entry, Settled, answering, orphans
from surefoot_journal.history import whole as whole_of
from surefoot_pydantic_ai import _convert

__all__ = ["unanswered", "whole"]


def unanswered(messages: Sequence[ModelMessage]) -> set[str]:
    """Return the ids of the calls that have no answer."""
    return {call.call_id for call in orphans([entry for message in messages for entry in _entries(message)])}


async def whole(guard: Guard, frame: Frame, messages: Sequence[ModelMessage]) -> Sequence[ModelMessage]:
    """Return a conversation with the answers in it that it lacks; the same object where it lacks none."""
    entries = [entry for message in messages for entry in _entries(message)]
    return await guard.adrive(whole_of(guard, frame.run, entries, _told)) or messages


def _told(settled: Settled) -> ModelRequest:
    return ModelRequest([ToolReturnPart(settled.tool, settled.text, tool_call_id=settled.call_id)])


def _entries(message: ModelMessage) -> list[Entry]:
    if isinstance(message, ModelResponse):
        known = {call_id: arguments for call_id, _, arguments in _convert.requests(message)}
        asks = tuple(Asked(part.tool_call_id, part.tool_name, known.get(part.tool_call_id)) for part in message.tool_calls)
        return [Entry(message, asks)]
    answers = [part for part in message.parts if isinstance(part, ToolReturnPart | RetryPromptPart) and _is_answer(part)]
    return answering(message, [part.tool_call_id for part in answers])


def _is_answer(part: Any) -> bool:
    return part.tool_name is not None
