"""Steps of a workflow that is no agent: each execution is a step of its run, verified before the framework sees its events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from workflows.runtime.types.results import AddWaiter, StepWorkerFailed, StepWorkerResult, WaitingForEvent

from surefoot import Guard
from surefoot_adapters import Do, Frame, called, digest_of, here, nested_step
from surefoot_llama_index import _convert

__all__ = ["plain_step"]


def plain_step(guard: Guard, bare: Callable[..., Awaitable[Any]], kinds: Sequence[Any]) -> Callable[..., Awaitable[Any]]:
    """Return a step whose body runs in a step of ours; a resumed run runs it again, and its calls are answered from the ledger.

    :param kinds: the events that it says it returns.
    """

    async def worker(**given: Any) -> Any:
        place = here()
        if place is None:
            return await bare(**given)
        last: list[Any] = []

        async def body(_frame: Frame) -> Any:
            last[:] = await bare(**given)
            return _output(last)

        async def spoken(function: Callable[..., Any]) -> Any:
            event = _convert.event(await called(function, given["event"]), kinds, name)
            last[:] = [StepWorkerResult(result=event)]
            return _output(last)

        def instead(function: Callable[..., Any], _frame: Frame) -> Do:
            return Do(_never, partial(spoken, function))

        name, event = str(given["step_name"]), _convert.fields(given["event"])
        digest = digest_of(guard.codec, event)
        attempt = lambda frame: Do(_never, partial(body, frame))  # noqa: E731 - a thunk
        program = nested_step(guard, place, name, event, digest, attempt, memo=False, instead=instead)
        try:
            await guard.adrive(program)
        except Exception as exc:
            if _said(last, exc):
                return last
            raise
        return last

    return worker


def _never() -> Any:
    raise AssertionError("workflows are asynchronous")


def _output(found: list[Any]) -> Any:
    """Return what a step gave out, as its verifier sees it. Raises what it raised, or what it waits with."""
    for item in found:
        if isinstance(item, StepWorkerFailed):
            raise item.exception
        if isinstance(item, AddWaiter):
            raise WaitingForEvent(item)
    events = [item.result for item in found if isinstance(item, StepWorkerResult) and item.result is not None]
    outputs = [_convert.shown(event) for event in events]
    return outputs[0] if len(outputs) == 1 else outputs


def _said(found: list[Any], exc: Exception) -> bool:
    """Return whether an error is what the step itself gave to the framework: it knows what to do with it."""
    return any(
        (isinstance(item, StepWorkerFailed) and item.exception is exc)
        or (isinstance(item, AddWaiter) and isinstance(exc, WaitingForEvent) and exc.add is item)
        for item in found
    )
