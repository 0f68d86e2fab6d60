"""Nodes as steps: each execution of a node goes through the step protocol."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphInterrupt, ParentCommand
from pydantic import BaseModel

from surefoot import Guard
from surefoot_adapters import Do, Frame, LiveRun, Program, StepSpec, done, element, join, step
from surefoot_langgraph import _convert, _interrupts, _usage
from surefoot_langgraph._history import Cursor, branch_of
from surefoot_langgraph._tools import node_in, reply_of, replying

__all__ = ["Invocation", "Step", "hinted", "invocation", "replying_to"]


@dataclass(eq=False, slots=True)
class Invocation:
    """One invocation of one guarded graph: its run, its place in it, and its counters."""

    run: LiveRun
    prefix: str
    parent: Frame | None
    cursor: Cursor


invocation: ContextVar[Invocation | None] = ContextVar("surefoot_langgraph_invocation", default=None)


class Step(Runnable[Any, Any]):
    """A node of a guarded graph. Outside an invocation of it, it is the node."""

    def __init__(self, name: str, bound: Runnable[Any, Any], guard: Guard, unkept: frozenset[str]) -> None:
        self.name = self._step = name
        self.bound = bound
        self._tools = node_in(bound)
        self._guard = guard
        self._unkept = unkept
        """State keys that are no state: managed values and untracked channels."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the node as a step."""
        current = invocation.get()
        if current is None:
            return self.bound.invoke(input, config, **kwargs)
        result = self._guard.drive(self._program(current, input, config or {}, kwargs))
        return _given(result)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Run the node as a step."""
        current = invocation.get()
        if current is None:
            return await self.bound.ainvoke(input, config, **kwargs)
        result = await self._guard.adrive(self._program(current, input, config or {}, kwargs))
        return _given(result)

    def _program(self, current: Invocation, input: Any, config: RunnableConfig, kwargs: dict[str, Any]) -> Program[Any]:
        guard, metadata = self._guard, config.get("metadata", {})
        digest = _convert.digest(guard.codec, input, without=self._unkept)
        superstep = metadata.get("langgraph_step", 0)
        branch = branch_of(metadata.get("langgraph_path", ()), digest)
        number = current.cursor.instance(self._step, superstep)
        reply = reply_of(guard, self._tools, input, config) if self._tools is not None else None
        shared = reply is not None
        path = join(current.prefix, element(self._step, number, "" if shared else branch))
        spec = StepSpec(
            current.run, current.parent, path, self._step, input, digest, branch if shared else "", shared=shared, mark=superstep
        )

        judged = guard.step_rule(self._step).verifier is not None

        def body(frame: Frame) -> Do:
            given, mine = (
                hinted(_own(input) if judged else input, frame.hint),
                _usage.told(guard, _interrupts.retried(config, frame.attempt)),
            )

            def plain() -> Any:
                with replying_to(reply):
                    try:
                        return self.bound.invoke(given, mine, **kwargs)
                    except ParentCommand as exc:
                        return _convert.Raised(exc.args[0])
                    except GraphInterrupt as exc:
                        guard.drive(_interrupts.surfaced(guard, frame, exc, config, reply))
                        raise

            async def coro() -> Any:
                with replying_to(reply):
                    try:
                        return await self.bound.ainvoke(given, mine, **kwargs)
                    except ParentCommand as exc:
                        return _convert.Raised(exc.args[0])
                    except GraphInterrupt as exc:
                        await guard.adrive(_interrupts.surfaced(guard, frame, exc, config, reply))
                        raise

            return Do(plain, coro)

        return step(guard, spec, body, opaque=True, instead=lambda function, frame: done(function, hinted(input, frame.hint)))


class replying_to:  # noqa: N801 - reads as a statement
    """Make a model reply the current one for the block."""

    def __init__(self, reply: Any) -> None:
        """Name the reply."""
        self._reply = reply

    def __enter__(self) -> None:
        self._token = replying.set(self._reply)

    def __exit__(self, *_exc: object) -> None:
        replying.reset(self._token)


def _given(result: Any) -> Any:
    """Return a step's output; a command to the parent graph is raised, as the node raised it."""
    if isinstance(result, _convert.Raised):
        raise ParentCommand(result.command)
    return result


def _own(input: Any) -> Any:
    """Return a copy of a node's input for one attempt: what one that is rejected does to its state is undone with it.

    Channels hold their values and savers may store them later, so the state that is committed would change in place. What
    cannot be copied (a connection, a lock) is given as it is.
    """
    if type(input) is dict:
        return {name: _own(value) for name, value in input.items()}
    try:
        return copy.deepcopy(input)
    except Exception:  # noqa: BLE001 - whatever a value says about being copied
        return input


def hinted(input: Any, hint: str) -> Any:
    """Return a node's input with the verifier's hint as the last message, where the input has messages."""
    if not hint:
        return input
    add: Callable[[list[Any]], list[Any]] = lambda found: [*found, HumanMessage(hint)]  # noqa: E731 - used three times below
    if isinstance(input, dict) and isinstance(input.get("messages"), list):
        return {**input, "messages": add(input["messages"])}
    if isinstance(input, list) and input and all(isinstance(item, BaseMessage) for item in input):
        return add(input)
    if isinstance(input, BaseModel) and isinstance(getattr(input, "messages", None), list):
        return input.model_copy(update={"messages": add(input.messages)})  # type: ignore[attr-defined]
    return input
