"""Kill your own agent at every step, in five lines of your own tests.

.. code-block:: python

    def test_my_agent_pays_once(surefoot_crash_at, surefoot_effects, surefoot_ledger):
        def work():
            run_my_agent(store=surefoot_ledger.url, charge=lambda amount: surefoot_effects.add("charge", amount))
        for _step in surefoot_crash_at.every(work):  # killed at each durable step in turn, then resumed
            assert surefoot_effects.count("charge") <= 1

This module imports the standard library and pytest, and surefoot only when a fixture is used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from surefoot_conformance.effects import Effects
from surefoot_conformance.forks import fork

if TYPE_CHECKING:
    from surefoot import CallRecord, Guard, RunRecord

__all__ = ["CrashAt", "LedgerView", "surefoot_crash_at", "surefoot_effects", "surefoot_folder", "surefoot_ledger"]


class LedgerView:
    """A store in the test's own folder, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"sqlite:///{folder}/surefoot.db"
        """Give it to ``surefoot.wrap(store=…)``."""

    def guard(self, **options: Any) -> Guard:
        """Return a guard over the store, with these options of :class:`surefoot.Guard`."""
        from surefoot import Guard

        return Guard(self.url, **options)

    def calls(self, state: str | None = None) -> list[CallRecord]:
        """Return the calls in the ledger, oldest first; of one state, if one is given."""
        with self.guard() as guard:
            return list(guard.calls.list(state=state, limit=10_000))

    def runs(self) -> list[RunRecord]:
        """Return the runs, newest first."""
        with self.guard() as guard:
            return list(guard.runs.list())


class CrashAt:
    """Runs work in a forked process that is killed with SIGKILL at its n-th durable event; nothing of it is cleaned up."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = folder / "surefoot_crash_at.over"
        """There when the work was killed at the end of its run: nothing is left to resume."""

    def __call__(self, n: int, work: Callable[[], Any]) -> bool:
        """Kill ``work`` right after its ``n``-th event (1-based) became durable; return whether it came that far.

        Raises what ``work`` raised if it failed before, as an AssertionError.
        """
        over = self._over

        def child() -> None:
            import surefoot
            from surefoot.plugins import Plugins

            class Killer:
                """Counts the events of this process."""

                seen = 0

                @surefoot.hookimpl
                def surefoot_event(self, event: Any) -> None:
                    """Die at the n-th."""
                    self.seen += 1
                    if self.seen == n:
                        if event.type == "run.ended" and event.data.get("status") == "completed":
                            over.touch()
                        os.kill(os.getpid(), signal.SIGKILL)

            Plugins.default().register(Killer(), "surefoot_crash_at")
            work()

        ended = fork(child, self._folder / "surefoot_crash_at.log").wait()
        if ended.hung:
            pytest.fail("the work neither ended nor came to its event in time")
        if ended.error:
            pytest.fail(f"the work failed before event {n}: {ended.trace}")
        return ended.killed

    def every(self, work: Callable[[], Any], *, resume: Callable[[], Any] | None = None, limit: int = 1000) -> Iterator[int]:
        """Kill ``work`` at each of its durable events in turn; after each kill resume it and yield the event's number.

        Each time begins in an empty folder. ``resume`` is what goes on (default: ``work`` again, unless its run was completed: that
        would be another run); what it raises is yours to see, but :class:`surefoot.InDoubt`, which says that an unsafe call waits
        for somebody.
        """
        from surefoot import InDoubt

        for n in range(1, limit + 1):
            for path in self._folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not self(n, work):
                if n == 1:
                    pytest.fail("no event was seen: is the agent wrapped, and does the work run it?")
                return
            if resume or not self._over.exists():
                with contextlib.suppress(InDoubt):
                    (resume or work)()
            yield n
        pytest.fail(f"the work has more than {limit} events; give a larger limit=")


@pytest.fixture
def surefoot_folder(tmp_path: Path) -> Path:
    """Return the folder that belongs to one kill: its store, its effects, and whatever your agent keeps."""
    folder = tmp_path / "surefoot"
    folder.mkdir()
    return folder


@pytest.fixture
def surefoot_ledger(surefoot_folder: Path) -> LedgerView:
    """Return a store of the test's own: ``.url``, ``.guard()``, ``.calls()``, ``.runs()``."""
    return LedgerView(surefoot_folder)


@pytest.fixture
def surefoot_effects(surefoot_folder: Path) -> Effects:
    """Return an effects file: ``add(what…)`` in your tool, ``count(what…)`` in your test. It outlives a killed process."""
    return Effects(surefoot_folder / "effects")


@pytest.fixture
def surefoot_crash_at(surefoot_folder: Path) -> CrashAt:
    """``surefoot_crash_at(n, work)`` kills at the n-th durable event; ``surefoot_crash_at.every(work)`` at each in turn."""
    return CrashAt(surefoot_folder)
