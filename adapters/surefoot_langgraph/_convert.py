"""Framework objects as data: converters for the codec, and digests that do not depend on generated ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from langchain_core import messages
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import BaseModel

from surefoot_adapters import Codec, opaque

__all__ = ["Raised", "digest", "input_digest", "rebound", "register"]

_MESSAGES: Final[tuple[type[BaseMessage], ...]] = (
    messages.AIMessage,
    messages.AIMessageChunk,
    messages.ChatMessage,
    messages.FunctionMessage,
    messages.HumanMessage,
    messages.HumanMessageChunk,
    messages.RemoveMessage,
    messages.SystemMessage,
    messages.ToolMessage,
    messages.ToolMessageChunk,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Raised:
    """A ``Command`` that a node raised to its parent graph: the step's output, raised again on replay."""

    command: Command[Any]


def register(codec: Codec) -> None:
    """Teach the codec LangGraph's and LangChain's own types. A fixed table: nothing else is ever constructed."""
    for kind in _MESSAGES:
        codec.register(f"lc.{kind.__name__}", kind, _dump_model, _loader(kind))
    codec.register("lc.Document", Document, _dump_model, _loader(Document))
    codec.register("lg.Command", Command, _dump_command, lambda data: Command(**data))
    codec.register("lg.Send", Send, lambda send: [send.node, send.arg], lambda data: Send(*data))
    codec.register("lg.Interrupt", Interrupt, lambda i: [i.value, i.id], lambda data: Interrupt(value=data[0], id=data[1]))
    codec.register("lg.Overwrite", Overwrite, lambda over: over.value, Overwrite)
    codec.register("lg.Raised", Raised, lambda raised: raised.command, Raised)


def _loader(kind: type[Any]) -> Callable[[Any], Any]:
    return lambda data: kind(**data)


def _dump_model(model: BaseModel) -> dict[str, Any]:
    return {**vars(model), **(model.model_extra or {})}


def _dump_command(command: Command[Any]) -> dict[str, Any]:
    return {field.name: getattr(command, field.name) for field in dataclasses.fields(command)}


def digest(codec: Codec, value: Any, *, without: frozenset[str] = frozenset()) -> str | None:
    """Return a digest of a step's input, or ``None`` where it cannot be digested.

    Message and call ids are renamed by first appearance; state keys in ``without`` are left out.
    """
    names: dict[str, str] = {}
    if isinstance(value, Mapping) and without:
        value = {key: item for key, item in value.items() if key not in without}
    try:
        return codec.digest(_named(value, names))
    except Exception:  # noqa: BLE001 - a cycle, or whatever a foreign object's attributes raise: it has no digest
        return None


def input_digest(codec: Codec, value: Any) -> str:
    """Return the digest of an invocation's raw input; a fresh one where it cannot be digested."""
    return digest(codec, value) or opaque()


def _name(identifier: Any, names: dict[str, str]) -> Any:
    if not isinstance(identifier, str):
        return identifier
    return names.setdefault(identifier, f"id{len(names)}")


_LEAVES: Final = frozenset({str, int, float, bool, type(None)})


def _named(value: Any, names: dict[str, str]) -> Any:
    kind = type(value)
    if kind in _LEAVES:  # most of a state is these, lists and dicts: whatever else it may be is asked for the rest only
        return value
    if kind is dict or kind is list:
        return _named_items(value, names)
    if isinstance(value, BaseMessage):
        fields = {key: item for key, item in vars(value).items() if key not in {"id", "tool_call_id"}}
        ids = [_name(getattr(value, "tool_call_id", None), names)]
        return [kind.__name__, ids, _named_items(fields, names)]
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        fields = vars(value) if isinstance(value, BaseModel) else {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return [kind.__qualname__, _named_items(dict(fields), names)]
    if isinstance(value, Send):
        return ["Send", value.node, _named(value.arg, names)]
    return _named_items(value, names) if isinstance(value, (Mapping, list, tuple)) else value


def _named_items(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, (list, tuple)):
        return [item if type(item) in _LEAVES else _named(item, names) for item in value]
    renamed = value.get("type") == "tool_call" and "id" in value
    return {
        key: _name(item, names) if renamed and key == "id" else item if type(item) in _LEAVES else _named(item, names)
        for key, item in value.items()
    }


def rebound(value: Any, old: str | None, new: str | None) -> Any:
    """Return a replayed tool result with the recorded call id replaced by the current one, wherever it carries one."""
    if old is None or new is None or old == new:
        return value
    if isinstance(value, messages.ToolMessage):
        return value.model_copy(update={"tool_call_id": new}) if value.tool_call_id == old else value
    if isinstance(value, Command):
        return dataclasses.replace(value, update=rebound(value.update, old, new))
    if isinstance(value, dict):
        return {key: rebound(item, old, new) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(rebound(item, old, new) for item in value)
    return value
