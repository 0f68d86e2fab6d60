"""Waiting for somebody else: politely, visibly, and not for ever where a limit was given."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from surefoot.engine.program import Pause, Program
from surefoot.errors import InFlight

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard

__all__ = ["Patience"]

_log = logging.getLogger("surefoot.wait")
_FIRST: Final = 0.002
_LONGEST: Final = 0.1
_WARN_AFTER: Final = 30.0


class Patience:
    """Pauses between looks: 2 ms at first, then longer, up to 100 ms."""

    def __init__(self, guard: Guard, what: str) -> None:
        self._limit = guard.wait
        self._what = what
        self._waited = 0.0
        self._next = _FIRST
        self._warned = False

    def wait(self, *, call_id: str | None = None, run_id: str | None = None) -> Program[None]:
        """Pause once; raises :class:`~surefoot.InFlight` when the guard's ``wait=`` seconds are over."""
        if self._limit is not None and self._waited >= self._limit:
            msg = f"{self._what} is still running elsewhere after {self._waited:.1f} s; try again later or give a longer wait="
            raise InFlight(msg, call_id=call_id, run_id=run_id)
        if self._waited >= _WARN_AFTER and not self._warned:
            self._warned = True
            _log.warning("waiting for %s for %.0f s; set wait= to limit this", self._what, self._waited)
        yield Pause(self._next)
        self._waited += self._next
        self._next = min(self._next * 2, _LONGEST)
