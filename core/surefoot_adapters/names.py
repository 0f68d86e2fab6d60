"""Names in a guard's options that no tool has."""

from __future__ import annotations

import difflib

from surefoot import Guard

__all__ = ["misnamed"]


def misnamed(guard: Guard) -> dict[str, str]:
    """Return names in ``tools=`` and ``reads=`` that are a mistake, with the tool that each looks like, or an empty text."""
    named, known = guard._tools, guard._identities  # noqa: SLF001 - the kit looks at what the guard was given
    missing = sorted(name for name in named if name not in known and not set(name) & set("*?["))
    others = [tool for tool in known if tool not in named]
    close = {name: difflib.get_close_matches(name, others, 1, 0.75) for name in missing}
    return {name: "".join(like) for name, like in close.items() if like or guard.whole}
