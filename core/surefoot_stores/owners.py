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
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from surefoot_stores.forks import lock

__all__ = ["alive", "alone", "end_turn", "register", "take_turn", "write_once"]

_PATIENCE: Final = 60.0
"""Seconds to wait for a process that is opening a store; it takes milliseconds, unless it was stopped."""
_PAUSE: Final = 0.001
_BYTES: Final = 2**60
_TURN: Final = _BYTES + 1
_files: dict[str, tuple[int, str]] = {}
_alone: set[int] = set()
"""Descriptors of the files whose :func:`alone` block this process is in."""
os.register_at_fork(after_in_child=_files.clear)
os.register_at_fork(after_in_child=_alone.clear)


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

    Blocks nest; record locks do not, and the end of an inner one would let others in. Raises :class:`OSError` where the
    file cannot be opened, or another process is in such a block for longer than it can take.
    """
    fd, _ = _registered(path)
    with lock:
        if fd in _alone:
            yield
            return
        _wait_for(fd)
        _alone.add(fd)
        try:
            yield
        finally:
            _alone.discard(fd)
            fcntl.lockf(fd, fcntl.LOCK_UN, 1, _BYTES)


def _wait_for(fd: int) -> None:
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _BYTES)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > give_up:
                raise TimeoutError("another process is opening it and does not go on; find and end that process") from None
            time.sleep(_PAUSE)
        else:
            return


def take_turn(path: str) -> bool:
    """Keep all other processes from writing until :func:`end_turn`, if none is at it; return whether it is our turn.

    SQLite's own lock would do, but for versions before 3.51.3: there a checkpoint beside another process's commit can
    damage the file (its WAL-reset bug). In a turn, both are alone. Call it with :data:`surefoot_stores.forks.lock`
    held. Raises :class:`OSError` where the file cannot be opened.
    """
    try:
        fcntl.lockf(_registered(path)[0], fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _TURN)
    except (BlockingIOError, PermissionError):
        return False
    return True


def end_turn(path: str) -> None:
    """Let another process write."""
    fcntl.lockf(_registered(path)[0], fcntl.LOCK_UN, 1, _TURN)


def write_once(file: Path, text: str) -> None:
    """Write a file that only its owner may read; a process that dies in between leaves none. Raises :class:`OSError`."""
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as out:
        out.write(text)
        out.flush()
        os.fsync(fd)
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)  # so that no power cut takes the name away again
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _registered(path: str) -> tuple[int, str]:
    known = _files.get(path)
    if known is not None:
        return known
    with lock:
        real = os.path.realpath(path)
        if real not in _files:
            os.makedirs(os.path.dirname(real), exist_ok=True)  # noqa: PTH103, PTH120 - strings all along
            fd = os.open(real, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            byte = secrets.randbelow(_BYTES)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)  # taken already: one in 2**60, and an error
            _files[real] = (fd, f"{socket.gethostname()}:{os.getpid()}:{byte}")
        _files[path] = _files[real]
        return _files[real]
