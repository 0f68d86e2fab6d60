"""Tools: the claim is made at the body, whatever invokes it."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.runnables import RunnableSerializable
from langchain_core.tools import BaseTool
from langgraph.errors import GraphInterrupt
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel

from surefoot import AdapterUnavailable, ApprovalPending, CallRecord, Guard, UsageError
from surefoot_adapters import (
    ActiveCall,
    Do,
    Frame,
    Position,
    Request,
    alike,
    declared_rule,
    here,
    hiding,
    identity,
    innermost,
    is_guarded,
    placed,
)
from surefoot_langgraph import _convert, _interrupts

_READ: Final = "__pregel_read"

__all__ = ["Reply", "guarded", "guarded_node", "is_tool", "node_in", "reply_in", "reply_of", "replying"]


@dataclass(eq=False)
class Reply:
    """The requests of one model reply as a task runs them."""

    positions: Mapping[str, Position]
    """Call id → position."""
    shared: bool
    """Whether several of them run in one task."""
    expected: int
    """How many of them have a tool in this task."""
    answered: Mapping[str, ToolMessage] = field(default_factory=dict)
    """Call id → the answer that the conversation has already: somebody rejected the call, or said what became of it."""
    begun: int = 0
    ended: int = 0
    waiting: list[GraphInterrupt] = field(default_factory=list)
    """What the calls that wait for a person raised."""
    _moved: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def request(self, *, pooled: bool) -> Iterator[None]:
        """Count a request that has come to its tool, until the tool has answered it.

        ``pooled``: its siblings wait for a thread, and what one raises drops those that have none yet. One that asks a person lets
        them begin first, so that all that wait for a person surface at once (AS-26).
        """
        with self._moved:
            self.begun += 1
            self._moved.notify_all()
        try:
            yield
        except GraphInterrupt as exc:
            if isinstance(exc.__cause__, ApprovalPending):
                self.waiting.append(exc)
                if pooled:
                    self._others_begin()
            raise
        finally:
            with self._moved:
                self.ended += 1

    def _others_begin(self) -> None:
        """Wait for the siblings to begin; one that a wrapper kept from its tool is not waited for long."""
        with self._moved:
            while self.begun < self.expected:
                if not self._moved.wait(_interrupts.MISSING):
                    return


@dataclass(slots=True)
class _Entered:
    """One request that came in through ``run`` or ``arun`` and whose body was not reached yet."""

    tool_call_id: str | None
    reply: Reply | None
    config: Any = None
    answers: _interrupts.Answers | None = None
    replayed: list[CallRecord] = field(default_factory=list)

    def answered(self) -> ToolMessage | None:
        """Return the answer that the conversation has to it: then nobody asks for it any more, whoever jumps to the tools (R4)."""
        return self.reply.answered.get(self.tool_call_id or "") if self.reply is not None else None


replying: ContextVar[Reply | None] = ContextVar("surefoot_langgraph_reply", default=None)
_entered: ContextVar[_Entered | None] = ContextVar("surefoot_langgraph_entered", default=None)


def is_tool(target: object) -> bool:
    """Return whether ``target`` is a LangChain tool."""
    return isinstance(target, BaseTool)


def guarded(tool: BaseTool, guard: Guard) -> BaseTool:
    """Return a copy of ``tool`` whose body is governed; same type, schema and interface."""
    binding = getattr(type(tool), "surefoot_binding", None)
    if is_guarded(binding and binding.guard, guard, f"tool {tool.name!r}"):
        return tool
    body = getattr(tool, "func", None) or getattr(tool, "coroutine", None)
    rule = declared_rule(tool, getattr(tool, "func", None), getattr(tool, "coroutine", None))
    guard.register(tool.name, identity(body or type(tool)), rule, partial(_definition, tool))
    _convert.register(guard.codec)
    copy = tool.model_copy()
    copy.__class__ = _class(type(tool), _Binding(guard, _visible(tool)))
    return copy


def _definition(tool: BaseTool) -> list[Any]:
    """Return what the model is told of a tool (AS-10)."""
    schema = tool.tool_call_schema
    if isinstance(schema, dict):
        return [tool.name, tool.description, schema]
    return [tool.name, tool.description, schema.model_json_schema() if issubclass(schema, BaseModel) else schema.schema()]


@dataclass(frozen=True, slots=True)
class _Binding:
    guard: Guard
    defaults: Mapping[str, Any]
    """Parameters that the model can see, with their static defaults."""


def _visible(tool: BaseTool) -> dict[str, Any]:
    schema = tool.tool_call_schema
    if isinstance(schema, dict) or not issubclass(schema, BaseModel):
        schema = schema if isinstance(schema, dict) else schema.schema()
        return {name: spec.get("default", ...) for name, spec in schema.get("properties", {}).items()}
    return {name: ... if info.is_required() else info.default for name, info in schema.model_fields.items()}


def final_arguments(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model can see of a call's arguments, with static defaults filled in and models as data."""
    filled = {name: given.get(name, default) for name, default in defaults.items()}
    return {name: _data(value) for name, value in filled.items() if value is not ...}


def _data(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, list):
        return [_data(item) for item in value]
    return value


def _class(kind: type[BaseTool], binding: _Binding) -> type[BaseTool]:
    """Return a subclass of ``kind`` that looks like it and governs the body."""
    plain, coro = kind._run, kind._arun  # noqa: SLF001 - the extension point of BaseTool

    @functools.wraps(plain)
    def _run(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        entered = _take()
        if entered is None:
            return plain(self, *args, **kwargs)
        frame, request = _request(self, binding, entered, args, kwargs)
        request, body = placed(binding.guard, request, Do(lambda: plain(_at_body(entered, self), *args, **kwargs)))
        with hiding(binding.guard, request):
            value = binding.guard.call(frame, request, body.plain)
        return _answer(entered, value)

    @functools.wraps(coro)
    async def _arun(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        if coro is BaseTool._arun or getattr(self, "coroutine", ...) is None:  # noqa: SLF001 - as above
            return await coro(self, *args, **kwargs)  # it calls _run in a thread, which makes the claim there
        entered = _take()
        if entered is None:
            return await coro(self, *args, **kwargs)
        frame, request = _request(self, binding, entered, args, kwargs)
        request, body = placed(binding.guard, request, Do(lambda: coro(_at_body(entered, self), *args, **kwargs)))
        with hiding(binding.guard, request):
            value = await binding.guard.acall(frame, request, body.coro or body.plain)
        return _answer(entered, value)

    def run(self: BaseTool, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        entered, kwargs["config"] = _enter(binding.guard, kwargs)
        token = _entered.set(entered)
        try:
            with entered.reply.request(pooled=True) if entered.reply else nullcontext():
                return entered.answered() or kind.run(self, tool_input, *args, **kwargs)
        finally:
            _entered.reset(token)

    async def arun(self: BaseTool, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        entered, kwargs["config"] = _enter(binding.guard, kwargs)
        token = _entered.set(entered)
        try:
            with entered.reply.request(pooled=False) if entered.reply else nullcontext():
                return entered.answered() or await kind.arun(self, tool_input, *args, **kwargs)
        finally:
            _entered.reset(token)

    namespace = {
        "surefoot_binding": binding,
        "_run": _run,
        "_arun": _arun,
        "run": functools.wraps(kind.run)(run),
        "arun": functools.wraps(kind.arun)(arun),
    }
    return alike(kind, namespace)


def _enter(guard: Guard, kwargs: Mapping[str, Any]) -> tuple[_Entered, Any]:
    """Return a new request, and the config for it: its own view of the task's interrupts where calls share a task."""
    config = kwargs.get("config")
    reply = replying.get()
    ids = list(reply.positions) if reply is not None and reply.shared else []
    index = ids.index(kwargs["tool_call_id"]) if kwargs.get("tool_call_id") in ids else len(ids)
    mine, answers = _interrupts.own(config, guard, shared=bool(ids), index=index, size=len(ids) + 1)
    return _Entered(kwargs.get("tool_call_id"), reply, config, answers), mine


def _at_body(entered: _Entered, tool: BaseTool) -> BaseTool:
    """Tell the request's view of the interrupts which call it is; return the tool."""
    place = here()
    if entered.answers is not None and isinstance(place, ActiveCall):
        entered.answers.call = place
    return tool


def _take() -> _Entered | None:
    """Return the request that is on its way to this body; a body that calls itself finds none and is not a request."""
    entered = _entered.get()
    if entered is not None:
        _entered.set(None)
        replying.set(None)  # what the body asks for is not in the reply
    return entered


def _request(tool: BaseTool, binding: _Binding, entered: _Entered, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Frame, Request]:
    frame = innermost(here())
    if frame is None:
        msg = f"the guarded tool {tool.name!r} was called outside of a run; call it in a wrapped graph or chain, or use the original tool"
        raise UsageError(msg)
    arguments = final_arguments(binding.defaults, kwargs)
    if args:
        arguments["*"] = [_data(arg) for arg in args]
    reply = entered.reply
    position = reply.positions.get(entered.tool_call_id or "") if reply else None

    def notice(text: str) -> Any:
        return (text, None) if tool.response_format == "content_and_artifact" else text

    def replaying_(record: CallRecord) -> None:
        entered.replayed.append(record)
        if reply is None or not reply.shared:
            _interrupts.consume(entered.config, record)

    alias = entered.tool_call_id
    return frame, Request(tool.name, arguments, tool, alias, position, notice if position else None, replaying_)


def _answer(entered: _Entered, value: Any) -> Any:
    """Return the value, with a replayed one's call ids replaced by the current one."""
    if entered.replayed:
        return _convert.rebound(value, entered.replayed[-1].alias, entered.tool_call_id)
    return value


def node_in(part: Any) -> ToolNode | None:
    """Return the tool node in a node's runnable, whatever it is wrapped in."""
    if isinstance(part, ToolNode):
        return part
    if isinstance(part, RunnableSerializable):
        part = list(vars(part).values())
    if isinstance(part, Mapping):
        part = list(part.values())
    found = (node_in(item) for item in part) if isinstance(part, (list, tuple)) else ()
    return next((node for node in found if node is not None), None)


def reply_of(guard: Guard, node: ToolNode, value: Any, config: Mapping[str, Any]) -> Reply | None:
    """Return the positions of the requests in a tool node's input, or ``None`` where it names no model reply."""
    return reply_in(guard, node.tools_by_name, _messages(node, value, config), _sent(value))


def reply_in(
    guard: Guard, tools: Mapping[str, BaseTool], messages: Sequence[Any], sent: Sequence[Mapping[str, Any]] | None
) -> Reply | None:
    """Return the positions of what a conversation's newest reply asks of these tools; ``sent``: only these calls of it are run."""
    ids = {call["id"] for call in sent or ()}
    message = next((m for m in reversed(messages) if isinstance(m, AIMessage) and _asks(m, ids)), None)
    if message is None:
        return None
    asked = [(call, _asked_digest(guard, tools, call)) for call in message.tool_calls]
    positions: dict[str, Position] = {}
    for index, (call, digest) in enumerate(asked):
        rank = sum(1 for other, same in asked[:index] if other["name"] == call["name"] and same == digest)
        siblings = [same for other, same in asked if other is not call and other["name"] == call["name"]]
        positions.setdefault(call["id"] or "", Position(digest, rank, siblings))
    here_ = message.tool_calls if sent is None else sent
    expected = sum(1 for call in here_ if call["name"] in tools)
    return Reply(positions, sent is None or len(sent) > 1, expected, _answered(messages, message))


def _answered(messages: Sequence[Any], reply: AIMessage) -> dict[str, ToolMessage]:
    since = messages[max(index for index, message in enumerate(messages) if message is reply) + 1 :]
    return {message.tool_call_id: message for message in since if isinstance(message, ToolMessage)}


def _sent(value: Any) -> Sequence[Mapping[str, Any]] | None:
    """Return the calls that a ``Send`` handed over without the reply they stand in; ``None`` where the input has the whole reply."""
    if isinstance(value, dict) and value.get("__type") == "tool_call_with_context":
        return [value["tool_call"]]
    if isinstance(value, list) and value and isinstance(value[-1], dict) and value[-1].get("type") == "tool_call":
        return value
    return None


def _messages(node: ToolNode, value: Any, config: Mapping[str, Any]) -> Sequence[Any]:
    """Return the conversation that a tool node's input carries, or, for calls alone, that its graph holds."""
    key = node._messages_key  # noqa: SLF001 - owner: test_private_names
    if isinstance(value, dict) and value.get("__type") == "tool_call_with_context":
        value = value["state"]
    elif _sent(value) is not None:
        read = config.get("configurable", {}).get(_READ)
        try:
            value = read([key]) if read is not None else {}
        except KeyError:  # a graph without messages: nobody knows the reply
            value = {}
    found = value if isinstance(value, list) else value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
    return found or ()


def _asks(message: AIMessage, ids: set[Any]) -> bool:
    """Return whether the message asks for all of these calls."""
    return ids <= {call["id"] for call in message.tool_calls}


def _asked_digest(guard: Guard, tools: Mapping[str, BaseTool], call: Mapping[str, Any]) -> str:
    tool = tools.get(call["name"])
    binding = getattr(type(tool), "surefoot_binding", None)
    arguments = final_arguments(binding.defaults, call["args"]) if binding else dict(call["args"])
    return guard.codec.digest(arguments)


def guarded_node(node: ToolNode, guard: Guard) -> ToolNode:
    """Return a copy of a tool node that runs guarded tools. Raises :class:`~surefoot.AdapterUnavailable` if it would not."""
    import copy

    mine = copy.copy(node)
    for name in ("_wrap_tool_call", "_awrap_tool_call"):  # owner: test_private_names
        if getattr(mine, name, None) is not None:
            setattr(mine, name, _wrapping(getattr(mine, name), guard))
    tools = {name: guarded(tool, guard) for name, tool in node.tools_by_name.items()}
    try:
        mine._tools_by_name = tools  # noqa: SLF001 - owner: test_private_names
        mine.func, mine.afunc = mine._func, mine._afunc  # noqa: SLF001 - owner: test_private_names
    except AttributeError as exc:
        msg = f"guard not installed: ToolNode of this LangGraph has no {exc.name}; pin the newest release that surefoot names"
        raise AdapterUnavailable(msg) from exc
    bound = inspect.ismethod(mine.func) and mine.func.__self__ is mine
    if not bound or any(mine.tools_by_name.get(name) is not tool for name, tool in tools.items()):
        msg = "guard not installed: this LangGraph's ToolNode keeps its tools elsewhere; pin the newest release that surefoot names"
        raise AdapterUnavailable(msg)
    return mine


def _wrapping(wrapper: Any, guard: Guard) -> Any:
    """Return a tool node's wrapper that hands on guarded tools only, also those that it brings itself."""
    return lambda request, execute: wrapper(request, lambda asked: execute(_own(asked, guard)))


def _own(request: Any, guard: Guard) -> Any:
    """Return a wrapper's request with the tool that it brings, if it brings one, guarded."""
    tool = request.tool
    return request if tool is None or hasattr(type(tool), "surefoot_binding") else request.override(tool=guarded(tool, guard))
