"""Conversations that a model is given, made whole: every request answered with what the ledger knows (AS-32, AS-33)."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

from typing import Any

from semantic_kernel.contents import ChatHistory, ChatMessageContent, FunctionResultContent
from semantic_kernel.contents.utils.author_role import AuthorRole

from surefoot_journal.history import Asked, Entry, Settled, answering
from surefoot_journal.history import whole as whole_of
from surefoot_semantic_kernel import _convert
from surefoot_semantic_kernel._invocation import Invocation

__all__ = ["whole"]


async def whole(current: Invocation, history: ChatHistory) -> ChatHistory:
    """Return a conversation with the answers in it that it lacks; the same object where it lacks none."""
    if not current.lacks:
        return history
    entries = [entry for message in history.messages for entry in _entries(current, message)]
    found = await current.guard.adrive(whole_of(current.guard, current.frame.run, entries, _told, known=current.settled))
    return history if found is None else ChatHistory(messages=found)


def _told(settled: Settled) -> ChatMessageContent:
    plugin, _, name = settled.tool.rpartition("-")
    made = FunctionResultContent(id=settled.call_id, plugin_name=plugin or None, function_name=name, result=settled.text)
    return ChatMessageContent(role=AuthorRole.TOOL, items=[made])


def _entries(current: Invocation, message: ChatMessageContent) -> list[Entry]:
    if message.role == AuthorRole.ASSISTANT:
        return [Entry(message, tuple(_asked(current, content) for content in _convert.requests(message)))]
    return answering(message, [item.id for item in message.items if isinstance(item, FunctionResultContent)])


def _asked(current: Invocation, content: Any) -> Asked:
    metadata, arguments = current.functions.get(_convert.name_of(content)), _convert.arguments(content)
    final = _convert.final_arguments(metadata, arguments) if metadata is not None and arguments is not None else arguments
    return Asked(content.id or "", _convert.name_of(content), final)
