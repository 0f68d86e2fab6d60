"""Where a body runs: here, or where the guard's policy says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from surefoot import Guard
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do, Program
from surefoot_adapters.hiding import hiding
from surefoot_journal import governed

__all__ = ["Placed", "Placing", "call", "placed"]


@dataclass(slots=True, eq=False, repr=False)
class Placed(Request):
    """A request whose body will run where a policy says. Only one of these is let run where it says so."""


class Placing(Protocol):
    """What a policy that routes bodies offers adapters."""

    def place(self, request: Request, body: Do) -> tuple[Request, Do]:
        """Return a request and its body as they are, or a :class:`Placed` one and what runs it elsewhere."""
        ...


def placed(guard: Guard, request: Request, body: Do) -> tuple[Request, Do]:
    """Return a request, and its body, as the guard's policy places it; such a policy has a method ``place``."""
    place: Any = getattr(guard.policy, "place", None)
    if place is None:
        return request, body
    found: tuple[Request, Do] = place(request, body)
    return found


def call(guard: Guard, frame: Frame, request: Request, body: Do) -> Program[Any]:
    """Govern a call, whose body runs where the policy says, and keep what it redacts out (see :func:`surefoot.engine.call.call`)."""
    with hiding(guard, request):
        return (yield from governed.call(guard, frame, *placed(guard, request, body)))
