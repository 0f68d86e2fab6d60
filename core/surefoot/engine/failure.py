"""Errors as data: what a tool raised, stored and raised again with the same class, arguments and text (I7)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from surefoot.codec import Codec
from surefoot.errors import NotStorable, ToolFailed

__all__ = ["dump_error", "load_error"]


def _storable(codec: Codec, value: Any) -> Any:
    try:
        return json.loads(codec.dumps(value))
    except NotStorable:
        return None


def dump_error(codec: Codec, redact: Callable[[str], str], exc: BaseException) -> str:
    """Return the JSON text of an exception: its class by name, its message, and what of it can be stored."""
    data = {
        "kind": type(exc).__qualname__,
        "module": type(exc).__module__,
        "message": redact(str(exc)),
        "args": _storable(codec, tuple(exc.args)),
        "attrs": _storable(codec, {k: v for k, v in vars(exc).items() if not k.startswith("__")}),
    }
    return json.dumps(data)


def load_error(codec: Codec, text: str) -> Exception:
    """Return an exception like the one that was stored.

    Its class is looked for among the modules that are already imported; nothing is imported, and no
    ``__init__`` runs (I24). Where it is not found it is a :class:`~surefoot.ToolFailed`.
    """
    data = json.loads(text)
    cls = vars(sys.modules.get(data["module"], object)).get(data["kind"])
    if not (isinstance(cls, type) and issubclass(cls, Exception)) or data["args"] is None:
        return ToolFailed(data["kind"], data["message"])
    args = codec.loads(json.dumps(data["args"]))
    try:
        exc: Exception = cls.__new__(cls, *args)
        exc.args = args
        if data["attrs"] is not None:
            vars(exc).update(codec.loads(json.dumps(data["attrs"])))
        if str(exc) == data["message"]:
            return exc
    except Exception:  # noqa: BLE001, S110 - a foreign class may refuse; the record still tells the story
        pass
    return ToolFailed(data["kind"], data["message"])
