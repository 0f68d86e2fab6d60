"""The table of checks: what is standard, at which level, for which capability, at which fault points.

A check is a plain function of a laboratory. It is in the table or it is not run; harnesses are objects that checks use, so
that nothing of a check can be overridden by subclassing.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

__all__ = [
    "FACES",
    "LEVELS",
    "NOTHING_TO_VARY",
    "Broken",
    "Cell",
    "Check",
    "Fault",
    "Kind",
    "NotRun",
    "Skip",
    "cells",
    "check",
    "equal",
    "expect",
    "judged",
    "standard",
    "table",
]

Kind: TypeAlias = Literal["adapter", "store", "verifier"]
Level: TypeAlias = Literal["harness", "L1", "L2", "L3", "L4"]

FACES: Final = ("sync", "async", "stream", "astream")
"""Faces of a framework, and what each needs."""
NEEDS: Final = {"sync": "", "async": "has_async", "stream": "has_streaming", "astream": "has_async_streaming"}
LEVELS: Final = {
    "L1": "contract: nothing fails, or fails in the ordinary way",
    "L2": "crash: killed at every point, resumed in another process",
    "L3": "concurrent: processes and threads that meet, cancellation, late landing",
    "L4": "multi-host: owners on several machines",
}


NOTHING_TO_VARY: Final = "-"
"""Variant of the one cell of a check for which the harness names no variants: it is skipped, and stands on the certificate."""


class Broken(AssertionError):
    """The implementation under test does not do what the check's sentence says."""


class Fault(Exception):
    """The harness is at fault, or the suite, not the implementation."""


class NotRun(Exception):
    """The check cannot be run here, whatever the implementation is; the message is the reason."""


class Skip(Exception):
    """The check cannot be run on this implementation; the message is the reason."""


def expect(condition: object, sentence: str) -> None:
    """Raise :class:`Broken` with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise Broken(sentence)


def judged(harness: object, ended: Any) -> Any:
    """Return how a child ended. Raises :class:`Fault` when what it raised comes from the harness's own file."""
    if ended.where and ended.where == inspect.getsourcefile(type(harness)):
        raise Fault(f"the harness raised {ended.error}: {ended.message}\n{ended.trace}")
    return ended


def equal(what: str, found: Any, wanted: Any) -> None:
    """Raise :class:`Broken` unless ``found`` is ``wanted``."""
    if found != wanted:
        raise Broken(f"{what}: expected {wanted!r}, found {found!r}")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    name: str
    kind: Kind
    level: Level
    capability: str
    """Property of the harness that must be true; ``""``: always."""
    points: Sequence[str]
    """Fault points, each a cell of its own; ``("",)``: none."""
    faces: Sequence[str]
    variants: Sequence[str] | Callable[[Any], Sequence[str]]
    run: Callable[[Any], None]
    """Gets the laboratory; raises :class:`Broken`."""

    @property
    def sentence(self) -> str:
        """What must hold: the first line of the function's docstring."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Cell:
    """One check on one face, at one fault point, in one variant."""

    check: Check
    face: str
    point: str
    variant: str

    @property
    def name(self) -> str:
        """The cell's name, stable over versions."""
        inside = ", ".join(part for part in (self.face, self.point, self.variant) if part)
        return f"{self.check.name}[{inside}]" if inside else self.check.name


_TABLE: dict[str, Check] = {}


def check(
    kind: Kind,
    level: Level,
    *,
    capability: str = "",
    points: Sequence[str] = ("",),
    faces: Sequence[str] = ("",),
    variants: Sequence[str] | Callable[[Any], Sequence[str]] = ("",),
) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Put the decorated function into the table under its name."""

    def register(run: Callable[[Any], None]) -> Callable[[Any], None]:
        if run.__name__ in _TABLE:
            raise ValueError(f"two checks are called {run.__name__}: rename one")
        _TABLE[run.__name__] = Check(run.__name__, kind, level, capability, points, faces, variants, run)
        return run

    return register


def table(kind: Kind) -> list[Check]:
    """Return the checks for a kind of implementation, in the order of their levels."""
    import surefoot_conformance.checks  # noqa: F401 - fills the table

    order = ["harness", *LEVELS]
    return sorted((entry for entry in _TABLE.values() if entry.kind == kind), key=lambda entry: order.index(entry.level))


def cells(kind: Kind, harness: Any) -> Iterator[Cell]:
    """Yield every cell of the table for a harness, the skipped ones included."""
    for entry in table(kind):
        variants = (entry.variants(harness) or [NOTHING_TO_VARY]) if callable(entry.variants) else entry.variants
        for face in entry.faces:
            for point in entry.points:
                for variant in variants:
                    yield Cell(entry, face, point, variant)


def standard(kind: Kind) -> dict[str, str]:
    """Return the table as it is now: each check's name, with its level and the digest of its code and cells."""
    return {entry.name: f"{entry.level} {_digest(entry)}" for entry in table(kind)}


def _digest(entry: Check) -> str:
    variants = inspect.getsource(entry.variants) if callable(entry.variants) else tuple(entry.variants)
    cells_ = f"{entry.capability} {tuple(entry.points)} {tuple(entry.faces)} {variants}"
    return hashlib.sha256((cells_ + inspect.getsource(entry.run)).encode()).hexdigest()[:16]
