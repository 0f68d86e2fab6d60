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
import threading

__all__ = ["alive", "register"]

_lock = threading.Lock()
_files: dict[tuple[int, str], tuple[int, str]] = {}


def register(path: str) -> str:
    """Return this process's owner id for the lock file at ``path``, taking its byte on first use (anew after fork)."""
    key = (os.getpid(), os.path.realpath(path))
    with _lock:
        if key not in _files:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            while True:
                byte = secrets.randbelow(2**60)
                try:
                    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
                    break
                except OSError:
                    continue
            _files[key] = (fd, f"{socket.gethostname()}:{os.getpid()}:{byte}")
        return _files[key][1]


def alive(path: str, owner: str) -> bool:
    """Return whether the process with that owner id still holds its byte."""
    if owner == register(path):
        return True
    with _lock:
        fd = _files[os.getpid(), os.path.realpath(path)][0]
        byte = int(owner.rpartition(":")[2])
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return True
        fcntl.lockf(fd, fcntl.LOCK_UN, 1, byte)
        return False
