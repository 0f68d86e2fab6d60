"""How much is measured, and the one way to measure: the sides in turn, round after round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = ["Plan", "Side", "interleaved"]

Side: TypeAlias = Callable[[int], float]
"""Does about so many operations and returns what one of them cost, in seconds."""
_WARM_UP = 10
"""One part in so many of a round is done beforehand and not counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line asked for."""

    rounds: int
    calls: int
    """Calls a round with one client; everything else scales with it."""
    folder: Path
    """An empty folder on the disk to measure."""
    tick: Callable[[], None]
    """Called once a round."""
    full: bool = False
    """Grow to the sizes of the design, which takes minutes."""
    fsync_delay_ms: float = 1.0
    """What every fsync of the slow disk waits longer; 0 leaves the slow disk out."""
    peer: Path | None = None
    """Interpreter of the peer's environment."""
    postgres: str | None = None
    """URL of a PostgreSQL database in which a schema may be made."""

    def url(self, name: str) -> str:
        """Return the URL of a store in the folder."""
        return f"sqlite:///{self.folder / name}.db"


def interleaved(plan: Plan, sides: Mapping[str, tuple[Side, int]]) -> dict[str, list[float]]:
    """Return what an operation of each side cost in each round.

    A machine drifts from one second to the next, so the sides take turns: in every round each does its number of
    operations, in the order given.
    """
    for side, number in sides.values():
        side(max(1, number // _WARM_UP))
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(plan.rounds):
        for name, (side, number) in sides.items():
            found[name].append(side(number))
        plan.tick()
    return found
