"""The checkpoint contract: committed, verified outputs of steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from surefoot.types import Checkpoint

__all__ = ["CheckpointStore"]


class CheckpointStore(ABC):
    """The checkpoints table, seen from inside one transaction. Append-only."""

    @abstractmethod
    def append(self, checkpoint: Checkpoint) -> Checkpoint:
        """Add a checkpoint; return it with its ``seq``, which counts from 1 in each run."""

    @abstractmethod
    def at(self, run_id: str, path: str) -> Sequence[Checkpoint]:
        """Return all checkpoints of exactly this step path (every branch), oldest first."""

    @abstractmethod
    def list(self, run_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Checkpoint]:
        """Return the run's checkpoints with ``seq`` above ``after``, oldest first, at most ``limit``."""
