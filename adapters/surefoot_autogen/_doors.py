"""Doors: what an agent's turn or a team's run opens and closes, or the step that it is of the run around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

from autogen_agentchat.base import ChatAgent, Response, TaskResult, Team
from autogen_agentchat.messages import BaseChatMessage, TextMessage

from surefoot import Guard, SurefootError
from surefoot_adapters import (
    ActiveCall,
    Do,
    Frame,
    Opened,
    Program,
    RunName,
    RunSpec,
    StepSpec,
    called,
    element,
    here,
    in_run,
    input_digest,
    named_run,
    nested_step,
    step,
    thread_of,
    unnamed,
    without,
)
from surefoot_adapters.streams import Items, Passing, asynchronous, seeing
from surefoot_autogen import _convert
from surefoot_autogen._invocation import Invocation, invocation, name_of

__all__ = ["Door", "named", "within_itself"]

_log = logging.getLogger("surefoot.autogen")
_teams: WeakKeyDictionary[Any, Invocation] = WeakKeyDictionary()
"""Participants of the teams that run now: a runtime of somebody's own does not tell them where they are."""
started: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""What is running now, and its state before it began."""
named: ContextVar[RunName | None] = ContextVar("surefoot_autogen_named", default=None)
"""What the block said in which a stream was asked for: its items may be read behind it."""


def within_itself(owner: object) -> bool:
    """Return whether an agent or a team calls its own method: that is no other run of it."""
    current = invocation.get()
    return current is not None and current.owner is owner and here() is current.frame


class Door:
    """One turn of an agent, or one run of a team."""

    def __init__(self, guard: Guard, owner: Any, kind: Any, given: Any) -> None:
        """Prepare what ``owner`` is given: messages, or what a team calls a task. ``kind`` is its class without the guard."""
        self._guard, self._owner, self._kind, self._given = guard, owner, kind, given
        self._messages = _messages(given)
        self._outer = _teams.get(owner) or invocation.get()
        self._place: Frame | ActiveCall | None = _teams[owner].frame if owner in _teams else here()
        self._named = named.get() or named_run()
        self._current = Invocation(guard, owner, name_of(owner), isinstance(owner, Team))
        self._start: Any = None
        self._trying_now = asyncio.Lock()
        self._changed = False
        self._result: Any = None

    # --- the faces

    async def run(self, bare: Callable[[Any], Awaitable[Any]]) -> Any:
        """Return what the framework returns."""

        def attempt(frame: Frame) -> Do:
            async def coro() -> Any:
                async with self._trying(frame):
                    token = invocation.set(self._current)
                    try:
                        self._result = await bare(self._hinted(frame.hint))
                    finally:
                        invocation.reset(token)
                return self._output()

            return Do(lambda: None, coro)

        async with self._entered():
            await self._guard.adrive(self._whole(attempt))
        return self._result

    async def stream(self, bare: Callable[[Any], AsyncGenerator[Any, None]], result: type) -> AsyncGenerator[Any, None]:
        """Yield what the framework yields. The result is held back until it is verified and committed."""

        async def items(frame: Frame) -> AsyncGenerator[Any, None]:
            async with self._trying(frame), aclosing(seeing(invocation, self._current, bare(self._hinted(frame.hint)))) as live:
                async for item in live:
                    self._current.check()
                    if isinstance(item, result):
                        self._result = item
                    else:
                        yield item

        def attempt(frame: Frame) -> Do:
            return Do(lambda: Passing(items(frame), self._output, self._pauses))

        def program() -> Program[Items]:
            yield from self._whole(attempt)
            return Items()

        async with self._entered(), aclosing(asynchronous(lambda: (self._guard, program()))()) as passed:
            async for item in passed:
                yield item
        yield self._result

    def _pauses(self) -> bool:
        return not self._current.is_team and not self._current.flying

    def _output(self) -> Any:
        if not self._current.is_team:
            return _convert.output(self._result.chat_message)
        return _convert.output(self._result.messages[-1]) if self._result.messages else None

    # --- attempts

    @asynccontextmanager
    async def _entered(self) -> AsyncIterator[None]:
        """Tell the run around it how it ended, and put back what it changed if it did not end well."""
        try:
            yield
        except BaseException as exc:
            await self._restored()
            if self._outer is not None and isinstance(exc, SurefootError):
                self._outer.inner.append(exc)
            raise
        finally:
            started.pop(self._owner, None)

    @asynccontextmanager
    async def _trying(self, frame: Frame) -> AsyncIterator[None]:
        """Be one attempt, from the state before the first one; what must end it is what it raises.

        One that was left at its deadline ends first: it puts the state back.
        """
        async with self._trying_now, self._attempting(frame):
            yield

    @asynccontextmanager
    async def _attempting(self, frame: Frame) -> AsyncIterator[None]:
        if self._start is None:
            self._start = await self._kind.save_state(self._owner)
            if self._place is None:
                started[self._owner] = self._start
        await self._restored()
        current, self._changed = self._current, True
        current.begin(frame)
        joined = _participants(self._owner) if current.is_team else []
        _teams.update(dict.fromkeys(joined, current))
        try:
            yield
            current.check()
        except BaseException as exc:
            await current.landed()
            await self._restored()
            stop = current.stopped or next(iter(current.inner if current.is_team else ()), None)
            if stop is None or stop is exc or not isinstance(exc, Exception):
                raise
            raise stop from None
        finally:
            for one in joined:
                _teams.pop(one, None)

    async def _restored(self) -> None:
        if self._changed:
            self._changed = False
            await self._kind.load_state(self._owner, self._start)

    def _hinted(self, hint: str) -> Any:
        """Return what it is given, with the verifier's hint as the newest words of the user."""
        return [*(self._messages or ()), TextMessage(content=hint, source="user")] if hint else self._given

    def _instead(self, function: Callable[..., Any], frame: Frame) -> Do:
        """Return an attempt in which a fallback speaks in its place; of a stream only the result is somebody else's.

        An agent remembers what it was told and what was said for it.
        """

        async def coro() -> Any:
            async with self._trying(frame):
                message = _convert.message(await called(function, self._hinted(frame.hint)), self._current.name)
                told = self._messages or []
                if self._current.is_team:
                    self._result = TaskResult(messages=[*told, message], stop_reason=f"fallback {_named(function)}")
                else:
                    await _convert.remember(self._owner, [*told, message])
                    self._result = Response(chat_message=message)
            return self._output()

        return Do(lambda: None, coro)

    # --- the program

    def _whole(self, attempt: Callable[[Frame], Do]) -> Program[None]:
        name, place = self._current.name, self._place
        if place is not None:
            # the turns of a team come one after the other; who runs agents in a tool may run several at once
            digest = self._digest() if isinstance(place, ActiveCall) else None
            yield from nested_step(self._guard, place, name, self._data(), digest, attempt, memo=False, instead=self._instead)
            return
        yield from in_run(self._guard, self._spec(), partial(self._only_step, attempt))

    def _only_step(self, attempt: Callable[[Frame], Do], opened: Opened) -> Program[None]:
        if opened.feed == "stored":
            self._given = self._messages = _convert.messages(opened.stored)
        name = self._current.name
        spec = StepSpec(opened.run, None, element(name, 1), name, self._data(), None)
        yield from step(self._guard, spec, attempt, instead=self._instead)

    # --- which run

    def _spec(self) -> RunSpec:
        thread = thread_of(self._named)
        if thread is None:
            unnamed(self._guard, self._current.name, _log)
        kind: Literal["input", "continue"] = "continue" if self._messages == [] else "input"
        given = self._data() if kind == "input" else None
        return RunSpec("autogen-agentchat", self._named.tenant, thread, kind, given, self._digest(), joins=self._named.thread is None)

    def _data(self) -> Any:
        return None if self._messages is None else [_convert.data(message) for message in self._messages]

    def _digest(self) -> str:
        return input_digest(self._guard.codec, [self._current.name, without(self._data(), _convert.GENERATED)])


def _messages(given: Any) -> list[BaseChatMessage] | None:
    """Return the messages that an agent or a team is given; ``None`` for what the framework refuses."""
    if isinstance(given, str):
        return [TextMessage(content=given, source="user")]
    found = [] if given is None else list(given) if isinstance(given, Sequence) else [given]
    return found if all(isinstance(one, BaseChatMessage) for one in found) else None


def _named(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _participants(team: Any) -> list[Any]:
    lists = (value for value in vars(team).values() if isinstance(value, list))
    return [one for found in lists for one in found if isinstance(one, ChatAgent | Team)]
