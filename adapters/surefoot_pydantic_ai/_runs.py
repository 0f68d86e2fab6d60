"""Runs: what an invocation of a guarded agent opens and closes, or the step that it is of the run around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.tools import DeferredToolRequests

from surefoot import Guard, RunStatus, VerificationFailed
from surefoot_adapters import (
    KEPT,
    ActiveCall,
    Do,
    Frame,
    Instead,
    Opened,
    Program,
    RunSpec,
    StepSpec,
    at,
    called,
    element,
    here,
    in_run,
    input_digest,
    kept_head,
    named_run,
    nested_step,
    passed_on,
    step,
    thread_of,
    unnamed,
    without,
)
from surefoot_pydantic_ai import _convert, _history
from surefoot_pydantic_ai._invocation import Invocation, Paused, attempted

__all__ = ["Door"]

_log = logging.getLogger("surefoot.pydantic_ai")


class Door:
    """Opens and closes the run of one invocation, or makes it a step of the run that it is nested in."""

    def __init__(self, guard: Guard, name: str, prompt: Any, kwargs: dict[str, Any]) -> None:
        self._guard = guard
        self._name = name
        self._prompt = prompt
        self._kwargs = kwargs
        conversation = kwargs.get("conversation")
        history = kwargs.get("message_history") if conversation is None else conversation.messages
        self._history: list[ModelMessage] = list(history or ())
        self._goes_on = prompt is None or kwargs.get("deferred_tool_results") is not None
        since = self._history[_convert.newest(self._history) :] if self._goes_on else []
        self._waiting = _history.unanswered(self._history) if self._goes_on else set()
        self.current = Invocation(guard, name, [message for message in since if isinstance(message, ModelResponse)])
        self._result: Any = None

    # --- the faces

    async def run(self, bare: Callable[..., Awaitable[Any]]) -> Any:
        """Run to the end, an attempt after the other, and return the result."""

        async def once(frame: Frame) -> Any:
            token = attempted.set(self.current)
            try:
                return await bare(self._hinted(frame.hint), **await self._options(frame))
            finally:
                attempted.reset(token)

        await self._guard.adrive(self._whole(once, self._instead))
        return self._result

    @asynccontextmanager
    async def iter(self, bare: Callable[[Any, dict[str, Any]], AbstractAsyncContextManager[Any]]) -> AsyncGenerator[Any]:
        """Let the caller drive the framework's run, in a run that is opened before and closed after."""
        self.current.driven = True
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Frame] = loop.create_future()
        ended: asyncio.Future[Any] = loop.create_future()

        async def once(frame: Frame) -> Any:
            if opened.done():
                raise VerificationFailed(f"the run of {self._name} did not pass its verifier, and what was given out cannot be tried again")
            opened.set_result(frame)
            return await ended

        driver = asyncio.ensure_future(self._guard.adrive(self._whole(once)))
        try:
            await asyncio.wait({opened, driver}, return_when=asyncio.FIRST_COMPLETED)
            if not opened.done():
                driver.result()
            frame = opened.result()
            with at(frame):
                async with bare(self._prompt, await self._options(frame)) as agent_run:
                    yield agent_run
        except BaseException as exc:
            await _end(driver, ended, exc)
            raise
        self.current.paused(now=False)
        if agent_run.result is None:
            await _end(driver, ended, _Unfinished())
        else:
            ended.set_result(agent_run.result)
            await driver

    # --- the program

    def _whole(self, once: Callable[[Frame], Awaitable[Any]], instead: Instead | None = None) -> Program[None]:
        place: Frame | ActiveCall | None = here()
        attempt = partial(self._attempt, once)
        if place is not None:
            with suppress(Paused):
                yield from nested_step(self._guard, place, self._name, self._prompt, self._digest(), attempt, memo=False, instead=instead)
            return

        def only_step(opened: Opened) -> Program[RunStatus]:
            try:
                spec = StepSpec(opened.run, None, element(self._name, 1), self._name, self._prompt, None)
                yield from step(self._guard, spec, attempt, instead=instead)
            except Paused:
                return RunStatus.SUSPENDED
            return RunStatus.COMPLETED

        yield from in_run(self._guard, self._spec(), only_step, ended=lambda status: status)

    def _attempt(self, once: Callable[[Frame], Awaitable[Any]], frame: Frame) -> Do:
        async def coro() -> Any:
            if self._goes_on:
                await self._guard.adrive(passed_on(frame, self._waiting))
            self.current.begin(frame)
            self._result = await once(frame)
            if isinstance(self._result.output, DeferredToolRequests):
                raise Paused
            return self._result.output

        return Do(lambda: None, coro)

    def _instead(self, function: Callable[..., Any], frame: Frame) -> Do:
        """Return an attempt in which a fallback answers the prompt; what its caller drives, or is streamed out, has none."""

        async def coro() -> Any:
            output = await called(function, self._hinted(frame.hint))
            self._result = _convert.result(self._history, self._prompt, output)
            return output

        return Do(lambda: None, coro)

    async def _options(self, frame: Frame) -> dict[str, Any]:
        """Return the options of an attempt. Where somebody speaks after calls that have no answer, they are given one."""
        if self._goes_on or self._kwargs.get("conversation") is not None or not self._history:
            return self._kwargs
        return {**self._kwargs, "message_history": await _history.whole(self._guard, frame, self._history)}

    def _hinted(self, hint: str) -> Any:
        """Return the prompt with the verifier's hint as the newest words of the user."""
        if not hint:
            return self._prompt
        if self._prompt is None:
            return hint
        return [self._prompt, hint] if isinstance(self._prompt, str) else [*self._prompt, hint]

    # --- which run

    def _spec(self) -> RunSpec:
        named = named_run()
        durable = self._durable()
        thread = thread_of(named, durable)
        if thread is None:
            unnamed(self._guard, self._name, _log, "run {} in 'with surefoot.run(name):', or give it a conversation_id")
        goes_on = self._goes_on and bool(self._history)
        return RunSpec(
            "pydantic-ai-slim",
            named.tenant,
            thread,
            "resume" if goes_on else "input",
            None if goes_on else self._data(),
            self._digest(),
            head=kept_head(self._guard, named.tenant, thread) if goes_on else Do(lambda: None),
            fork=KEPT if goes_on else None,
            joins=named.thread is None and durable is None,
        )

    def _durable(self) -> str | None:
        """Return the framework's own id of the conversation, or of the run, where the caller gives one."""
        conversation = self._kwargs.get("conversation")
        found = self._kwargs.get("conversation_id") or getattr(conversation, "conversation_id", None)
        return (found if found != "new" else None) or self._kwargs.get("run_id")

    def _data(self) -> Any:
        return _convert.input_data(self._prompt, self._history)

    def _digest(self) -> str:
        return input_digest(self._guard.codec, [self._name, without(self._data(), _convert.GENERATED)])


class _Unfinished(Exception):
    """The caller left a run before its end."""


async def _end(driver: asyncio.Future[None], ended: asyncio.Future[Any], exc: BaseException) -> None:
    """End a run with what its caller was told, unless it has ended by itself; wait for it. What it raises then is news."""
    if not driver.done() and not ended.done():
        if isinstance(exc, Exception):
            ended.set_exception(exc)
        else:
            driver.cancel()
    await asyncio.wait({driver})
    if not driver.cancelled() and (told := driver.exception()) is not None and told is not exc and not isinstance(told, _Unfinished):
        raise told from None
