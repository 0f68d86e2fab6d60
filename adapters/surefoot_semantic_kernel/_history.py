"""Conversations that a model is given, made whole: every request answered with what the ledger knows (AS-32, AS-33)."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

from typing import Any

from semantic_kernel.contents import ChatHistory, ChatMessageContent, FunctionResultContent
from semantic_kernel.contents.utils.author_role import AuthorRole

from surefoot_journal.history import Asked, Entry, answered, orphans, settle
from surefoot_semantic_kernel import _convert
from surefoot_semantic_kernel._invocation import Invocation

__all__ = ["whole"]


async def whole(current: Invocation, history: ChatHistory) -> ChatHistory:
    """Return a conversation with the answers in it that it lacks; the same object where it lacks none."""
    if not current.lacks:
        return history
    entries = [entry for message in history.messages for entry in _entries(current, message)]
    known = current.settled
    if new := [call for call in orphans(entries) if call.call_id not in known]:
        known.update(await current.guard.adrive(settle(current.guard, current.frame.run, new, str)))

    def told(call: Asked) -> ChatMessageContent | None:
        found = known.get(call.call_id)
        plugin, _, name = call.tool.rpartition("-")
        made = FunctionResultContent(id=call.call_id, plugin_name=plugin or None, function_name=name, result=found.text) if found else None
        return ChatMessageContent(role=AuthorRole.TOOL, items=[made]) if made else None

    return ChatHistory(messages=[item for item in answered(entries, told) if item is not None])


def _entries(current: Invocation, message: ChatMessageContent) -> list[Entry]:
    """Return what a message says: one item for it, and one without an item for each further answer in it."""
    if message.role == AuthorRole.ASSISTANT:
        return [Entry(message, tuple(_asked(current, content) for content in _convert.requests(message)))]
    answers = [item.id for item in message.items if isinstance(item, FunctionResultContent)]
    if not answers:
        return [Entry(message)]
    first, *others = answers
    return [Entry(message, answers=first, speaks=False), *(Entry(None, answers=other, speaks=False) for other in others)]


def _asked(current: Invocation, content: Any) -> Asked:
    metadata, arguments = current.functions.get(_convert.name_of(content)), _convert.arguments(content)
    final = _convert.final_arguments(metadata, arguments) if metadata is not None and arguments is not None else arguments
    return Asked(content.id or "", _convert.name_of(content), final)
