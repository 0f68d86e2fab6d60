"""Names: of classes and functions, as adapters and rules know them, and those in a guard's options that no tool has."""

from __future__ import annotations

import difflib
from typing import Any

from surefoot import Guard

__all__ = ["identity", "kinds_of", "misnamed"]


def kinds_of(target: object) -> set[str]:
    """Return the qualified names of an object's classes: an adapter tells by them what it is for, and imports nothing."""
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(target).__mro__}


def identity(body: Any) -> str:
    """Return the qualified name of a function or a class; of another object that is called, that of its class."""
    where = body if hasattr(body, "__qualname__") else type(body)
    return f"{where.__module__}.{where.__qualname__}"


def misnamed(guard: Guard) -> dict[str, str]:
    """Return names in ``tools=`` and ``reads=`` that are a mistake, with the tool that each looks like, or an empty text."""
    named, known = guard._tools, guard._identities  # noqa: SLF001 - the kit looks at what the guard was given
    missing = sorted(name for name in named if name not in known and not set(name) & set("*?["))
    others = [tool for tool in known if tool not in named]
    close = {name: difflib.get_close_matches(name, others, 1, 0.75) for name in missing}
    return {name: "".join(like) for name, like in close.items() if like or guard.whole}
