"""Redacted values that nobody here knows any more: what a person types about a call is searched for them all the same.

A card keeps the length and the keyed digest of each value that its arguments hide. Whoever decides does so in another process, which has
neither the values nor what the tool was called with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from surefoot import UsageError
from surefoot_adapters import HIDDEN, hidden

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.codec import Codec
    from surefoot.engine.claims import Claim

__all__ = ["Marks", "kept", "marks", "without"]

Marks = Mapping[str, Any]
"""``fields``: name of a redacted argument → digest of its value. ``texts``: [length, digest] of each text in them."""
_MOST: Final = 200_000
"""Digests that one text is worth."""


def marks(claim: Claim) -> Marks:
    """Return what a call's redacted arguments are recognised by."""
    guard, arguments = claim.guard, claim.request.arguments
    fields = {name: guard.codec.digest(arguments[name]) for name in claim.rule.redact if name in arguments}
    return {"fields": fields, "texts": [[len(text), guard.codec.digest(text)] for text in hidden(guard, claim.tool, arguments)]}


def without(codec: Codec, text: str, texts: Sequence[Sequence[Any]]) -> str:
    """Return ``text`` without the values of these marks; nothing of one that is too long to be searched."""
    if len(text) * len(texts) > _MOST:
        return HIDDEN
    for length, digest in texts:  # the longest first
        at = 0
        while at + length <= len(text):
            if codec.digest(text[at : at + length]) == digest:
                text = text[:at] + HIDDEN + text[at + length :]
                at += len(HIDDEN)
            else:
                at += 1
    return text


def kept(guard: Guard, known: Marks, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return arguments that a person puts in the place of others as they may be kept.

    Raises :class:`~surefoot.UsageError` for another value of a redacted one: it could neither be kept nor told to who asks.
    """
    fields, texts = known.get("fields", {}), known.get("texts", ())
    found = {}
    for name, value in arguments.items():
        if name in fields and guard.codec.digest(value) != fields[name]:
            raise UsageError(f"{name} is redacted, and this is not the value that it has; deny the call, and say why in the comment")
        found[name] = HIDDEN if name in fields else _each(value, lambda text: without(guard.codec, text, texts))
    return found


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Return a storable value with all its texts changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_each(key, change): _each(item, change) for key, item in value.items()}
    return [_each(item, change) for item in value] if isinstance(value, list | tuple) else value
