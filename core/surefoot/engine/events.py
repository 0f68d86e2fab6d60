"""The hash chain of a run's event log."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from surefoot.types import Event

__all__ = ["chained", "link", "payload_digest", "verify"]

_encode = json.JSONEncoder(sort_keys=True).encode


def payload_digest(salt: str, data: Mapping[str, Any]) -> str:
    """Return the salted SHA-256 (hex) of an event's data: what the chain commits to, so that data can be erased later."""
    return hashlib.sha256(f"{salt}{_encode(data)}".encode()).hexdigest()


def chained(event: Event, seq: int, previous: str) -> Event:
    """Return ``event`` as number ``seq`` of its run's log, salted and linked to what is before it."""
    done = Event(
        event.run_id,
        event.type,
        event.at,
        event.data,
        event.step,
        event.call_id,
        seq,
        event.monotonic or time.monotonic(),
        secrets.token_hex(8),
        schema=event.schema,
    )
    object.__setattr__(done, "link", link(previous, done))  # the one field that depends on all the others
    return done


def link(previous: str, event: Event) -> str:
    """Return the SHA-256 (hex) that chains ``event`` to the link before it (``""`` for the first)."""
    at, monotonic = float(event.at), float(event.monotonic)  # a database gives 1 back as 1.0
    envelope = [previous, event.run_id, event.seq, event.type, at, monotonic, event.step, event.call_id, event.schema]
    return hashlib.sha256(_encode([*envelope, payload_digest(event.salt, event.data)]).encode()).hexdigest()


def verify(events: Iterable[Event], previous: str = "") -> int | None:
    """Return the ``seq`` of the first event that does not fit the chain, or ``None`` when all do (I21)."""
    last = None
    for event in events:
        if (last is not None and event.seq != last + 1) or event.link != link(previous, event):
            return event.seq
        previous, last = event.link, event.seq
    return None
