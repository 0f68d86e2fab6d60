"""Bodies that can be killed: a function that runs in a process of its own, which ends with its deadline (AS-44).

Python cannot stop a thread. A tool that may hang for ever (a native library, a driver, a loop in somebody else's code)
would keep one for each of its timeouts; isolated, it is killed with all processes that it started, and nothing is left::

    @surefoot.tool(effect="unsafe", timeout=30)
    @isolated
    def convert(path: str) -> str: ...

The process is a fresh interpreter that imports the function's module by name. It shares nothing with the one that asks, not even
a lock, and does not outlive it: an owner that is dead has no body running (``design`` 5.10).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeAlias, TypeVar

from surefoot import Effect, NotCommitted, NotStorable, ToolFailed, UsageError, current_call
from surefoot_adapters import ActiveCall, Overdue, at

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from surefoot import Call

__all__ = ["isolated", "serve"]

P = ParamSpec("P")
T = TypeVar("T")
Name: TypeAlias = tuple[str, str]
_CHILD: Final = "import sys; sys.path[:] = sys.argv[3:]; from surefoot_python.processes import serve; serve(*map(int, sys.argv[1:3]))"
_AGAIN: Final = frozenset({Effect.READ, Effect.IDEMPOTENT, Effect.COMPOSITE})
_LOOK: Final = 0.5
_bodies: dict[Name, Callable[..., Any]] = {}
"""Module and qualified name → the function itself, without the decorators above :func:`isolated`."""
_ambiguous: Final[set[Name]] = set()
"""Names that were given to a second function: asked for in a new process, nobody knows which one is meant."""


def isolated(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that runs ``function`` in a new process and kills that (SIGKILL) at the call's deadline.

    Put it below ``@surefoot.tool(timeout=…)``; without a deadline it waits for ever. The caller gets what the function
    returns or raises. Arguments and results are copied (pickled). When the process was killed or has died, nobody can know
    what it did: the call is in doubt; a tool that may run again raises :class:`TimeoutError`, or :class:`ChildProcessError`
    where the process died by itself. ``surefoot.current_call()`` works inside; a governed tool does not.

    The process is killed as soon as it has answered: what the body started (threads, processes) ends with it, unless that
    leads a session of its own, and ``atexit`` functions and files that are still open get no chance to write.

    Raises :class:`~surefoot.UsageError` for what a new process could not import (a local function, a lambda, one of a script), and for
    coroutines and generators: a deadline ends the former anyway, and the consumer the latter.
    """
    name = (function.__module__, getattr(function, "__qualname__", type(function).__name__))
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise UsageError(f"{name[1]} is not a plain function, and only these can be isolated")
    if "<" in name[1] or name[0] == "__main__":
        raise UsageError(f"{name[1]} cannot be imported by another process: define it at the top level of a module, not of a script")
    if _bodies.setdefault(name, function) is not function:
        _ambiguous.add(name)
    _bodies[name] = function

    @functools.wraps(function)
    def outside(*args: P.args, **kwargs: P.kwargs) -> T:
        call = current_call()
        asked = _pickled(name, args, kwargs, call)
        with _Process() as process:
            return process.answer(asked, call)  # type: ignore[no-any-return]

    return outside


def _pickled(name: Name, args: tuple[Any, ...], kwargs: dict[str, Any], call: Call | None) -> bytes:
    try:
        return pickle.dumps((name, args, kwargs, call and replace(call, arguments=dict(call.arguments))))
    except Exception as exc:
        raise NotCommitted(f"the arguments of {name[1]} cannot be sent to another process ({exc}); pass plain data") from exc


class _Process:
    """A process for one call. Leaving the block kills it and everything that it started."""

    def __init__(self) -> None:
        from multiprocessing.connection import Pipe

        self._pipe, theirs = Pipe()
        command = [sys.executable, "-c", _CHILD, str(theirs.fileno()), str(os.getpid()), *sys.path]
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with a program of this module
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
                )
            except OSError as exc:
                self._pipe.close()
                raise NotCommitted(f"no process could be started ({exc})") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()
        self._pipe.close()

    def _end(self) -> int:
        """Kill the process, if it has not ended, and all that it started; return how it ended."""
        if self._process.returncode is None:  # nobody has waited for it: the number is still its own
            with contextlib.suppress(ProcessLookupError):  # this program ignores SIGCHLD: the system has waited for it
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def answer(self, asked: bytes, call: Call | None) -> Any:
        deadline = call.deadline if call is not None else None
        try:
            self._pipe.send_bytes(asked)
            if not self._pipe.poll(None if deadline is None else max(0.0, deadline - time.time())):
                raise Overdue("it ran past its deadline, and its process was killed")
            answered, value = pickle.loads(self._pipe.recv_bytes())  # noqa: S301 - from our own process, never from a store
        except (EOFError, ConnectionError):
            code = self._end()
            died = f"its process died ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
            raise (ChildProcessError(died) if call is None or call.effect in _AGAIN else Overdue(died)) from None
        if answered is None:
            raise ToolFailed(*value)
        if answered:
            return value
        raise value


class _Elsewhere:
    """Stands for the run, which is in another process."""

    def __getattr__(self, name: str) -> Any:
        raise UsageError("a governed tool cannot be called inside an isolated one; call it beside it, where its run is")


def serve(fd: int, owner: int) -> None:
    """Answer one request from the pipe with this file descriptor, of the process ``owner``: what the new process does."""
    from multiprocessing.connection import Connection

    os.set_inheritable(fd, False)  # noqa: FBT003 - takes no keyword
    pipe = Connection(fd)
    name, args, kwargs, call = pickle.loads(pipe.recv_bytes())  # noqa: S301 - from the process that started this one
    threading.Thread(target=_end_with, args=(pipe, owner), daemon=True).start()
    answer = _outcome(name, args, kwargs, call)
    sys.stdout.flush()  # once it has answered it is killed
    sys.stderr.flush()
    pipe.send_bytes(answer)
    threading.Event().wait()


def _end_with(pipe: Connection, owner: int) -> None:
    """End this process, and what it started, when the one that asked has ended: only then there is something to read.

    A process that the owner has forked keeps the pipe open, but is nobody's owner: so this looks for the parent too.
    """
    while os.getppid() == owner and not pipe.poll(_LOOK):
        pass
    os.killpg(0, signal.SIGKILL)


def _outcome(name: Name, args: tuple[Any, ...], kwargs: dict[str, Any], call: Call | None) -> bytes:
    try:
        body = _found(name)
    except Exception as exc:  # noqa: BLE001 - whatever a module of somebody's raises when it is imported
        return pickle.dumps((False, NotCommitted(f"the new process cannot import {'.'.join(name)} ({type(exc).__name__}: {exc})")))
    elsewhere: Any = _Elsewhere()
    try:
        with at(None if call is None else ActiveCall(call, elsewhere, None, "", reentered=False)):
            value = body(*args, **kwargs)
    except Exception as exc:  # noqa: BLE001 - it is the caller's, whatever it is
        return _portable(exc) or pickle.dumps((None, (type(exc).__name__, str(exc))))
    try:
        return pickle.dumps((True, value))
    except Exception:  # noqa: BLE001 - whatever a class of somebody's raises
        return pickle.dumps((None, ("NotStorable", str(NotStorable("$", type(value).__qualname__)))))


def _found(name: Name) -> Callable[..., Any]:
    importlib.import_module(name[0])
    if name in _ambiguous:
        raise ImportError("the module isolates two functions of this name")
    return _bodies[name]


def _portable(exc: Exception) -> bytes | None:
    """Return the error pickled, if it can be read back: many cannot."""
    try:
        data = pickle.dumps((False, exc))
        pickle.loads(data)  # noqa: S301 - made on the line above
    except Exception:  # noqa: BLE001 - whatever a class of somebody's raises
        return None
    return data
