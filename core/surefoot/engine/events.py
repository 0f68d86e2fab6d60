"""The hash chain of a run's event log."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable

from surefoot.types import Event

__all__ = ["chained", "link", "payload_digest", "verify"]

_encode = json.JSONEncoder(sort_keys=True).encode


def payload_digest(salt: str, data: str) -> str:
    """Return the salted SHA-256 (hex) of an event's data as JSON text: what the chain commits to, so that data can be erased later."""
    return hashlib.sha256(f"{salt}{data}".encode()).hexdigest()


def chained(event: Event, seq: int, previous: str) -> tuple[Event, str]:
    """Return ``event`` as number ``seq`` of its run's log, salted and linked to what is before it, and its data as JSON text."""
    done = event.changed(seq=seq, monotonic=event.monotonic or time.monotonic(), salt=os.urandom(8).hex())
    text = _encode(event.data)
    done.__dict__["link"] = link(previous, done, text)  # the one field that depends on all the others
    return done, text


def link(previous: str, event: Event, text: str) -> str:
    """Return the SHA-256 (hex) that chains ``event``, whose data is ``text``, to the link before it (``""`` for the first)."""
    names = ascii((event.run_id, f"{event.type}", event.step, event.call_id))  # quoted, and the same in every version of Unicode
    numbers = f"{event.seq} {float(event.at)} {float(event.monotonic)} {event.schema}"  # a database gives 1 back as 1.0
    return hashlib.sha256(f"{previous} {names} {numbers} {payload_digest(event.salt, text)}".encode()).hexdigest()


def verify(events: Iterable[Event], previous: str = "", last: int = 0) -> int | None:
    """Return the ``seq`` of the first event that does not fit the chain, or ``None`` when all do (I21).

    ``previous`` and ``last`` are link and ``seq`` of the event before them, where they are not the first.
    """
    for event in events:
        if event.seq != last + 1 or event.link != link(previous, event, _encode(event.data)):
            return event.seq
        previous, last = event.link, event.seq
    return None
