"""Conversations that a model is given, made whole: every call answered with what the ledger knows (AS-32, AS-33)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autogen_core.models import AssistantMessage, FunctionExecutionResult, FunctionExecutionResultMessage

from surefoot import Guard
from surefoot_adapters import Frame, Read
from surefoot_autogen import _convert
from surefoot_journal.history import Asked, Entry, Settled, answering, whole

__all__ = ["Conversation"]


class Conversation:
    """What was said so far, read once: a model is asked about all of it at every turn, and only its end is new."""

    def __init__(self) -> None:
        self._read = Read(lambda message: (_convert.shown(message), _entries(message)))

    def shown(self, messages: Sequence[Any]) -> list[list[Any]]:
        """Return what each message says, as plain data."""
        return [shown for shown, _ in self._read.all(messages)]

    async def whole(self, guard: Guard, frame: Frame, messages: Sequence[Any]) -> Sequence[Any]:
        """Return a conversation with the answers in it that it lacks; the same object where it lacks none."""
        entries = [entry for _, found in self._read.all(messages) for entry in found]
        return await guard.adrive(whole(guard, frame.run, entries, _told)) or messages


def _told(settled: Settled) -> FunctionExecutionResultMessage:
    result = FunctionExecutionResult(content=settled.text, call_id=settled.call_id, name=settled.tool, is_error=not settled.true)
    return FunctionExecutionResultMessage(content=[result])


def _entries(message: Any) -> list[Entry]:
    if isinstance(message, AssistantMessage) and not isinstance(message.content, str):
        return [Entry(message, tuple(Asked(call.id, call.name, _convert.given(call.arguments)) for call in message.content))]
    results = message.content if isinstance(message, FunctionExecutionResultMessage) else []
    return answering(message, [result.call_id for result in results])
