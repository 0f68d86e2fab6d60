"""Sandboxes: where the bodies of tools run that must not run here. What runs them is a plugin's; surefoot has none of its own.

.. code-block:: python

    class Docker(surefoot_policy.Executor):
        def run(self, call): ...


    surefoot_policy.EXECUTORS["docker"] = Docker
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from surefoot import Call, current_call
from surefoot.types import expect
from surefoot_adapters import Do, Placed, Request

__all__ = ["EXECUTORS", "Executor", "Sandboxes"]


class Executor(ABC):
    """Runs calls of tools where they can do no harm: in a container, on a machine of its own."""

    @abstractmethod
    def run(self, call: Call) -> Any:
        """Return what the tool returns for ``call``, or raise what it raises; called in a thread where the framework is asynchronous.

        It is the body: its intent is written, and what becomes of it is recorded as a body's. It has until ``call.deadline``.
        """


EXECUTORS: Final[dict[str, Callable[[], Executor]]] = {}
"""Name in ``sandbox:`` → what makes the executor. A plugin adds its own."""


class Sandboxes:
    """The executors of one policy, each made when it is first needed."""

    def __init__(self) -> None:
        self._made: dict[str, Executor] = {}
        self._broken: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Return whether an executor of that name is installed."""
        return name in EXECUTORS

    def refusal(self, name: str, place: str, request: Request) -> str | None:
        """Return why a call must not run where ``place`` in the policy names a sandbox, or ``None``."""
        if not self.has(name):
            return self.missing(name, place)
        if name in self._broken:
            return f"{place} has it run in the sandbox {name!r}, whose executor cannot be made: {self._broken[name]}"
        if not isinstance(request, Placed):
            return f"{place} has it run in the sandbox {name!r}, and its adapter cannot have a body run elsewhere"
        return None

    def missing(self, name: str, place: str) -> str:
        """Return why a call must not run where no executor of that name is installed."""
        return f"{place} has it run in the sandbox {name!r}, and no executor of that name is installed"

    def place(self, name: str, request: Request, body: Do) -> tuple[Request, Do]:
        """Return the request, and a body that runs it in a sandbox; as they are, to be refused, where its executor cannot be made."""
        if name not in self._made:
            try:
                made: Any = EXECUTORS[name]()
                expect("executor", made, "an Executor", lambda given: callable(getattr(given, "run", None)))
            except Exception as exc:  # noqa: BLE001 - a plugin's; the call is refused
                self._broken[name] = f"{type(exc).__name__}: {exc}"
                return request, body
            self._broken.pop(name, None)
            self._made[name] = made
        run = self._made[name].run

        async def elsewhere() -> Any:
            return await asyncio.to_thread(run, _here())

        return Placed(**{field.name: getattr(request, field.name) for field in fields(Request)}), Do(lambda: run(_here()), elsewhere)


def _here() -> Call:
    call = current_call()
    assert call is not None  # noqa: S101 - the engine runs it as a body
    return call
