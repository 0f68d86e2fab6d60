"""The guard as a middleware of an agent: where ``create_agent`` is called by somebody else than whoever runs the agent.

A middleware sees replies and calls, and no invocation. So the run is opened for each of them and closed after it, and calls of one
reply, which run beside one another, share it: the run stays open in the store from the first reply of a turn to the last.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain.agents.middleware.types import ToolCallRequest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.config import get_config
from langgraph.errors import GraphBubbleUp
from langgraph.types import Command

from surefoot import ApprovalPending, Guard, RunStatus, UsageError
from surefoot_adapters import (
    Do,
    Frame,
    LiveRun,
    Opened,
    Pause,
    Program,
    RunSpec,
    StepSpec,
    called,
    composite,
    element,
    frame_at,
    here,
    in_run,
    join,
    named_run,
    step,
    thread_of,
    words,
)
from surefoot_langchain import _support
from surefoot_langgraph import _approvals, _convert, _history, _steps, _tools

__all__ = ["SurefootMiddleware"]

_LOOK: Final = 0.002
_INNERMOST: Final = frozenset({"_execute_model_sync", "_execute_model_async", "execute"})
"""What ``create_agent`` and its tool node hand to the innermost middleware: no public name says so (owner: test_private_names)."""


@dataclass(eq=False, slots=True)
class _Shared:
    """A run that is open here, and how many are in it beside whoever opened it."""

    run: LiveRun | None = None
    guests: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """A reply or a call: what it is a step of, and what it is given."""

    name: str
    given: Any
    kind: str
    whole: Any
    """What tells its run from another one."""
    takes: Callable[[Frame], Any]
    """Returns what an attempt is given, and a fallback too: the framework's request."""
    said: Callable[[Any], Any]
    """Makes the framework's response of what a fallback returns."""
    reply: _tools.Reply | None = None
    asker: str | None = None
    """Id of the message that asks for the call: it names the step, whatever LangGraph counts between two turns."""


class SurefootMiddleware(AgentMiddleware[Any, Any]):
    """Guards an agent from inside: put it last, ``create_agent(…, middleware=[…, SurefootMiddleware(guard)])``.

    It has no nodes of its own. Name the conversation by a ``thread_id``, or the request by ``with surefoot.run(name):``. Raises
    :class:`~surefoot.UsageError` in an agent that is wrapped too, where another middleware stands further in, and without a name.
    """

    def __init__(self, guard: Guard) -> None:
        """Guard with ``guard``. Raises :class:`~surefoot.AdapterUnavailable` as wrapping does."""
        _support.framework.ready()
        super().__init__()
        self.guard = guard
        self._open: dict[tuple[str, str], _Shared] = {}
        self._lock = threading.Lock()
        _convert.register(guard.codec)
        guard.codec.register("lc.ModelResponse", ModelResponse, lambda said: [said.result, said.structured_response], _response)
        guard.control_flow(GraphBubbleUp)

    def wrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Any]) -> Any:
        """Have the model's reply verified and committed before anything that it asks for is done."""
        asked = self._reply(request, handler)
        return self.guard.drive(self._program(asked, lambda frame: Do(lambda: handler(asked.takes(frame)))))

    async def awrap_model_call(self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[Any]]) -> Any:
        """Do the same asynchronously."""
        asked = self._reply(request, handler)
        body = lambda frame: Do(lambda: None, lambda: handler(asked.takes(frame)))  # noqa: E731 - one line
        return await self.guard.adrive(self._program(asked, body))

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Any]) -> ToolMessage | Command[Any]:
        """Have the call claimed at its tool's body."""
        own, asked = self._call(request, handler)

        def plain() -> Any:
            with _steps.replying_to(asked.reply):
                return handler(own)

        found: ToolMessage | Command[Any] = self.guard.drive(self._program(asked, lambda _frame: Do(plain)))
        return found

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Any]]
    ) -> ToolMessage | Command[Any]:
        """Do the same asynchronously."""
        own, asked = self._call(request, handler)

        async def coro() -> Any:
            with _steps.replying_to(asked.reply):
                return await handler(own)

        found: ToolMessage | Command[Any] = await self.guard.adrive(self._program(asked, lambda _frame: Do(lambda: None, coro)))
        return found

    # --- what is asked

    def _reply(self, request: ModelRequest[Any], handler: Any) -> _Asked:
        self._alone(handler)
        messages = _messages(request.state)  # not the request's: middleware further out may have put something behind them
        kind = "input" if messages and isinstance(messages[-1], HumanMessage) else "continue"
        return _Asked("model", request.messages, kind, messages, lambda frame: _hinted(request, frame.hint), _replied)

    def _call(self, request: ToolCallRequest, handler: Any) -> tuple[ToolCallRequest, _Asked]:
        self._alone(handler)
        own = request if request.tool is None else request.override(tool=_tools.guarded(request.tool, self.guard))
        tools = {} if own.tool is None else {own.tool.name: own.tool}
        call, messages = request.tool_call, _messages(request.state)
        asker = next((said.id for said in reversed(messages) if isinstance(said, AIMessage) and _asks(said, call)), None)
        reply = _tools.reply_in(self.guard, tools, messages, [call])
        return own, _Asked("tools", call, "continue", call, lambda _frame: own, partial(_answered, call), reply, asker)

    def _alone(self, handler: Any) -> None:
        """Raise where the agent is guarded twice, or something stands between this and what it guards."""
        if _steps.invocation.get() is not None and isinstance(here(), Frame):
            raise UsageError("the agent is wrapped and has a SurefootMiddleware too: take the middleware out, or do not wrap it")
        if getattr(handler, "__name__", "") not in _INNERMOST:
            raise UsageError("another middleware stands between SurefootMiddleware and what it guards: put it last in middleware=")

    # --- the run

    def _program(self, asked: _Asked, body: Callable[[Frame], Do]) -> Program[Any]:
        config = get_config()
        place = here()
        if place is not None:  # an agent that a tool or a guarded function runs
            yield from composite(place)
            parent = frame_at(place, self.guard, "an agent with SurefootMiddleware")
            return (yield from self._step(asked, config, parent.run, parent, body))
        named = named_run()
        durable = config.get("configurable", {}).get("thread_id")
        thread = thread_of(named, None if durable is None else str(durable))
        if thread is None:
            raise UsageError("SurefootMiddleware needs a name: invoke the agent with a thread_id, or in 'with surefoot.run(name):'")
        # sent again, an input may begin at another super-step, whose calls have other names: then it is another run
        digest = _convert.input_digest(self.guard.codec, [_superstep(config), asked.whole])
        spec = RunSpec("langchain", named.tenant, thread, asked.kind, asked.given, digest, stop=_stop)  # type: ignore[arg-type] # one of its words
        return (yield from self._joined(spec, lambda run: self._step(asked, config, run, None, body)))

    def _step(self, asked: _Asked, config: Any, run: LiveRun, parent: Frame | None, body: Callable[[Frame], Do]) -> Program[Any]:
        superstep = _superstep(config)
        digest = _convert.digest(self.guard.codec, asked.given)
        known = element(asked.name, superstep) if asked.asker is None else element(asked.name, 1, self.guard.codec.digest(asked.asker)[:12])
        path = join(parent.path if parent is not None else "", known)
        shared = asked.reply is not None
        branch = _history.branch_of(config.get("metadata", {}).get("langgraph_path", ()), digest) if shared else ""
        spec = StepSpec(run, parent, path, asked.name, asked.given, digest, branch, shared=shared, mark=superstep)
        return (yield from step(self.guard, spec, body, opaque=True, instead=partial(_instead, asked)))

    def _joined(self, spec: RunSpec, body: Callable[[LiveRun], Program[Any]]) -> Program[Any]:
        """Do something in the run, which is open here already where calls of one reply run beside one another."""
        key, mine = (spec.tenant, str(spec.thread)), _Shared()
        while True:
            with self._lock:
                found = self._open.setdefault(key, mine)
                if found is mine:
                    break
                found.guests += 1
            try:
                while found.run is None and not found.gone:
                    yield Pause(_LOOK)
                if found.run is not None:
                    return (yield from body(found.run))
            finally:
                with self._lock:
                    found.guests -= 1
        try:
            return (yield from in_run(self.guard, spec, lambda opened: self._hosted(key, mine, opened, body), ended=_ended))
        finally:
            self._closed(key, mine)

    def _hosted(self, key: Any, mine: _Shared, opened: Opened, body: Callable[[LiveRun], Program[Any]]) -> Program[Any]:
        """Do it in the run that was just opened, and stay until the others have left."""
        mine.run = opened.run
        try:
            return (yield from body(opened.run))
        finally:
            while not self._closed(key, mine):
                yield Pause(_LOOK)

    def _closed(self, key: Any, mine: _Shared) -> bool:
        """Let nobody in any more; return whether everybody has left."""
        with self._lock:
            if mine.guests and mine.run is not None and not mine.gone:
                return False
            mine.gone = True
            if self._open.get(key) is mine:
                del self._open[key]
            return True


def _instead(asked: _Asked, function: Callable[..., Any], frame: Frame) -> Do:
    """Return an attempt in which a fallback answers a request."""
    given = asked.takes(frame)

    async def coro() -> Any:
        return asked.said(await called(function, given))

    return Do(lambda: asked.said(function(given)), coro)


def _replied(said: Any) -> Any:
    """Return what was said in a model's place as its response: words, a message, or a response as it is."""
    if isinstance(said, ModelResponse):
        return said
    return ModelResponse(result=[said if isinstance(said, BaseMessage) else AIMessage(words(said))])


def _answered(call: Any, said: Any) -> Any:
    """Return what was said in a tool's place as the answer to its call: words, or a message or a command as it is."""
    if isinstance(said, BaseMessage | Command):
        return said
    return ToolMessage(words(said), name=call["name"], tool_call_id=call["id"])


def _asks(said: AIMessage, call: Any) -> bool:
    return any(one["id"] == call["id"] for one in said.tool_calls)


def _superstep(config: Any) -> int:
    step: int = config.get("metadata", {}).get("langgraph_step", 0)
    return step


def _messages(state: Any) -> Sequence[Any]:
    return (state.get("messages") if isinstance(state, dict) else getattr(state, "messages", None)) or ()


def _response(data: list[Any]) -> ModelResponse[Any]:
    return ModelResponse(result=data[0], structured_response=data[1])


def _hinted(request: ModelRequest[Any], hint: str) -> ModelRequest[Any]:
    return request.override(messages=_steps.hinted(request.messages, hint)) if hint else request


def _stop(error: BaseException) -> BaseException:
    """Return the error as LangGraph lets it through: who waits for a person is interrupted."""
    return _approvals.interrupt(error) if isinstance(error, ApprovalPending) else error


def _ended(value: Any) -> RunStatus:
    """Return where the run stands: its turn ends with a reply that asks for nothing."""
    done = isinstance(value, ModelResponse) and not any(isinstance(said, AIMessage) and said.tool_calls for said in value.result)
    return RunStatus.COMPLETED if done else RunStatus.OPEN
