"""Is a history of calls with one key that of a thing that happens at most once, one call at a time? Wing and Gong's search, per key.

What may happen to a key, in one order that agrees with the clock: nobody has it; a body takes it, under a token of its own, which
no other body may after that; it lands, and from then on everybody is answered with that token; before it lands, a caller may be told
that it is in doubt. A call that was told a doubt and ran no body says that somebody's intent took the key. What had no answer may
have taken it as well, or not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sweeps.support import Lines

__all__ = ["DOUBT", "Op", "histories", "linearizable"]

DOUBT: Final = "(in doubt)"
_FREE: Final = ("free", "")
_NOBODY: Final = ""
"""The token of an intent whose body never ran."""


@dataclass(slots=True)
class Op:
    """One call."""

    begun: float
    ended: float = math.inf
    token: str | None = None
    """Of the body that it ran."""
    answer: str | None = None
    """The token that it was answered with, or :data:`DOUBT`; ``None``: it had no answer."""


def _after(state: tuple[str, str], op: Op) -> Iterator[tuple[str, str]]:
    """Yield the states that a call may leave, when it comes upon one."""
    how, token = state
    if op.token is not None:
        if how == "free" and op.answer in {None, DOUBT}:
            yield "taken", op.token
        elif op.answer == op.token and state in {_FREE, ("taken", op.token)}:
            yield "landed", op.token
    elif op.answer is None or op.answer == DOUBT:
        if how == "free":
            yield "taken", _NOBODY
        elif how == "taken":
            yield state
    elif token == op.answer and token != _NOBODY:
        yield "landed", token


def linearizable(ops: Sequence[Op]) -> bool:
    """Return whether there is such an order of the calls with one key."""
    must = frozenset(number for number, op in enumerate(ops) if op.token is not None or op.answer is not None)
    seen: set[tuple[frozenset[int], tuple[str, str]]] = set()
    todo = [(frozenset(range(len(ops))), _FREE)]
    while todo:
        left, state = todo.pop()
        if not left & must:
            return True
        if (left, state) in seen:
            continue
        seen.add((left, state))
        first = min(ops[number].ended for number in left)
        for number in left:
            if ops[number].begun <= first:
                todo += [(left - {number}, new) for new in _after(state, ops[number])]
                token = ops[number].token
                if state == _FREE and token is not None:  # its body has begun; others may be told so before it lands
                    todo.append((left, ("taken", token)))
    return False


def histories(path: Path) -> dict[str, list[Op]]:
    """Return what a fleet wrote down, by key. A doubt about another call of the run is no answer about this one, and left out."""
    ops: dict[str, Op] = {}
    keys: dict[str, str] = {}
    ids: dict[str, str] = {}
    doubts: dict[str, str] = {}
    for what, op, text, at in (line for line in Lines(path).all() if len(line) == 4):
        match what:
            case "asked":
                ops[op], keys[op] = Op(float(at)), text
            case "body":
                ops[op].token, ids[keys[op]] = text, at
            case "doubt":
                doubts[op], ops[op].ended = text, float(at)
            case _:
                ops[op].answer, ops[op].ended = text, float(at)
    for op, call_id in doubts.items():
        if ids.get(keys[op]) == call_id:
            ops[op].answer = DOUBT
        elif ops[op].token is None:
            del ops[op]
    found: dict[str, Any] = defaultdict(list)
    for op, one in ops.items():
        found[keys[op]].append(one)
    return dict(found)
