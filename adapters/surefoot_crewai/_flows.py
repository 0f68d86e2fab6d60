"""Flows: a kickoff is a run, a method a step; what the method changed in the flow's state belongs to its output.

An answer to a flow that waits for a person goes on with its run. A flow that loads what it persisted begins a run that is resumed
with the state that the run began with: the methods that have ended leave theirs again.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from surefoot import Guard
from surefoot_adapters import Do, Program, here
from surefoot_crewai import _turns
from surefoot_crewai._swap import guard_of, swap

__all__ = ["guarded"]

Kickoff: TypeAlias = Callable[..., Program[Any]]
Later: TypeAlias = Callable[[Any, Mapping[str, Any]], bool]

_KEPT: Final = ("_start_methods", "_listeners", "_routers", "_router_paths")
"""What older releases keep of a flow's methods in its class, and leave out of a subclass. Owner: test_private_names."""
_MAKERS: Final = ("from_checkpoint", "from_pending", "fork")
"""Class methods that make a flow of what is stored."""


@dataclass(eq=False)
class _Beginning:
    """A kickoff that loads what its flow persisted."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: bool = False
    """The state is the one that the run began with."""


_beginning: ContextVar[_Beginning | None] = ContextVar("surefoot_crewai_beginning", default=None)


def guarded(flow: Any, guard: Guard, kickoff: Kickoff, later: Later) -> Any:
    """Guard a flow in place. Return it.

    ``kickoff`` makes the run of a kickoff; ``later`` says that a kickoff only makes what another kickoff is made by.
    """
    swap(flow, guard, _flow_methods(type(flow), kickoff, later))
    return flow


def _flow_methods(kind: Any, kickoff: Kickoff, later: Later) -> dict[str, Any]:
    @functools.wraps(kind.kickoff_async)
    async def kickoff_async(self: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        bare = partial(kind.kickoff_async, self, inputs, *args, **kwargs)
        if later(self, kwargs):
            return await bare()
        guard = guard_of(self)
        assert guard is not None  # noqa: S101 - it was guarded
        thread = (inputs or {}).get("id")
        loads = thread is not None and self.persistence is not None and self.checkpoint_completed_methods is None
        body = Do(bare, bare)
        if loads:
            body = _turns.within(_beginning, _Beginning(), body)
        return await guard.adrive(kickoff(self, guard, inputs, body, thread=str(thread) if thread else None, suspended=_waits))

    @functools.wraps(kind.resume_async)
    async def resume_async(self: Any, feedback: str = "", *args: Any, **kwargs: Any) -> Any:
        guard = guard_of(self)
        assert guard is not None  # noqa: S101 - it was guarded
        bare = partial(kind.resume_async, self, feedback, *args, **kwargs)
        options: dict[str, Any] = {"thread": str(self.flow_id), "kind": "resume", "suspended": _waits}
        return await guard.adrive(kickoff(self, guard, feedback, Do(bare, bare), **options))

    async def _execute_method(self: Any, method_name: Any, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await _begun(self)
        return await kind._execute_method(self, method_name, _as_step(self, str(method_name), method), *args, **kwargs)  # noqa: SLF001 - owner: test_private_names

    kept = {name: getattr(kind, name) for name in _KEPT if hasattr(kind, name)}
    if hasattr(kind, "flow_definition"):
        kept["_flow_definition"] = kind.flow_definition()  # owner: test_private_names; 1.14.7 makes one without methods for a subclass
    makers = {name: _maker(kind, name, kickoff, later) for name in _MAKERS if hasattr(kind, name)}
    return {"kickoff_async": kickoff_async, "resume_async": resume_async, "_execute_method": _execute_method, **kept, **makers}


def _maker(kind: Any, name: str, kickoff: Kickoff, later: Later) -> Any:
    """Return a class method that guards what the framework's own makes: the framework looks for the methods in the class itself."""
    bare = getattr(kind, name)

    @functools.wraps(bare)
    def maker(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return guarded(bare(*args, **kwargs), cls.surefoot_guard, kickoff, later)

    return classmethod(maker)


async def _begun(flow: Any) -> None:
    """Leave the state as the run found it, where this is the first method of a kickoff that loaded what the flow persisted."""
    beginning, guard, place = _beginning.get(), guard_of(flow), here()
    if beginning is None or guard is None or place is None:
        return
    async with beginning.lock:
        if not beginning.over:
            found = Do(lambda: _state(flow))
            kept = await guard.adrive(_turns.nested(guard, place, "state", None, lambda _hint: found))
            if isinstance(flow._state, dict):  # noqa: SLF001 - older releases show a proxy of it; owner: test_private_names
                for name in flow._state.keys() - kept.keys() - {"id"}:  # noqa: SLF001 - as above
                    del flow._state[name]  # noqa: SLF001 - as above
            _redone(flow, None, kept)
            beginning.over = True


def _waits(result: Any) -> bool:
    """Return whether a flow waits for a person."""
    return type(result).__name__ == "HumanFeedbackPending"


def _as_step(flow: Any, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the same kind that is a step of the run."""
    guard = guard_of(flow)
    if here() is None or guard is None:
        return method
    ran: list[bool] = []

    def ended(before: Mapping[str, Any], result: Any) -> Any:
        ran.append(True)
        return [result, _changed(before, _state(flow))]

    if asyncio.iscoroutinefunction(method):

        @functools.wraps(method)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            async def body() -> Any:
                before = _state(flow)
                return ended(before, await method(*args, **kwargs))

            result, changed = await guard.adrive(_program(flow, guard, name, args, kwargs, Do(body, body)))
            return result if ran else _redone(flow, result, changed)

        return coroutine

    @functools.wraps(method)
    def plain(*args: Any, **kwargs: Any) -> Any:
        def body() -> Any:
            before = _state(flow)
            result = method(*args, **kwargs)
            return ended(before, asyncio.run(result) if asyncio.iscoroutine(result) else result)

        result, changed = guard.drive(_program(flow, guard, name, args, kwargs, Do(body)))
        return result if ran else _redone(flow, result, changed)

    return plain


def _program(flow: Any, guard: Guard, name: str, args: Any, kwargs: Mapping[str, Any], body: Do) -> Program[Any]:
    place = here()
    assert place is not None  # noqa: S101 - a method of a run
    given = {"args": list(args), "kwargs": dict(kwargs), "state": _state(flow)}
    return _turns.nested(guard, place, name, given, lambda _hint: body)


def _state(flow: Any) -> dict[str, Any]:
    """Return the flow's state by value, without the id that it gets anew with every kickoff."""
    state = flow._state  # noqa: SLF001 - older releases show a proxy of it; owner: test_private_names
    found = state.model_dump() if hasattr(state, "model_dump") else state
    with suppress(Exception):  # what cannot be copied cannot be stored either: such a method has no memo
        found = copy.deepcopy(found)
    return {name: value for name, value in found.items() if name != "id"}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def _redone(flow: Any, result: Any, changed: Mapping[str, Any]) -> Any:
    """Leave the flow's state as the method left it long ago; return its result."""
    state = flow._state  # noqa: SLF001 - as above
    if hasattr(state, "model_dump"):
        whole = type(state).model_validate({**state.model_dump(), **changed})
        for name in changed:
            setattr(state, name, getattr(whole, name))
    else:
        state.update(changed)
    return result
