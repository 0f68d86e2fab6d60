"""The door: opens and closes the run of one invocation of a workflow, or makes it a step of the run around it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage

from surefoot_adapters import (
    Do,
    Frame,
    Instead,
    Opened,
    Program,
    RunSpec,
    StepSpec,
    Stopped,
    called,
    element,
    here,
    in_run,
    input_digest,
    inside,
    meant,
    named_run,
    nested_step,
    step,
    thread_of,
    unnamed,
)
from surefoot_journal import Recording
from surefoot_llama_index import _convert
from surefoot_llama_index._runs import Invocation, invocation
from surefoot_llama_index._snapshots import Behind, passed_on

if TYPE_CHECKING:
    from surefoot_llama_index._agents import Binding

__all__ = ["Door"]

_log = logging.getLogger("surefoot.llama_index")


class Door:
    """One invocation of a guarded workflow."""

    def __init__(self, binding: Binding, workflow: Any, name: str, start_event: Any, *, agent: bool) -> None:
        self._binding, self._guard = binding, binding.guard
        self._workflow, self._name, self._event, self._is_agent = workflow, name, start_event, agent
        self._place = here()
        self._named = named_run()
        self._result: Any = None
        self._history: list[Any] | None = None
        """What was said before the user's words, once an attempt has begun."""
        self.behind = Behind()
        """What a snapshot that it goes on from has behind it."""

    async def run(self, once: Callable[[Any], Awaitable[Any]], otherwise: Callable[[Any], None]) -> Any:
        """Return what the framework returns; ``once`` runs the workflow, ``otherwise`` is told how it ends where something else spoke."""
        self._otherwise = otherwise
        try:
            await self._guard.adrive(self._whole(once))
        except Stopped as exc:
            if self._place is not None:
                raise
            raise exc.error from None
        return self._result

    def _whole(self, once: Callable[[Any], Awaitable[Any]]) -> Program[None]:
        if self._place is not None:
            given = self._given()
            yield from nested_step(
                self._guard,
                self._place,
                self._name,
                given,
                self._digest(given),
                partial(self._attempt, once),
                memo=False,
                instead=self._instead(),
            )
            return
        yield from in_run(self._guard, self._spec(), partial(self._in_run, once), meant=meant)

    def _in_run(self, once: Callable[[Any], Awaitable[Any]], opened: Opened) -> Program[None]:
        if self._is_agent:
            spec = StepSpec(opened.run, None, element(self._name, 1), self._name, self._given(), None)
            yield from step(self._guard, spec, partial(self._attempt, once), instead=self._instead())
        else:
            root = Frame(opened.run, None, "", opened.run.next_entry())
            yield inside(root, self._attempt(once, root))

    def _attempt(self, once: Callable[[Any], Awaitable[Any]], frame: Frame) -> Do:
        async def coro() -> Any:
            token = invocation.set(await self._begun(frame) if self._is_agent else None)
            try:
                self._result = await once(self._hinted(frame.hint))
            finally:
                invocation.reset(token)
            return _convert.shown(self._result)

        return Do(lambda: None, coro)

    def _instead(self) -> Instead | None:
        """Return what has a fallback answer the start event in an agent's place; of other workflows the steps have fallbacks."""
        if not self._is_agent:
            return None

        def attempt(function: Callable[..., Any], frame: Frame) -> Do:
            async def coro() -> Any:
                self._result = _convert.stop_event(await called(function, self._hinted(frame.hint)), self._name)
                await self._remembered(_convert.shown(self._result))
                self._otherwise(self._result)
                return _convert.shown(self._result)

            return Do(lambda: None, coro)

        return attempt

    async def _remembered(self, answer: Any) -> None:
        """Have the memory that the user gave hold the conversation with this answer, and nothing of rejected attempts."""
        given = {} if self._event is None else _convert.fields_of(self._event)
        if (memory := given.get("memory")) is not None:
            said = _convert.message("assistant", answer)
            await memory.aset([*(self._history or ()), *_words(given), said])

    async def _begun(self, frame: Frame) -> Invocation:
        """Return the invocation that an attempt of an agent is."""
        behind = self.behind
        made = Invocation(self._guard, self._binding.known, frame, Recording(self._guard, frame, behind=len(behind.replies)), self._name)
        for reply in behind.replies:
            made.replied(reply)
        if behind.answered:
            await self._guard.adrive(passed_on(behind, frame))
        return made

    def _hinted(self, hint: str) -> Any:
        """Return the start event, with the verifier's hint as the newest words of the user.

        The user's memory is put back to what it was: what a rejected attempt said is not in the next one's conversation.
        """
        if not self._is_agent or self._event is None:
            return self._event
        given = _convert.fields_of(self._event)
        memory = given.get("memory")
        if self._history is None:
            self._history = list(given.get("chat_history") or (memory.get_all() if memory is not None else []))
        if not hint:
            return self._event
        history = [*self._history, *_words(given)]
        return type(self._event)(**{**given, "chat_history": history, "user_msg": _convert.message("user", hint)})

    # --- which run

    def _given(self) -> Any:
        return None if self._event is None else _convert.fields(self._event)

    def _digest(self, given: Any) -> str:
        return input_digest(self._guard.codec, [self._name, given])

    def _spec(self) -> RunSpec:
        thread, given = thread_of(self._named), self._given()
        if thread is None:
            unnamed(self._guard, self._name, _log)
        return RunSpec(
            "llama-index-core",
            self._named.tenant,
            thread,
            "input" if self._event is not None else "resume",
            given,
            self._digest(given),
            stop=Stopped,
            joins=self._named.thread is None,
        )


def _words(given: Mapping[str, Any]) -> list[ChatMessage]:
    """Return what the user says in a start event."""
    said = given.get("user_msg")
    return [] if said is None else [said if isinstance(said, ChatMessage) else _convert.message("user", said)]
