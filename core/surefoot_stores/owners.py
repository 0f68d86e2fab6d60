"""Who is alive: every process that uses a store holds an OS record lock on one byte of a file beside it.

A record lock dies with its process, at once and without a clock, and a stopped process keeps it (AS-93). It is not
inherited over ``fork``, which is why ``fcntl.lockf`` and not ``flock``. One trap decides the shape of this module:
closing *any* descriptor of the file releases *all* of a process's locks on it, so each process opens it once and for good.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from surefoot_stores.forks import lock

__all__ = ["alive", "alone", "register"]

_BYTES: Final = 2**60
_files: dict[str, tuple[int, str]] = {}
os.register_at_fork(after_in_child=_files.clear)


def register(path: str) -> str:
    """Return this process's owner id for the lock file at ``path``, taking its byte on first use (anew after fork).

    Raises :class:`OSError` where the file cannot be opened.
    """
    return _registered(path)[1]


def alive(path: str, owner: str) -> bool:
    """Return whether the process with that owner id still holds its byte; an id that is none is nobody's.

    Raises :class:`OSError` where the file cannot be opened.
    """
    fd, own = _registered(path)
    byte = owner.rpartition(":")[2]
    if owner == own:
        return True
    if not (byte.isascii() and byte.isdigit() and int(byte) < _BYTES) or byte == own.rpartition(":")[2]:
        return False
    with lock:
        try:
            # Shared, so that two processes that ask at the same time do not take each other for the owner.
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, int(byte))
        except (BlockingIOError, PermissionError):
            return True
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, int(byte))
        return False


@contextmanager
def alone(path: str) -> Iterator[None]:
    """Keep every other process that asks for the same out until the block ends; one that dies in it is out.

    Raises :class:`OSError` where the file cannot be opened.
    """
    fd, _ = _registered(path)
    with lock:
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, _BYTES)
        try:
            yield
        finally:
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, _BYTES)


def _registered(path: str) -> tuple[int, str]:
    with lock:
        real = os.path.realpath(path)
        if real not in _files:
            fd = os.open(real, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            byte = secrets.randbelow(_BYTES)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)  # taken already: one in 2**60, and an error
            _files[real] = (fd, f"{socket.gethostname()}:{os.getpid()}:{byte}")
        return _files[real]
