"""Requests on their way to the bodies that they are for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from surefoot import Guard
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do, Program
from surefoot_adapters.answers import returned
from surefoot_adapters.placing import call

__all__ = ["Asked"]


def _itself(value: Any) -> Any:
    return value


@dataclass(eq=False)
class Asked:
    """One request, until its body has answered it."""

    guard: Guard
    frame: Frame
    request: Request
    storable: Callable[[Any], Any] = _itself
    """Makes of what the body returns something that can be stored; ``returned`` undoes it."""
    raised: list[BaseException] = field(default_factory=list)
    """What the body raised: an answer of the tool. Whatever else comes out is the guard's."""

    def program(self, body: Do) -> Program[Any]:
        """Return the call's program."""
        return returned((yield from call(self.guard, self.frame, self.request, body)))

    def plain(self, body: Callable[[], Any]) -> Any:
        """Claim the call and run a plain body, in this thread."""
        return self.guard.drive(self.program(Do(lambda: self._kept(body))))

    async def coro(self, body: Callable[[], Awaitable[Any]]) -> Any:
        """Claim the call and await its body."""
        return await self.guard.adrive(self.program(Do(lambda: None, lambda: self._akept(body))))

    def is_answer(self, exc: BaseException) -> bool:
        """Return whether the body raised this very error."""
        return any(exc is own for own in self.raised)

    def _kept(self, body: Callable[[], Any]) -> Any:
        try:
            return self.storable(body())
        except BaseException as exc:
            self.raised.append(exc)
            raise

    async def _akept(self, body: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return self.storable(await body())
        except BaseException as exc:
            self.raised.append(exc)
            raise
