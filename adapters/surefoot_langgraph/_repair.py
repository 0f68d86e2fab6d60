"""Conversations in a graph's state, made whole before a new turn: every call answered with what the ledger knows (AS-32, AS-33)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage, ToolMessage, convert_to_messages
from langgraph.channels import BinaryOperatorAggregate
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from surefoot import Guard
from surefoot_adapters import LiveRun, Program
from surefoot_journal.history import Asked, Entry, Settled
from surefoot_journal.history import whole as whole_of

__all__ = ["appends", "whole"]

_MESSAGES: Final = "messages"


def appends(graph: Any) -> bool:
    """Return whether what a graph is given under ``messages`` is added to what it has."""
    return isinstance(graph.channels.get(_MESSAGES), BinaryOperatorAggregate)


def whole(guard: Guard, run: LiveRun, given: Any, before: Sequence[Any]) -> Program[Any]:
    """Return a new turn's input with the answers in it that the conversation lacks; ``before`` are the messages in the state."""
    if not isinstance(given, Mapping):
        return given
    mine = _messages(given.get(_MESSAGES, []))
    if mine is None or not all(isinstance(message, BaseMessage) for message in before):
        return given
    entries = [_entry(message) for message in (*before, *mine)]
    items = yield from whole_of(guard, run, entries, _told, show=_shown)
    if items is None:
        return given
    untouched = all(new is old for new, old in zip(items, before, strict=False))
    return {**given, _MESSAGES: items[len(before) :] if untouched else [RemoveMessage(id=REMOVE_ALL_MESSAGES), *items]}


def _messages(given: Any) -> list[BaseMessage] | None:
    """Return the messages of an input, or ``None`` for what LangChain does not take for messages: it will say so."""
    found = given if isinstance(given, list | tuple) else [given]
    if all(isinstance(message, BaseMessage) for message in found):
        return list(found)
    try:
        return convert_to_messages(found)
    except Exception:  # noqa: BLE001 - the graph raises it where the user expects it
        return None


def _entry(message: BaseMessage) -> Entry:
    if isinstance(message, ToolMessage):
        return Entry(message, answers=message.tool_call_id, speaks=False)
    asks = message.tool_calls if isinstance(message, AIMessage) else []
    return Entry(message, tuple(Asked(call["id"], call["name"], call["args"]) for call in asks if call["id"]))


def _shown(value: Any) -> str:
    """Return what a tool's body returned as its message has it."""
    if isinstance(value, tuple) and len(value) == 2:  # noqa: PLR2004 - content and artifact
        value = value[0]
    if isinstance(value, ToolMessage):
        return str(value.text)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _told(settled: Settled) -> ToolMessage:
    return ToolMessage(
        settled.text,
        name=settled.tool,
        tool_call_id=settled.call_id,
        status="success" if settled.true else "error",
        additional_kwargs={"surefoot": {"state": settled.state}},
    )
