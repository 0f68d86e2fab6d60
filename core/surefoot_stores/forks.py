"""One lock for everything in this process that a fork must not cut through.

SQLite keeps tables of its locks in process memory. A child that inherits an open connection inherits these tables
without the locks: whatever it then opens on the same file, even afresh, may lose data. So connections are closed
before a fork and opened again on next use, and nothing is opened or changed while the process forks. It is one lock
for all stores because transactions on two stores can nest in any order.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

__all__ = ["Closable", "close_before_fork", "lock"]


class Closable(Protocol):
    """What is closed before a fork."""

    def close_for_fork(self) -> None:
        """Close what a child must not inherit. Called with :data:`lock` held; raises nothing."""

    def forget_after_fork(self) -> None:
        """Drop, in the child, what belongs to threads that only the parent has. Raises nothing."""


lock: Final = threading.RLock()
_open: Final[weakref.WeakSet[Closable]] = weakref.WeakSet()


def close_before_fork(closable: Closable) -> None:
    """Have ``closable`` closed before every fork of this process, for as long as it exists."""
    with lock:
        _open.add(closable)


def _before() -> None:
    lock.acquire()
    for closable in _open:
        closable.close_for_fork()


def _in_child() -> None:
    for closable in _open:
        closable.forget_after_fork()
    lock.release()


os.register_at_fork(before=_before, after_in_parent=lock.release, after_in_child=_in_child)
