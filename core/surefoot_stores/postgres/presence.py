"""Who is alive, seen from several hosts: each owner counts a row up, and the others watch whether it still moves.

Nobody compares clocks (I10). An owner counts as dead when its count was the same at two looks that lie a whole TTL of the
*observer's* own monotonic clock apart; the observer then removes its row. That proves nothing about a stopped process, which
is why every write is fenced too (I9). An owner that finds its row removed puts it back: what nobody has taken from it is
still its own.

On one host nothing has to be waited for: an owner also holds an OS lock there (:mod:`surefoot_stores.owners`), and whoever
sees the same lock file believes that and no count (AS-93).
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from surefoot_stores import owners

if TYPE_CHECKING:
    from surefoot_stores.postgres.session import Session

__all__ = ["Presence"]

_log = logging.getLogger("surefoot.store")
_BEATS: Final = 5
"""So often in a TTL an owner counts up."""
_BEAT: Final = "INSERT INTO owners VALUES (%s, 1) ON CONFLICT (id) DO UPDATE SET beat = owners.beat + 1"


class Presence:
    """This process among the owners of a store."""

    def __init__(self, connect: Callable[[], Session], ttl: float) -> None:
        self._connect = connect
        self._ttl = ttl
        self.clock: Callable[[], float] = time.monotonic
        """The observer's own clock, in seconds."""
        self.forget()

    def forget(self) -> None:
        """Start anew: for a child process, which is an owner of its own."""
        self._lock = threading.Lock()
        self._me, self._here = "", ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._session: Session | None = None
        self._seen: dict[str, tuple[int, float]] = {}

    def abandon(self) -> None:
        """Leave the connection to the parent process, and start anew."""
        if self._session is not None:
            self._session.abandon()
        self.forget()

    def owner(self) -> str:
        """Return this process's owner id; its row is there before anybody can see the id."""
        if self._thread is not None:
            return self._me
        with self._lock:
            if not self._me:
                file = _lock_file()
                number = owners.register(file)
                self._here = _identity(file)
                self._me = f"{self._here}:{number}"
            if self._thread is None:
                self.beat()
                self._stop = threading.Event()
                self._thread = threading.Thread(target=self._serve, args=(self._stop,), name="surefoot-presence", daemon=True)
                self._thread.start()
        return self._me

    def seen_here(self, owner: str) -> bool | None:
        """Return whether an owner of this host is alive; ``None`` for one of another host."""
        me = self.owner()
        if owner == me:
            return True
        return owners.alive(_lock_file(), owner) if owner.startswith(f"{self._here}:") else None

    def close(self) -> None:
        """Stop counting and close the connection; :meth:`owner` goes on with both."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        if self._session is not None:
            self._session.close()
            self._session = None

    def _serve(self, stop: threading.Event) -> None:
        while not stop.wait(self._ttl / _BEATS):
            try:
                self.beat()
            except Exception as exc:  # noqa: BLE001 - whatever it was, the next beat may succeed
                _log.warning("this process could not show that it is alive (%s); it goes on trying", str(exc).partition("\n")[0])

    def beat(self) -> None:
        """Count up, and remove the rows of owners whose count has not moved for a TTL."""
        try:
            if self._session is None:
                self._session = self._connect()
            self._session.execute(_BEAT, self._me)
            self._watch(self._session)
        except BaseException:
            session, self._session = self._session, None
            if session is not None:
                session.close()
            raise

    def _watch(self, session: Session) -> None:
        rows, now = dict(session.rows("SELECT id, beat FROM owners")), self.clock()
        self._seen = {owner: self._seen[owner] if self._seen.get(owner, (0, 0))[0] == beat else (beat, now) for owner, beat in rows.items()}
        for owner, (beat, since) in self._seen.items():
            if owner != self._me and now - since >= self._ttl:
                session.execute("DELETE FROM owners WHERE id = %s AND beat = %s", owner, beat)


def _lock_file() -> str:
    return str(Path(tempfile.gettempdir()) / f"surefoot-{os.getuid()}" / "owners")


def _identity(file: str) -> str:
    """Return what names a lock file among all hosts: this kernel since it was started, and the file in it."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    found = os.stat(file)  # noqa: PTH116 - its numbers, not its path
    return hashlib.sha256(f"{boot}/{found.st_dev}/{found.st_ino}".encode()).hexdigest()[:12]
