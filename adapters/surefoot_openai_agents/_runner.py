"""The runner: a front of the process's default one, which makes the invocations of guarded agents runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from agents import RunConfig
from agents.models.interface import Model
from agents.run import get_default_agent_runner, set_default_agent_runner
from agents.run_state import RunState

from surefoot import Guard, RunStatus, SurefootError, VerificationFailed
from surefoot_adapters import (
    KEPT,
    ActiveCall,
    Do,
    Frame,
    Instead,
    Kinds,
    Opened,
    Program,
    RunSpec,
    StepSpec,
    Tx,
    called,
    element,
    here,
    in_run,
    input_digest,
    kept_head,
    kept_run,
    named_run,
    nested_step,
    passed_on,
    step,
    thread_of,
    unnamed,
    view,
)
from surefoot_openai_agents import _approvals, _convert, _models, _repair
from surefoot_openai_agents._agents import Binding, binding_of, bound, guarded_guardrail, pending
from surefoot_openai_agents._invocation import Invocation, held, invocation, unheld
from surefoot_openai_agents._tools import Paused

__all__ = ["install"]

_log = logging.getLogger("surefoot.openai_agents")


def install() -> None:
    """Put the front before the default runner, whoever's it is, unless it is there already."""
    set_default_agent_runner(view(get_default_agent_runner(), _RUNNERS))


def _namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    async def run(self: Any, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        door = _Door.of(starting_agent, input, kwargs)
        if door is None:
            return await bare.run(self, starting_agent, input, **kwargs)
        return await door.run(partial(bare.run, self))

    def run_streamed(self: Any, starting_agent: Any, input: Any, **kwargs: Any) -> Any:
        door = _Door.of(starting_agent, input, kwargs)
        if door is None:
            return bare.run_streamed(self, starting_agent, input, **kwargs)
        return door.stream(partial(bare.run_streamed, self))

    return {"run": run, "run_streamed": run_streamed}


_RUNNERS: Final = Kinds(_namespace)


@dataclass(eq=False)
class _Door:
    """Opens and closes the run of one invocation, or makes it a step of the run that it is nested in."""

    binding: Binding
    agent: Any
    input: Any
    kwargs: dict[str, Any]
    outer: Invocation | None

    @classmethod
    def of(cls, agent: Any, given: Any, kwargs: dict[str, Any]) -> _Door | None:
        """Return the door for a guarded agent, and for any agent that is run inside a guarded run."""
        binding, outer = binding_of(agent), invocation.get()
        if binding is None:
            if outer is None or (here() is None and outer.place is not None):
                return None
            binding = bound(outer.guard)
        return cls(binding, binding.agent(agent), given, dict(kwargs), outer)

    def __post_init__(self) -> None:
        """Look at what is run, and prepare how."""
        state = self.input if isinstance(self.input, RunState) else None
        behind = list(state._model_responses) if state is not None else []  # noqa: SLF001 - owner: test_private_names
        self._guard: Guard = self.binding.guard
        self._state = state
        self._streamed = False
        self._own: _models.Provider | None = None
        self._current = Invocation(self._guard, self.binding.known, behind, self.agent.name)
        self._current.listed = isinstance(self.input, list)
        if "session" in self.kwargs:
            self.kwargs["session"] = _repair.session(self.kwargs["session"])
        self.kwargs["run_config"] = self._configured(self.kwargs.get("run_config"))
        self._result: Any = None

    def _configured(self, given: Any) -> Any:
        """Return the run's configuration with guarded models; a provider that the runner would make is ours to close."""
        config = {} if given is None else given
        values = config if isinstance(config, dict) else vars(config)
        changes: dict[str, Any] = {}
        provider = values.get("model_provider")
        if provider is None:
            provider = self._own = _models.Provider(RunConfig().model_provider)
        if not isinstance(provider, _models.Provider):
            provider = _models.Provider(provider)
        changes["model_provider"] = provider
        if isinstance(values.get("model"), Model):
            changes["model"] = _models.guarded(values["model"])
        if values.get("input_guardrails"):
            changes["input_guardrails"] = [guarded_guardrail(guardrail) for guardrail in values["input_guardrails"]]
        return RunConfig(**{**config, **changes}) if isinstance(config, dict) else replace(config, **changes)

    # --- the faces

    async def run(self, bare: Callable[..., Awaitable[Any]]) -> Any:
        """Run to the end and return the result."""

        async def once(given: Any) -> Any:
            token = invocation.set(self._current)
            try:
                return await bare(self.agent, given, **self.kwargs)
            finally:
                invocation.reset(token)

        try:
            if self._state is not None:
                await asyncio.to_thread(self._answered)
            return await self._guard.adrive(self._whole(once))
        except Exception as exc:
            outward = self._outward(exc)
            if outward is exc:
                raise
            raise outward from None
        finally:
            await self._closed()

    def stream(self, bare: Callable[..., Any]) -> Any:
        """Return the framework's stream at once; its run is opened beside it, before the model or a tool is asked."""
        self._streamed = True
        self._answered()  # before the framework looks at the state
        token = invocation.set(self._current)
        try:
            result = bare(self.agent, self.input, **self.kwargs)
        finally:
            invocation.reset(token)
        streamed = [result]

        async def once(_given: Any) -> Any:
            if not streamed:
                raise VerificationFailed(
                    f"the stream of {self.agent.name} did not pass its verifier, and what was given out cannot be tried again"
                )
            task = streamed.pop().run_loop_task
            await asyncio.wait({task})
            task.result()
            left = getattr(result, "_cancel_mode", "none") != "none"  # owner: test_private_names
            if left or (result.max_turns is not None and result.current_turn > result.max_turns):
                raise _Unfinished
            return result

        result.__class__ = _STREAMS.of(type(result))
        result.surefoot_driver = asyncio.ensure_future(self._beside(once))
        result.surefoot_driver.add_done_callback(lambda task: task.cancelled() or task.exception())  # the consumer may have left
        return result

    async def _beside(self, once: Callable[[Any], Awaitable[Any]]) -> None:
        try:
            await self._guard.adrive(self._whole(once))
        except BaseException as exc:
            self._current.refused(held(exc) if isinstance(exc, Exception) else exc)
            raise
        finally:
            await self._closed()

    async def _closed(self) -> None:
        if self._own is not None:
            await self._own.aclose()

    def _outward(self, exc: Exception) -> BaseException:
        """Return an error as the caller is to see it: a stop inside another run of ours goes on stopping."""
        if self.outer is None:
            return unheld(exc)
        return held(exc) if isinstance(exc, SurefootError) else exc

    # --- the program

    def _answered(self) -> None:
        """Write what a stored state says of approvals into their records; an agent inside of a run has its answers by the outer one."""
        named = named_run()
        thread = thread_of(named, getattr(self.kwargs.get("session"), "session_id", None))
        if self._state is None or thread is None or self.outer is not None or here() is not None:
            return
        run_id = self._guard.transact(Tx(partial(kept_run, tenant=named.tenant, thread=thread), write=False))
        if run_id is not None:
            _approvals.answered(self._guard, run_id, self._state)

    def _whole(self, once: Callable[[Any], Awaitable[Any]]) -> Program[Any]:
        place: Frame | ActiveCall | None = here()
        if place is None and self.outer is not None:
            place = yield Do(lambda: None, self.outer.frame)
        if place is None:
            yield from self._as_run(once)
        else:
            yield from self._as_step(place, once)
        return self._result

    def _as_run(self, once: Callable[[Any], Awaitable[Any]]) -> Program[None]:
        def only_step(opened: Opened) -> Program[RunStatus]:
            spec = StepSpec(opened.run, None, element(self.agent.name, 1), self.agent.name, self.input, None)
            try:
                yield from step(self._guard, spec, partial(self._attempt, once), instead=self._instead())
            except Paused:
                return RunStatus.SUSPENDED
            return RunStatus.COMPLETED

        yield from in_run(self._guard, self._spec(), only_step, ended=lambda status: status)

    def _as_step(self, place: Frame | ActiveCall, once: Callable[[Any], Awaitable[Any]]) -> Program[None]:
        """Be a step of the run around it; a call that runs an agent is a composite from now on."""
        try:
            yield from nested_step(
                self._guard,
                place,
                self.agent.name,
                self.input,
                self._digest(),
                partial(self._attempt, once),
                memo=False,
                instead=self._instead(),
            )
        except Paused:
            if (
                isinstance(place, ActiveCall) and getattr(place.tool_object, "_agent_instance", None) is not None
            ):  # owner: test_private_names
                self.binding.paused.add(place.call.call_id)

    def _attempt(self, once: Callable[[Any], Awaitable[Any]], frame: Frame) -> Do:
        async def coro() -> Any:
            if self._state is not None:
                await self._guard.adrive(passed_on(frame, _waiting(self._state)))
            guardrails = [*self.agent.input_guardrails, *(self.kwargs["run_config"].input_guardrails or [])]
            self._current.begin(frame, pending(guardrails) if self._state is None else [], streamed=self._streamed)
            self._result = await once(_hinted(self.input, frame.hint))
            if getattr(self._result, "interruptions", None):
                raise Paused(self._result)
            return self._result.final_output

        return Do(lambda: None, coro)

    def _instead(self) -> Instead | None:
        """Return what makes a run's result of what a fallback says of its input; nothing takes the place of what is streamed out."""
        if self._streamed:
            return None

        def attempt(function: Callable[..., Any], frame: Frame) -> Do:
            async def coro() -> Any:
                self._result = _convert.result(self.agent, self.input, await called(function, _hinted(self.input, frame.hint)))
                return self._result.final_output

            return Do(lambda: None, coro)

        return attempt

    # --- which run

    def _spec(self) -> RunSpec:
        named = named_run()
        session = getattr(self.kwargs.get("session"), "session_id", None)
        thread = thread_of(named, session)
        if thread is None:
            unnamed(self._guard, self.agent.name, _log, "run {} in 'with surefoot.run(name):', or give it a session")
        return RunSpec(
            "openai-agents",
            named.tenant,
            thread,
            "input" if self._state is None else "resume",
            self.input if self._state is None else None,
            self._digest(),
            head=Do(lambda: None) if self._state is None else kept_head(self._guard, named.tenant, thread),
            stop=lambda error: error,
            fork=None if self._state is None else KEPT,
            joins=named.thread is None and session is None,
        )

    def _digest(self) -> str:
        given = self.input
        if self._state is not None:  # inside of a run it is the step that its input was, begun again
            given = self._state._original_input if self.outer is not None else None  # noqa: SLF001 - owner: test_private_names
        if isinstance(given, list):
            given = [{key: value for key, value in _convert.as_data(item).items() if key != "id"} for item in given]
        return input_digest(self._guard.codec, [self.agent.name, given])


def _hinted(given: Any, hint: str) -> Any:
    """Return the input with the verifier's hint as the newest words of the user."""
    if not hint or isinstance(given, RunState):
        return given
    items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    return [*items, {"role": "user", "content": hint}]


def _waiting(state: Any) -> set[str]:
    """Return the ids of the calls of a state that wait for a person."""
    return {item.raw_item.call_id for item in state.get_interruptions() if hasattr(item.raw_item, "call_id")}


# --- streams


class _Unfinished(Exception):
    """A stream ended without an answer and without an error: its consumer told it to, or its turns are used up."""


def _stream_namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    async def stream_events(self: Any) -> AsyncIterator[Any]:
        driver = self.surefoot_driver
        try:
            async for event in bare.stream_events(self):
                yield event
        except Exception as exc:
            await asyncio.wait({driver})
            failed = None if driver.cancelled() else driver.exception()
            outward = unheld(failed if isinstance(failed, SurefootError) else exc)
            if outward is exc:
                raise
            raise outward from None
        await asyncio.wait({driver})
        with suppress(_Unfinished, asyncio.CancelledError):  # its consumer has ended it
            driver.result()

    return {"stream_events": stream_events}


_STREAMS: Final = Kinds(_stream_namespace)
