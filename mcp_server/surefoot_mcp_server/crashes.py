"""Calls that take the server down again and again are set aside, as runs are that kill their process (quarantine).

A call that may run once only is in doubt after the first time. This is about those that may run again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from surefoot import CallRecord, Effect, Guard, RunStopped
from surefoot.engine.claims import RERUNS
from surefoot.engine.holds import STOPS
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit
from surefoot_adapters import poison
from surefoot_mcp_server.lost import Died
from surefoot_mcp_server.wire import Asked

__all__ = ["Crashes", "Watched"]

T = TypeVar("T")
_WHY: Final = "the server, or its proxy, died {} times with it, and it was not answered in between"


class Crashes:
    """Counts what calls of one conversation took the server down; equal calls (tool and arguments) are one."""

    def __init__(self, guard: Guard, tenant: str, conversation: str) -> None:
        self._guard = guard
        self._tenant = tenant
        self._conversation = conversation

    def _name(self, tool: str, digest: str) -> str:
        parts = (self._tenant, self._conversation, tool, digest)
        return f"mcp_{hashlib.sha256(''.join(f'{len(part)}:{part}' for part in parts).encode()).hexdigest()[:20]}"

    async def of(self, tool: str, asked: Asked, effect: Effect) -> Watched:
        """Return the call to be watched. Raises :class:`~surefoot.RunStopped` for one that is set aside."""
        if effect not in RERUNS or not poison.limit():
            return Watched(self._guard)
        name = self._name(tool, self._guard.codec.identify(asked.what)[0])
        stop, before = await self._guard.atransact(Tx(partial(_look, name=name), write=False))
        if stop is not None:
            free = f"'surefoot runs release {name}' lets it run again"
            raise RunStopped(f"{asked.tool} was not executed: {stop['reason']}. It is quarantined; {free}.", run_id=name)
        return Watched(self._guard, name, before=before)

    def proxy_died(self, unit: Unit, row: CallRecord) -> None:
        """Count a call that a proxy died with, in the transaction that finds it."""
        if row.effect in RERUNS and (most := poison.limit()):
            poison.crashed(unit, self._name(row.tool, row.args_digest), f"{row.call_id}/{row.entry}", most, _WHY)


def _look(unit: Unit, name: str) -> tuple[Any, bool]:
    stop = unit.records.get(STOPS, f"run/{name}")
    return stop and stop.value, unit.records.get(poison.CRASHES, name) is not None


@dataclass(frozen=True, slots=True)
class Watched:
    """A call, and whether it has crashed before."""

    guard: Guard
    name: str | None = None
    """What it is called where it was set aside; ``None``: nobody counts."""
    before: bool = False

    def noting(self, dispatch: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """Return what sends the call and notes that the server went away with it, or that it did not."""
        if self.name is None:
            return dispatch
        name = self.name

        async def noted() -> T:
            try:
                answer = await dispatch()
            except Died:
                crashed = partial(poison.crashed, run_id=name, mark=os.urandom(8).hex(), most=poison.limit(), words=_WHY)
                await self.guard.atransact(Tx(crashed))
                raise
            if self.before:
                await self.guard.atransact(Tx(lambda unit: unit.records.delete(poison.CRASHES, name)))
            return answer

        return noted
