"""A watcher between SQLite and its files: every write, truncate, sync, delete and lock of this process passes it.

It replaces, inside the running library, what the default VFS opens files with, so that the store is tested as it is
shipped. The watcher may record, fail or kill. SQLite's own error mapping above it is the real one; what the kernel
does below it (errno) is swept with strace.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["BUSY", "FULL", "IOERR_FSYNC", "IOERR_WRITE", "Op", "available", "install", "watching"]

BUSY: Final = 5
FULL: Final = 13
IOERR_WRITE: Final = 10 | 3 << 8
IOERR_FSYNC: Final = 10 | 4 << 8
_WRITER: Final = (0, 2 | 8)
"""Which lock of the log, and how: exclusively locked. The others are retried inside SQLite, and unlocking never fails."""

_int, _ptr, _long = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
_NAMES: Final = [
    *("xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock", "xCheckReservedLock", "xFileControl"),
    *("xSectorSize", "xDeviceCharacteristics", "xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch"),
]


class _Methods(ctypes.Structure):
    _fields_ = [("iVersion", _int), *((name, _ptr) for name in _NAMES)]


class _File(ctypes.Structure):
    _fields_ = [("methods", ctypes.POINTER(_Methods))]


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", _int), ("szOsFile", _int), ("mxPathname", _int), ("pNext", _ptr), ("zName", ctypes.c_char_p),
        ("pAppData", _ptr), ("xOpen", _ptr), ("xDelete", _ptr),
    ]  # fmt: skip


# A name is passed on as the pointer that it came as: SQLite keeps it, and a copy of ours would not outlive the call.
_OPEN = ctypes.CFUNCTYPE(_int, _ptr, _ptr, ctypes.POINTER(_File), _int, _ptr)
_DELETE = ctypes.CFUNCTYPE(_int, _ptr, _ptr, _int)
_WRITE = ctypes.CFUNCTYPE(_int, _ptr, _ptr, _int, _long)
_TRUNCATE = ctypes.CFUNCTYPE(_int, _ptr, _long)
_LEVEL = ctypes.CFUNCTYPE(_int, _ptr, _int)
_SHM = ctypes.CFUNCTYPE(_int, _ptr, _int, _int, _int)


@dataclass(frozen=True, slots=True)
class Op:
    """One operation on a file."""

    what: str
    """``write``, ``truncate``, ``sync``, ``delete``, ``lock`` (of the file) or ``writelock`` (of the log)."""
    path: str
    offset: int = 0
    """Where it writes, or the length it truncates to."""
    data: bytes = b""

    @property
    def place(self) -> str:
        """The operation without its data: ``write -wal``."""
        return f"{self.what} {os.path.basename(self.path)}"  # noqa: PTH119 - runs thousands of times


Watcher = Callable[[Op, Callable[[], int]], int]
"""Gets the operation and what performs it; returns SQLite's result code."""

_watcher: list[Watcher | None] = [None]
_paths: dict[int, str] = {}
_patched: dict[int, Any] = {}
_kept: list[Any] = []


def available() -> bool:
    """Return whether this interpreter's SQLite can be reached: one linked as a library can."""
    return hasattr(_library(), "sqlite3_vfs_find")


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(_sqlite3.__file__)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Have ``watcher`` see every operation in the block."""
    install()
    before, _watcher[0] = _watcher[0], watcher
    try:
        yield
    finally:
        _watcher[0] = before


def install() -> None:
    """Put the watcher's place between SQLite and its files; what is open already is not watched."""
    if _kept:
        return
    find = _library().sqlite3_vfs_find
    find.restype = ctypes.POINTER(_Vfs)
    vfs = find(None).contents
    real_open, real_delete = _OPEN(vfs.xOpen), _DELETE(vfs.xDelete)

    def xopen(pvfs: int, name: int | None, file: Any, flags: int, out: int | None) -> int:
        code: int = real_open(pvfs, name, file, flags, out)
        if code == 0 and name is not None and file.contents.methods:
            _paths[ctypes.addressof(file.contents)] = ctypes.string_at(name).decode()
            file.contents.methods = ctypes.pointer(_methods(file.contents.methods.contents))
        return code

    def xdelete(pvfs: int, name: int, sync: int) -> int:
        return _pass(Op("delete", ctypes.string_at(name).decode()), lambda: real_delete(pvfs, name, sync))

    _kept.extend((_OPEN(xopen), _DELETE(xdelete)))
    vfs.xOpen, vfs.xDelete = (ctypes.cast(function, _ptr).value for function in _kept[:2])


def _pass(op: Op, perform: Callable[[], int]) -> int:
    watcher = _watcher[0]
    return perform() if watcher is None else watcher(op, perform)


def _methods(real: _Methods) -> _Methods:
    key = ctypes.addressof(real)
    if key not in _patched:
        _patched[key] = _patch(real)
        _patched[ctypes.addressof(_patched[key])] = _patched[key]
    return _patched[key]  # type: ignore[no-any-return]


def _patch(real: _Methods) -> _Methods:
    copy = _Methods.from_buffer_copy(real)
    write, truncate, sync = _WRITE(real.xWrite), _TRUNCATE(real.xTruncate), _LEVEL(real.xSync)
    lock, shm = _LEVEL(real.xLock), _SHM(real.xShmLock)

    def xwrite(file: int, data: int, size: int, offset: int) -> int:
        if _watcher[0] is None:
            return write(file, data, size, offset)  # type: ignore[no-any-return]
        op = Op("write", _paths[file], offset, ctypes.string_at(data, size))
        return _pass(op, lambda: write(file, data, size, offset))

    def xshm(file: int, at: int, count: int, flags: int) -> int:
        if (at, flags) != _WRITER:
            return shm(file, at, count, flags)  # type: ignore[no-any-return]
        return _pass(Op("writelock", _paths[file]), lambda: shm(file, at, count, flags))

    replaced = {
        "xWrite": _WRITE(xwrite),
        "xTruncate": _TRUNCATE(lambda file, size: _pass(Op("truncate", _paths[file], size), lambda: truncate(file, size))),
        "xSync": _LEVEL(lambda file, flags: _pass(Op("sync", _paths[file]), lambda: sync(file, flags))),
        "xLock": _LEVEL(lambda file, level: _pass(Op("lock", _paths[file]), lambda: lock(file, level))),
        "xShmLock": _SHM(xshm),
    }
    for name, function in replaced.items():
        _kept.append(function)
        setattr(copy, name, ctypes.cast(function, _ptr).value)
    return copy
