"""Runs: what an invocation of a wrapped object opens and closes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from surefoot import ApprovalPending, Guard, InDoubt, RunStatus, SurefootWarning, UsageError
from surefoot._api import RunName
from surefoot.engine.program import Do, Program
from surefoot.engine.run import Opened, RunSpec
from surefoot_adapters import poison
from surefoot_adapters.asking import asking
from surefoot_adapters.made import each_guard
from surefoot_journal import governed
from surefoot_journal.governed import close_run
from surefoot_journal.replay import current_replay

__all__ = ["in_run", "open_run", "outside_of_runs", "thread_of", "unnamed"]

T = TypeVar("T")
_open: Final[set[str]] = set()
"""Runs that :func:`in_run` has open in this process."""


def _completed(_value: Any) -> RunStatus:
    return RunStatus.COMPLETED


def _itself(error: BaseException) -> BaseException:
    return error


def open_run(guard: Guard, spec: RunSpec) -> Program[Opened]:
    """Take the thread's lease and return the run that an invocation belongs to, or the one that is replayed (AS-77).

    A run that has killed its process too often is set aside before that (:mod:`surefoot_adapters.poison`). Raises
    :class:`~surefoot.RunStopped` for such a run, :class:`~surefoot.InDoubt` for a held one, and :class:`~surefoot.InFlight` when the
    thread stays busy for longer than ``wait=``.
    """
    if current_replay() is None:
        yield from poison.noted(guard, spec)
    return (yield from governed.open_run(guard, spec))


def in_run(
    guard: Guard,
    spec: RunSpec,
    body: Callable[[Opened], Program[T]],
    *,
    ended: Callable[[T], RunStatus] = _completed,
    meant: Callable[[BaseException], BaseException] = _itself,
) -> Program[T]:
    """Open the run that an invocation belongs to, do what ``body`` says in it, close it, and return what ``body`` returned.

    :param body: gets the open run and returns a program, most often one :func:`step`.
    :param ended: says of the result where the run stands now: completed, or suspended because a person is asked.
    :param meant: the error in what ``RunSpec.stop`` made of it, where the framework does not pass errors as they are.

    A body that raises leaves the run open, to be resumed. That the run is held is news to whoever gets another error;
    cancellation comes out as it is. A hold that somebody ate is raised again (AS-91).
    """
    opened = yield from open_run(guard, spec)
    run = opened.run
    _open.add(run.record.run_id)
    try:
        value = yield from body(opened)
    except BaseException as exc:
        error = meant(exc)
        if isinstance(error, ApprovalPending) and (asks := asking(guard)) is not None:  # all that wait, not the first that stopped it
            error.cards = yield Do(partial(asks.cards, run.record.run_id))
        try:
            yield from close_run(guard, run, RunStatus.OPEN)
        except InDoubt:
            if isinstance(error, Exception) and not isinstance(error, InDoubt):
                raise
        if error is exc:
            raise
        raise error from None
    finally:
        _open.discard(run.record.run_id)
    yield from close_run(guard, run, ended(value))
    return value


def thread_of(named: RunName, durable: str | None = None) -> str | None:
    """Return the thread of an invocation, ``None`` where nothing names it: then nobody can resume it.

    :param named: what ``with surefoot.run(…):`` around it says (:func:`named_run`).
    :param durable: the framework's own id of the conversation, where it has one.
    """
    return named.thread or (f"run:{named.name}" if named.name is not None else durable)


def unnamed(guard: Guard, name: str, log: logging.Logger, how: str = "run {} in 'with surefoot.run(name):'") -> None:
    """Say in the log, once for each name, that a run has none of its own: killed, it cannot be resumed.

    :param name: what runs: an agent, a function.
    :param how: how to name it, with a place for what runs.

    Raises :class:`~surefoot.UsageError` where the guard is strict.
    """
    if guard.strict:
        raise UsageError(f"strict=True needs a name for the run: {how.format(name)}")
    if name not in (known := _warned(guard)):
        known.add(name)
        log.warning("%s runs without a name: killed, it cannot be resumed; %s", name, how.format("it"))


@each_guard
def _warned(_guard: Guard) -> set[str]:
    return set()


def outside_of_runs(tool: str, *, stacklevel: int) -> None:
    """Warn that a tool is called outside of any run where that looks like a mistake: while one is open here."""
    if _open:
        msg = (
            f"{tool} was called outside of any run while one is open, so nothing guards it. A thread of the run needs its "
            "caller's context: asyncio.to_thread(f), or pool.submit(contextvars.copy_context().run, f)"
        )
        warnings.warn(msg, SurefootWarning, stacklevel=stacklevel + 1)
