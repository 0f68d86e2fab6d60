"""Ledger and checkpoints in two stores: the checkpoint is never ahead of the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from surefoot.contracts.store import Store, Transaction

__all__ = ["SplitStore"]


class SplitStore(Store):
    """A :class:`~surefoot.Store` made of two: ``ledger`` keeps everything, ``checkpoints`` only the checkpoints.

    A crash between the two commits leaves a ledger without the checkpoint: the step runs again and its calls replay.
    """

    def __init__(self, ledger: Store, checkpoints: Store) -> None:
        self.url = f"{ledger.url} + {checkpoints.url}"
        self._ledger = ledger
        self._checkpoints = checkpoints

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Open both; the ledger, being the inner one, commits first."""
        with self._checkpoints.transaction(write=write) as kept, self._ledger.transaction(write=write) as tx:
            both: Any = SimpleNamespace(**{n: getattr(kept if n == "checkpoints" else tx, n) for n in Transaction.__annotations__})
            yield both

    def digest_key(self) -> bytes:
        """Return the ledger's key."""
        return self._ledger.digest_key()

    def owner(self) -> str:
        """Return the owner id in the ledger's store."""
        return self._ledger.owner()

    def alive(self, owner: str) -> bool:
        """Return whether that owner of the ledger's store may still act."""
        return self._ledger.alive(owner)

    def close(self) -> None:
        """Close both."""
        self._ledger.close()
        self._checkpoints.close()
