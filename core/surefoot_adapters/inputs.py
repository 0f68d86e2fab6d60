"""What runs and steps are given: by its digest a resumed run recognises it."""

from __future__ import annotations

import uuid
from typing import Any

from surefoot import NotStorable
from surefoot.codec import Codec

__all__ = ["digest_of", "input_digest", "opaque"]


def digest_of(codec: Codec, value: Any) -> str | None:
    """Return the digest of what a step is given; ``None``: it has none, and cannot be told from another one."""
    try:
        return codec.digest(value)
    except NotStorable:
        return None


def input_digest(codec: Codec, value: Any) -> str:
    """Return the digest of what a run is given; where it has none, one that no other invocation has."""
    return digest_of(codec, value) or opaque()


def opaque() -> str:
    """Return a digest that nothing else has."""
    return f"opaque-{uuid.uuid4().hex}"
