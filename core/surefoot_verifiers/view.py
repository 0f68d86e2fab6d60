"""What a verifier reads of an output: its text, its data, whether there is anything in it. No framework is imported."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["data_of", "is_empty", "text_of"]

_FENCED: Final = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*)\n```\s*\Z", re.DOTALL)


def text_of(output: Any) -> str | None:
    """Return the text of an output: a string, a message's content, or that of the newest of its messages; else ``None``.

    An object that has a text called ``raw`` (what a task of CrewAI came to) is that text.
    """
    if isinstance(output, str):
        return output
    last = _last_message(output)
    if last is not None:
        return _content(last["content"] if isinstance(last, Mapping) else last.content)
    raw = getattr(output, "raw", None)
    return raw if isinstance(raw, str) else None


def data_of(output: Any) -> Any:
    """Return an output as plain data: models and dataclasses by field, and what a text says as JSON, fenced or not.

    A text that is no JSON stays a text.
    """
    text = text_of(output)
    if text is not None:
        fenced = _FENCED.match(text)
        try:
            return json.loads(fenced[1] if fenced else text)
        except ValueError:
            return text
    return _plain(output)


def is_empty(output: Any) -> bool:
    """Return whether there is no answer: ``None``, or a text of nothing but space. ``0``, ``False`` and ``[]`` are answers."""
    last = _last_message(output)
    if last is not None and (last.get("tool_calls") if isinstance(last, Mapping) else getattr(last, "tool_calls", None)):
        return False
    text = text_of(output)
    return output is None if text is None else not text.strip()


def _last_message(output: Any) -> Any:
    """Return the newest message of a state that has some, or the message that the output is."""
    if isinstance(output, Mapping) and _is_list(output.get("messages")) and output["messages"]:
        output = output["messages"][-1]
    has = "content" in output and "role" in output if isinstance(output, Mapping) else hasattr(output, "content")
    return output if has else None


def _content(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not _is_list(content):
        return None
    parts = [part if isinstance(part, str) else part.get("text", "") if isinstance(part, Mapping) else "" for part in content]
    return "".join(parts)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
