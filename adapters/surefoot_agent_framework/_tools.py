"""Tools: a view whose function makes the claim, below all middleware and whatever the framework makes of what is raised."""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from agent_framework import FunctionInvocationContext, FunctionTool, RawAgent
from pydantic import BaseModel

from surefoot import Guard, SurefootError
from surefoot_adapters import Asked, Frame, Kinds, Request, declared_rule, here, innermost, view
from surefoot_agent_framework import _convert
from surefoot_agent_framework._invocation import Invocation, invocation

__all__ = ["functions", "guarded", "is_function", "register"]


def is_function(tool: Any) -> bool:
    """Return whether a tool is called in this process; others run at the provider."""
    return isinstance(tool, FunctionTool)


def functions(tools: Any) -> list[FunctionTool]:
    """Return those tools that are called in this process."""
    return [tool for tool in tools or () if isinstance(tool, FunctionTool)]


def register(guard: Guard, tool: FunctionTool, server: str | None = None) -> str:
    """Make a tool known to the guard; return its qualified name."""
    function: Any = tool.func
    candidates = [] if function is None else [inspect.unwrap(function), function]
    where: Any = next((one for one in candidates if hasattr(one, "__qualname__")), type(tool))
    identity = f"MCP server {server}" if server else f"{where.__module__}.{where.__qualname__}"
    qualified = f"{server}/{tool.name}" if server else tool.name
    rule = declared_rule(tool, *candidates)
    guard.register(qualified, identity, rule, functools.cache(lambda: [tool.name, tool.description, tool.parameters()]))
    return qualified


def guarded(tools: Sequence[Any], current: Invocation) -> list[Any]:
    """Return the tools of a request, each that is called in this process guarded and known to the guard."""
    known = current.guard.unclassified()
    found = [_guarded(tool, current) if isinstance(tool, FunctionTool) else tool for tool in tools]
    if current.guard.unclassified() != known:
        current.guard.announce(f"agent {current.agent}")
    return found


def _guarded(tool: FunctionTool, current: Invocation) -> FunctionTool:
    if _TOOLS.made(type(tool)):
        return tool
    server = next((one.name for one in current.servers if any(tool is function for function in one.functions)), None)
    current.known[tool.name] = register(current.guard, tool, server)
    current.tools[tool.name] = functools.partial(_convert.final_arguments, tool)
    return view(tool, _TOOLS)


@dataclass(eq=False)
class _Asked:
    """One request on its way to the body that it is for."""

    frame: Frame
    tool: FunctionTool
    call_id: str | None
    current: Invocation
    loop: asyncio.AbstractEventLoop
    arrived: bool = False
    """It is at the body: what the body itself calls is no request of a model."""
    raised: list[BaseException] = field(default_factory=list)
    """What the body raised."""
    thrown: BaseException | None = None
    """What came of it."""

    @functools.cached_property
    def function(self) -> Callable[..., Any] | None:
        """The tool's function, which makes the claim."""
        bare = vars(self.tool)["func"]
        if bare is None:
            return None
        function = _entering(bare, self.current.guard)

        @functools.wraps(bare)
        async def coro(*args: Any, **kwargs: Any) -> Any:
            return await self.claimed(kwargs, functools.partial(function, *args, **kwargs))

        @functools.wraps(bare)
        def plain(*args: Any, **kwargs: Any) -> Any:
            """Make the claim where the function is called: in a thread, which may outlive its caller, or in the loop's."""
            body = functools.partial(function, *args, **kwargs)
            return self.claimed(kwargs, body) if _in_loop() else self.drive(kwargs, body)

        made = bare.func if isinstance(bare, FunctionTool) else bare
        return coro if inspect.iscoroutinefunction(made) else plain

    def drive(self, given: Mapping[str, Any], body: Callable[[], Any]) -> Any:
        """Claim the call in this thread and run its body; what that returns to be awaited is awaited in the loop of the run."""

        async def awaited(value: Awaitable[Any]) -> Any:
            return await value

        def whole() -> Any:
            value = body()
            return asyncio.run_coroutine_threadsafe(awaited(value), self.loop).result() if inspect.isawaitable(value) else value

        with self._noting():
            return self._asking(given).plain(whole)

    async def claimed(self, given: Mapping[str, Any], body: Callable[[], Any]) -> Any:
        """Claim the call and run its body in the loop."""

        async def whole() -> Any:
            value = body()
            return await value if inspect.isawaitable(value) else value

        with self._noting():
            return await self._asking(given).coro(whole)

    def _asking(self, given: Mapping[str, Any]) -> Asked:
        """Return the request as its function is called."""
        self.arrived = True
        codec = self.current.guard.codec
        found = {name: value for name, value in given.items() if not isinstance(value, FunctionInvocationContext)}
        position = self.current.position(self.call_id) if self.frame is self.current.frame else None
        notice = _convert.Words if position else None
        final = _convert.filled(self.tool, found)
        request = Request(self.current.known[self.tool.name], final, self.tool, self.call_id, position, notice)
        return Asked(self.current.guard, self.frame, request, functools.partial(_convert.storable, codec, self.tool), self.raised)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Note what must end the run: the framework makes words for the model of whatever comes out of a tool."""
        current = self.current
        try:
            yield
        except BaseException as exc:
            self.thrown = exc
            own = any(exc is one for one in self.raised) and not any(exc is one for one in current.inner)
            if isinstance(exc, SurefootError) and not own:
                if self.frame is current.frame:
                    current.stop(exc)
                else:
                    current.inner.append(exc)
            raise


_asked: ContextVar[_Asked | None] = ContextVar("surefoot_agent_framework_asked", default=None)
"""The call that is on its way to a tool's body."""


def _in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _entering(function: Any, guard: Guard) -> Any:
    """Return the function of an agent's ``as_tool`` with the agent guarded; any other one as it is."""
    code = getattr(function, "__code__", None)
    if code is None or "self" not in code.co_freevars or function.__globals__.get("__name__") != RawAgent.__module__:
        return function
    from surefoot_agent_framework import _agents  # an agent has tools, and a tool has an agent

    cells = list(function.__closure__)
    index = code.co_freevars.index("self")
    if not isinstance(agent := cells[index].cell_contents, RawAgent):
        return function
    cells[index] = types.CellType(_agents.guarded(agent, guard))
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, tuple(cells))
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _namespace(kind: type) -> dict[str, Any]:
    """Return what a guarded tool does otherwise than the framework's own."""
    bare: Any = kind
    is_own = bare.invoke is not FunctionTool.invoke

    @functools.wraps(bare.invoke)
    async def invoke(self: Any, **given: Any) -> Any:
        current, frame = invocation.get(), innermost(here())
        if current is None or frame is None:
            return await bare.invoke(self, **given)
        asked = _Asked(frame, self, given.get("tool_call_id"), current, asyncio.get_running_loop())
        token = _asked.set(asked)
        try:
            if is_own:  # it need not come to any function
                return await asked.claimed(_given(given), functools.partial(bare.invoke, self, **given))
            return await bare.invoke(self, **given)
        except TimeoutError as exc:
            raise asked.thrown or exc  # noqa: B904 - the very error: asyncio makes another one of what leaves a thread
        finally:
            _asked.reset(token)

    def func(self: Any) -> Any:
        asked = _asked.get()
        return vars(self)["func"] if asked is None or asked.tool is not self or asked.arrived else asked.function

    def result_parser(self: Any) -> Any:
        parser = vars(self)["result_parser"]
        return functools.partial(_parsed, parser) if callable(parser) else parser

    return {"invoke": invoke, "func": _kept_in_dict(func), "result_parser": _kept_in_dict(result_parser)}


def _kept_in_dict(get: Callable[[Any], Any]) -> property:
    """Return a property whose value stands in the object's ``__dict__``, which a view shares with its tool."""

    def put(self: Any, value: Any) -> None:
        vars(self)[get.__name__] = value

    return property(get, put)


def _parsed(parser: Callable[[Any], Any], value: Any) -> Any:
    """Return what a tool's own parser makes of a result; words for the model, and what it made before, as they are."""
    return value if isinstance(value, _convert.Words | _convert.Parsed) else parser(value)


def _given(given: Mapping[str, Any]) -> dict[str, Any]:
    found = given.get("arguments")
    if found is None:
        found = getattr(given.get("context"), "arguments", None)
    return found.model_dump(exclude_unset=True) if isinstance(found, BaseModel) else dict(found or {})


_TOOLS: Final = Kinds(_namespace)
