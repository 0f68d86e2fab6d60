"""What the plain Python tests share: programs that stop and are resumed, and looks at what other threads do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import surefoot
from surefoot import Guard

__all__ = ["Once", "Stop", "resumed", "settles", "states"]


class Stop(Exception):
    """Ends a program before its end, so that it can be resumed."""


def resumed(guard: Guard, program: Any) -> Any:
    """Run a program that raises :class:`Stop` once, then again under the same name; return the second result."""
    wrapped = surefoot.wrap(program, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(Stop):
            wrapped()
        return wrapped()


class Once:
    """Raises :class:`Stop` the first time it is called."""

    def __init__(self) -> None:
        self._left = [True]

    def __call__(self) -> None:
        """Stop, once."""
        if self._left:
            self._left.clear()
            raise Stop

    def again(self) -> None:
        """Stop once more."""
        self._left.append(True)


def settles(look: Callable[[], bool]) -> bool:
    """Return whether something that other threads are about to do has happened within ten seconds."""
    until = time.monotonic() + 10
    while not look() and time.monotonic() < until:
        threading.Event().wait(0.005)
    return look()


def states(guard: Guard) -> list[str]:
    """Return the states of all calls."""
    return [str(call.state) for call in guard.calls.list(limit=300)]
