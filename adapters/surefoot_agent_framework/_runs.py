"""Runs: what an invocation of a guarded agent opens and closes, or the step that it is of the run around it."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from typing import Any

from agent_framework import AgentSession, Message, ResponseStream, normalize_messages

from surefoot import Guard, RunStatus, SurefootError, VerificationFailed
from surefoot_adapters import (
    KEPT,
    Do,
    Frame,
    Opened,
    Program,
    RunSpec,
    StepSpec,
    element,
    here,
    in_run,
    input_digest,
    kept_head,
    named_run,
    nested_step,
    step,
    thread_of,
    unnamed,
)
from surefoot_adapters.streams import Items, Passing, asynchronous, seeing
from surefoot_agent_framework import _convert
from surefoot_agent_framework._invocation import Invocation, Paused, invocation

__all__ = ["Door"]

_log = logging.getLogger("surefoot.agent_framework")


class Door:
    """Opens and closes the run of one invocation, or makes it a step of the run that it is nested in."""

    def __init__(self, guard: Guard, name: str, messages: Any, session: AgentSession | None, servers: Sequence[Any]) -> None:
        """Enter by what an agent is given; where a person answers what it asked for, it goes on."""
        self._guard = guard
        self._name = name
        self._messages = messages
        self._session = session
        waited = _convert.waiting(messages)
        self._goes_on = waited is not None
        self._outer = invocation.get()
        self._place = here()
        self._named = named_run()
        self._current = Invocation(guard, name, waited or (), servers)
        self._before: tuple[Any, Any] | None = None
        self._result: Any = None

    # --- the faces

    async def run(self, live: Callable[[Any], Any]) -> Any:
        """Run to the end, an attempt after the other, and return the response."""

        async def once(frame: Frame) -> Any:
            with self._trying(frame):
                token = invocation.set(self._current)
                try:
                    self._result = await live(self._hinted(frame.hint))
                finally:
                    invocation.reset(token)
            return self._output()

        with self._entered():
            await self._guard.adrive(self._whole(lambda frame: Do(lambda: None, partial(once, frame))))
        return self._result

    def stream(self, live: Callable[[Any], Any]) -> ResponseStream[Any, Any]:
        """Return the stream of all attempts: what a rejected one said was given out. Its end is held back until it is verified."""
        return ResponseStream(self._items(live), finalizer=lambda _updates: self._result)

    async def _items(self, live: Callable[[Any], Any]) -> AsyncGenerator[Any, None]:
        async def items(frame: Frame) -> AsyncGenerator[Any, None]:
            with self._trying(frame):
                async with aclosing(seeing(invocation, self._current, self._drawn(live(self._hinted(frame.hint))))) as drawn:
                    async for update in drawn:
                        yield update

        def program() -> Program[Items]:
            yield from self._whole(lambda frame: Do(lambda: Passing(items(frame), self._output)))
            return Items()

        with self._entered():
            async with aclosing(asynchronous(lambda: (self._guard, program()))()) as passed:
                async for update in passed:
                    yield update

    async def _drawn(self, stream: Any) -> AsyncGenerator[Any, None]:
        """Yield the updates of the framework's stream, and keep its response."""
        try:
            async for update in stream:
                yield update
            self._result = await stream.get_final_response()
        except GeneratorExit:
            if (close := getattr(stream, "close", None)) is not None:  # since 1.15
                await close()
            raise

    def _output(self) -> Any:
        if self._result.user_input_requests:
            raise Paused
        return self._result.text

    # --- attempts

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """Tell the run around it how it ended; what was rejected is not said in the session."""
        try:
            yield
        except SurefootError as exc:
            if isinstance(exc, VerificationFailed):
                self._taken_back()
            if self._outer is not None:
                self._outer.inner.append(exc)
            raise

    @contextmanager
    def _trying(self, frame: Frame) -> Iterator[None]:
        """Be one attempt; what must end it is what it raises."""
        self._taken_back()
        session = self._session
        if session is not None and self._before is None and self._guard.verifier(self._guard.step_rule(self._name)) is not None:
            self._before = (copy.deepcopy(session.state), session.service_session_id)
        current = self._current
        current.begin(frame)
        try:
            yield
            current.check()
        except Exception as exc:
            if current.stopped is None or current.stopped is exc:
                raise
            raise current.stopped from None

    def _taken_back(self) -> None:
        """Put the session back to what it was before the first attempt."""
        if self._session is not None and self._before is not None:
            state, self._session.service_session_id = self._before
            self._session.state.clear()
            self._session.state.update(copy.deepcopy(state))

    def _hinted(self, hint: str) -> Any:
        """Return the messages with the verifier's hint as the newest words of the user."""
        return [*normalize_messages(self._messages), Message("user", [hint])] if hint else self._messages

    # --- the program

    def _whole(self, attempt: Callable[[Frame], Do]) -> Program[None]:
        if self._place is not None:
            with suppress(Paused):
                yield from nested_step(self._guard, self._place, self._name, self._data(), self._digest(), attempt, memo=False)
            return
        yield from in_run(self._guard, self._spec(), partial(self._only_step, attempt), ended=lambda status: status)

    def _only_step(self, attempt: Callable[[Frame], Do], opened: Opened) -> Program[RunStatus]:
        """Run the step. What goes on after a person's answer is one of its own: what came before is behind it."""
        path = element(self._name, 1, self._digest()[:12] if self._goes_on else "")
        try:
            yield from step(self._guard, StepSpec(opened.run, None, path, self._name, self._data(), None), attempt)
        except Paused:
            return RunStatus.SUSPENDED
        return RunStatus.COMPLETED

    # --- which run

    def _spec(self) -> RunSpec:
        durable = None if self._session is None else self._session.session_id
        named = self._named
        thread = thread_of(named, durable)
        if thread is None:
            unnamed(self._guard, self._name, _log, "run {} in 'with surefoot.run(name):', or give it a session")
        return RunSpec(
            "agent-framework-core",
            named.tenant,
            thread,
            "resume" if self._goes_on else "input",
            None if self._goes_on else self._data(),
            self._digest(),
            head=kept_head(self._guard, named.tenant, thread) if self._goes_on else Do(lambda: None),
            fork=KEPT if self._goes_on else None,
            joins=named.thread is None and durable is None,
        )

    def _data(self) -> Any:
        return _convert.input_data(self._messages)

    def _digest(self) -> str:
        return input_digest(self._guard.codec, [self._name, _convert.recognised(self._data())])
