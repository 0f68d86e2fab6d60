"""Bodies for processes of their own: top level functions of a module, as these must be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from crash import Effects

import surefoot
from surefoot_python.processes import isolated

__all__ = ["busy", "die", "first", "greet", "hang", "nested", "odd", "refuse", "second", "strange"]


class StrangeError(Exception):
    """Cannot be read back: its constructor asks for more than it keeps."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


@surefoot.tool(effect="unsafe", timeout=60)
@isolated
def greet(name: str) -> list[Any]:
    """Return who greets."""
    call = surefoot.current_call()
    assert call is not None
    return [f"hello {name}", os.getpid(), call.idempotency_key, call.arguments["name"]]


@isolated
def hang(file: str, number: int = 0, *, children: bool = False) -> None:
    """Have an effect, then do nothing for ever, alone or with a child that does likewise."""
    if children:
        with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
            Effects(Path(file)).add("child", child.pid)
            Effects(Path(file)).add("hang", os.getpid())
            child.wait()
    Effects(Path(file)).add("hang", os.getpid())
    threading.Event().wait()
    Effects(Path(file)).add("woke")


@isolated
def busy(file: str) -> None:
    """Have an effect, then keep the interpreter's lock busy for ever."""
    Effects(Path(file)).add("busy", os.getpid())
    while True:
        time.time()


@isolated
def die(file: str, how: str) -> None:
    """Have an effect, then end in some way that is no answer."""
    Effects(Path(file)).add("die")
    if how == "exit code 3":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, how))


@isolated
def refuse(kind: str) -> None:
    """Raise."""
    if kind == "NotCommitted":
        raise surefoot.NotCommitted("the card was declined")
    raise {"ValueError": ValueError("no such order")}.get(kind) or StrangeError("too", "strange")


@isolated
def strange() -> Any:
    """Return what cannot be sent."""
    return lambda: None


@surefoot.tool()
def inner() -> None:
    """Be a governed tool."""


@isolated
def nested() -> None:
    """Call a governed tool."""
    inner()


def _made(answer: str) -> Any:
    def twice(file: str) -> None:
        Effects(Path(file)).add(answer)

    twice.__qualname__ = "twice"
    return isolated(twice)


first, second = _made("first"), _made("second")


def odd() -> None:
    """Stand where the new process finds no isolated body."""
