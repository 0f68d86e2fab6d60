"""Function tools: the claim is made at the function that the tool was made of, below the framework's failure handler.

A tool that was made otherwise (by hand, of an MCP server, of an agent) has no such function; its claim is made around its body.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from agents import tool as framework
from agents.tool import FunctionTool

from surefoot import AdapterUnavailable, Effect, NotCommitted, ToolRule, UsageError
from surefoot_adapters import (
    RERUNS,
    Asked,
    Frame,
    Kinds,
    Request,
    declared_rule,
    defaults,
    here,
    identity,
    innermost,
    is_guarded,
    stops,
    storable,
)
from surefoot_openai_agents import _approvals, _convert
from surefoot_openai_agents._invocation import Invocation, Known, active, held, invocation, passing, unheld

if TYPE_CHECKING:
    from surefoot_openai_agents._agents import Binding

__all__ = ["Paused", "check_body", "guarded"]

_IMPL: Final = "_invoke_tool_impl"
_BIND: Final = "__agents_bind_function_tool__"
_MOVED: Final = "guard not installed: function tools of this openai-agents keep their body elsewhere; install a release that surefoot names"
_DECORATED: Final = "the_func"
_NARROW: Final = "_get_function_tool_invoke_context"


class Paused(Exception):
    """The agent inside a call waits for approvals: neither result nor error."""

    def __init__(self, value: Any) -> None:
        super().__init__("waits for approvals")
        self.value = value


@dataclass(eq=False)
class _Cell:
    """What must get past the framework's failure handler, which would make it words for the model."""

    stop: BaseException | None = None


_cell: ContextVar[_Cell | None] = ContextVar("surefoot_openai_agents_cell", default=None)


def guarded(tool: FunctionTool, binding: Binding) -> FunctionTool:
    """Return a copy of a function tool whose body is governed; same schema, policies and interface."""
    known = getattr(tool.on_invoke_tool, "surefoot_binding", None)
    if is_guarded(known and known.guard, binding.guard, f"tool {tool.name!r}"):
        return tool
    mine = copy.copy(tool)
    invoker: Any = mine.on_invoke_tool
    impl = getattr(invoker, _IMPL, None)  # owner: test_private_names
    handled = hasattr(invoker, _BIND)
    if handled and impl is None:
        raise AdapterUnavailable(_MOVED)
    body: Any = impl if handled else invoker
    name = _register(tool, body, binding)
    claiming = _innermost(body)
    within = claiming or _narrowed(tool, body, handled=handled)
    behind = _Governed(binding, name, mine, within, claiming is not None, handled)
    mine.needs_approval = _approvals.needs_approval(tool, binding.guard, name, behind.request)
    governed: Any = functools.wraps(body)(behind.function())
    if handled:
        made: Any = object.__new__(_INVOKERS.of(type(invoker)))
        vars(made).update(vars(invoker), **{_IMPL: governed, "surefoot_binding": binding})
        mine.on_invoke_tool = made
    else:
        mine.on_invoke_tool = governed
        governed.surefoot_binding = binding
    if getattr(mine, "timeout_seconds", None) is not None and mine.timeout_behavior == "error_as_result":
        mine.timeout_error_function = _overdue(binding, name, tool.timeout_error_function)
    if inner := getattr(tool, "_agent_instance", None):  # owner: test_private_names
        mine._agent_instance = binding.agent(inner)  # noqa: SLF001 - as above
    return mine


def check_body(tool: FunctionTool) -> None:
    """Raise :class:`~surefoot.AdapterUnavailable` unless a tool of ``@function_tool`` has its body below its failure handler."""
    if not (hasattr(tool.on_invoke_tool, _IMPL) and hasattr(tool.on_invoke_tool, _BIND)):
        raise AdapterUnavailable(_MOVED)


def _register(tool: FunctionTool, body: Any, binding: Binding) -> str:
    """Make the tool known to the guard; return its qualified name."""
    origin = getattr(tool, "_tool_origin", None)  # owner: test_private_names
    server = getattr(origin, "mcp_server_name", None)
    inner = getattr(tool, "_agent_instance", None)  # owner: test_private_names
    given = inspect.getclosurevars(body).nonlocals.get(_DECORATED, body) if inspect.isfunction(body) else body
    function = inspect.unwrap(given) if inspect.isfunction(body) else body
    rule = declared_rule(tool, function, given)
    name = f"{server}/{tool.name}" if server else str(getattr(tool, "qualified_name", tool.name))
    if server:
        known = f"MCP server {server}"
    elif inner is not None:
        known, rule = f"agent {inner.name}", rule or ToolRule(Effect.COMPOSITE)
    else:
        known = identity(function)
    binding.guard.register(name, known, rule, lambda: [tool.name, tool.description, tool.params_json_schema])
    binding.known[tool.name] = Known(name, defaults(tool.params_json_schema))
    return name


def _narrowed(tool: FunctionTool, body: Callable[..., Any], *, handled: bool) -> Callable[[Any, str], Awaitable[Any]]:
    """Return the body; a plain callable gets the context that the framework would give it, which depends on its annotations."""
    narrow = getattr(framework, _NARROW, None)  # owner: test_private_names
    if handled or narrow is None:
        return body
    return lambda context, text: body(narrow(tool, context), text)


@dataclass(eq=False)
class _Asked(Asked):
    """One request on its way to the body that it is for."""

    ended: BaseException | None = None
    """What a plain call raised in its thread."""

    def original(self, exc: Exception) -> Exception:
        """Return the error itself: of a ``TimeoutError`` that leaves a thread asyncio makes another one."""
        own = self.ended
        return own if isinstance(own, Exception) and type(own) is type(exc) and own.args == exc.args else exc

    def plain(self, body: Callable[[], Any]) -> Any:
        """Run a plain body, in the thread that is this call's own."""
        try:
            return super().plain(body)
        except BaseException as exc:
            self.ended = exc
            raise

    def stopped_by(self, exc: BaseException) -> bool:
        """Return whether an error stops the run: not an answer of the tool, but surefoot's, here or in an agent that the body ran."""
        return unheld(exc) is not exc if self.is_answer(exc) else stops(exc)


_asked: ContextVar[_Asked | None] = ContextVar("surefoot_openai_agents_asked", default=None)


def _take() -> _Asked:
    """Return the request that is on its way to this body; what the body calls by itself is another one."""
    asked = _asked.get()
    if asked is None:
        raise UsageError("the body of a guarded tool was called past its tool; call the tool, or the original function")
    _asked.set(None)
    return asked


def _claiming(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a tool's function whose calls are claimed where it runs: of a plain one that is a thread, which may outlive its caller."""
    if inspect.iscoroutinefunction(function):

        async def coro(*args: Any, **kwargs: Any) -> Any:
            return await _take().coro(lambda: function(*args, **kwargs))

        return coro

    def plain(*args: Any, **kwargs: Any) -> Any:
        return _take().plain(lambda: function(*args, **kwargs))

    return plain


def _innermost(body: Any) -> Any | None:
    """Return a tool's body whose own function claims; ``None`` for a body that is not made of a function by the framework."""
    names = body.__code__.co_freevars if inspect.isfunction(body) else ()
    if _DECORATED not in names:
        return None
    closure: tuple[CellType, ...] = body.__closure__ or ()
    cells = [CellType(_claiming(cell.cell_contents)) if name == _DECORATED else cell for name, cell in zip(names, closure, strict=True)]
    made = FunctionType(body.__code__, body.__globals__, body.__name__, body.__defaults__, tuple(cells))
    made.__kwdefaults__ = body.__kwdefaults__
    return functools.update_wrapper(made, body)


@dataclass(frozen=True, slots=True)
class _Governed:
    """One tool's body behind the guard."""

    binding: Binding
    name: str
    tool: FunctionTool
    body: Callable[[Any, str], Awaitable[Any]]
    claims: bool
    """The body's own function makes the claim; else it is made around the body."""
    handled: bool
    """The framework's failure handler stands around it."""

    def function(self) -> Callable[[Any, str], Awaitable[Any]]:
        """Return a function: the framework looks at its signature."""

        async def invoke(ctx: Any, input: str) -> Any:
            return await self._invoke(ctx, input)

        return invoke

    async def _invoke(self, ctx: Any, text: str) -> Any:
        given = _convert.arguments(text)
        if given is None:
            return await self.body(ctx, text)  # the framework refuses it
        asked: _Asked | None = None
        try:
            asked = await self._request(ctx, given)
            return await self._answer(asked, ctx, text)
        except Paused as exc:
            return exc.value
        except Exception as exc:
            own = exc if asked is None else asked.original(exc)
            if asked is not None and not asked.stopped_by(own):
                if own is exc:
                    raise
                raise own from own.__cause__
            stop = held(own)
            cell = _cell.get() if self.handled else None
            if cell is None:
                raise stop from None
            cell.stop = stop
            return None

    async def _answer(self, asked: _Asked, ctx: Any, text: str) -> Any:
        if not self.claims:
            return await asked.coro(lambda: self._paused(ctx, text))
        token = _asked.set(asked)
        try:
            return await self.body(ctx, text)
        finally:
            _asked.reset(token)

    async def _paused(self, ctx: Any, text: str) -> Any:
        """Run the body; of an agent that waits for approvals the value is no result."""
        value, place = await self.body(ctx, text), active()
        if place is not None and place.call.call_id in self.binding.paused:
            self.binding.paused.discard(place.call.call_id)
            raise Paused(value)
        return value

    async def _request(self, ctx: Any, given: dict[str, Any]) -> _Asked:
        """Return what is asked for, and the frame to claim it in, once the input guardrails have let it through."""
        current = invocation.get()
        if current is None:
            frame = innermost(here())
            if frame is None:
                msg = f"the guarded tool {self.name!r} was called outside of a run; run the wrapped agent, or use the original tool"
                raise UsageError(msg)
        else:
            frame = await current.frame_here()
            if Effect(self.binding.guard.rule(self.name).effect) is not Effect.READ and not passing.get():
                await current.gate.passed()
        alias = getattr(ctx, "tool_call_id", None)
        request = self._named(current, alias, given)
        if current is not None and alias:
            current.asked[alias] = (frame, request)
        guard = self.binding.guard
        return _Asked(guard, frame, request, lambda value: storable(guard.codec, value, _convert.Shown))

    async def request(self, alias: str, given: dict[str, Any]) -> tuple[Frame, Request]:
        """Return the frame that a request of the model will be claimed in, and the request as its body will make it."""
        current = invocation.get()
        if current is None:
            raise UsageError(f"the guarded tool {self.name!r} was asked about outside of a run; run the wrapped agent")
        return await current.frame_here(), self._named(current, alias, given)

    def _named(self, current: Invocation | None, alias: str | None, given: dict[str, Any]) -> Request:
        arguments = _convert.final_arguments(self.binding.known[self.tool.name].defaults, given)
        position = current.position(alias) if current is not None and alias else None
        return Request(self.name, arguments, self.tool, alias, position, str if position else None)


def _invoker(kind: type) -> dict[str, Any]:
    """Return what a guarded failure-handling invoker does otherwise than the framework's own."""
    bare: Any = kind

    async def __call__(self: Any, ctx: Any, input: str) -> Any:  # noqa: N807 - overrides it
        cell = _Cell()
        token = _cell.set(cell)
        try:
            value = await bare.__call__(self, ctx, input)
        finally:
            _cell.reset(token)
        if cell.stop is not None:
            raise cell.stop
        return value

    __call__.__annotations__ = {}  # the framework would parse such texts at every call, to see which context is meant

    def __agents_bind_function_tool__(self: Any, function_tool: Any) -> Any:  # noqa: N807 - the framework's name
        bound = bare.__agents_bind_function_tool__(self, function_tool)
        if bound is self:
            return self
        made: Any = object.__new__(type(self))
        vars(made).update(vars(bound), surefoot_binding=self.surefoot_binding)
        return made

    return {"__call__": __call__, "__agents_bind_function_tool__": __agents_bind_function_tool__}


_INVOKERS = Kinds(_invoker)


def _overdue(binding: Binding, name: str, given: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a formatter of the framework's timeout that says what is known: an effect may still land (R12)."""

    async def overdue(ctx: Any, error: Any) -> str:
        text = given(ctx, error) if given is not None else _timeout_text(error)
        text = await text if inspect.isawaitable(text) else text
        current = invocation.get()
        asked = current.asked.get(getattr(ctx, "tool_call_id", "")) if current is not None else None
        if asked is None or Effect(binding.guard.rule(name).effect) in RERUNS:
            return str(text)
        try:
            known = await binding.guard.acall(*asked, _never)
        except NotCommitted:
            return str(text)
        except Exception as exc:
            if stops(exc):
                raise held(exc) from None
            raise
        return f"{text} {known}"

    return overdue


def _timeout_text(error: Any) -> str:
    return framework.default_tool_timeout_error_message(tool_name=error.tool_name, timeout_seconds=error.timeout_seconds)


async def _never() -> Any:
    raise NotCommitted("its time was over before its body was entered")
