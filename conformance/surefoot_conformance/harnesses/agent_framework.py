"""Microsoft Agent Framework: agents with a scripted chat client. No checkpoints: the same input resumes."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agent_framework import Agent as Bare
from agent_framework import AgentResponse, Content, FunctionInvocationContext, FunctionMiddleware, FunctionTool, Message
from agent_framework.exceptions import ToolException

import surefoot
from surefoot_agent_framework.scripted import Scripted
from surefoot_conformance.harness import Agent, Ask, Harness, Reply, Site, Turn

__all__ = ["AgentFrameworkHarness"]


class AgentFrameworkHarness(Harness):
    """One agent with function tools; nested, it is another one's tool.

    The framework shows every error of a tool to the model. Where one has to end the run, the client raises it on.
    """

    name = "agent-framework-core"
    distribution = "agent-framework-core"
    packages = ("surefoot_agent_framework", "surefoot_journal")
    has_checkpoints = False  # a session is the user's to keep
    has_worker_threads = True

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the agent of the shape."""
        loop = _loop(agent)
        return site.wrap(loop if agent.shape == "loop" else _nested(agent, loop))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run it, in a loop of its own, in a thread of its own where one is running."""

        def whole() -> Any:
            return asyncio.run(self.ainvoke(target, turn))

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, whole).result()

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Run it."""
        with surefoot.run(turn.run, thread=turn.thread):
            return await target.run(turn.input)

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Yield its updates, and its response."""
        with surefoot.run(turn.run, thread=turn.thread):
            stream = target.run(turn.input, stream=True)
        async for update in stream:
            yield update
        yield await stream.get_final_response()

    def shown(self, raw: Any) -> str:
        """Return what can be seen of a response, or of an update."""
        return json.dumps([type(raw).__qualname__, raw.text, raw.to_dict(), isinstance(raw, AgentResponse)], sort_keys=True, default=str)

    def outline(self, target: Any) -> Any:
        """Return type, name, client and what the model is told of the tools."""
        tools = [tool.to_json_schema_spec() for tool in target.default_options["tools"]]
        return [*super().outline(target), target.name, type(target.client).__qualname__, json.dumps(tools)]

    def move_hook_point(self) -> None:
        """Have function tools keep what they run under another name."""

        async def invoke(self: Any, *, arguments: Any = None, context: Any = None, tool_call_id: Any = None, **_given: Any) -> Any:  # noqa: ARG001 - stands in for it
            result = vars(self)["func"](**dict(arguments or context.arguments))
            return self.parse_result(await result if asyncio.iscoroutine(result) else result)

        FunctionTool.invoke = invoke  # type: ignore[method-assign] # what a new release might do


class _Raising(FunctionMiddleware):
    """Keeps what a call of a tool raises."""

    def __init__(self, errors: list[Exception]) -> None:
        self._errors = errors

    async def process(self, context: FunctionInvocationContext, call_next: Callable[[], Awaitable[None]]) -> None:  # noqa: ARG002 - the framework's signature
        """Run the tool."""
        try:
            await call_next()
        except Exception as exc:
            self._errors.append(exc)
            raise


class _Showing(FunctionMiddleware):
    """Shows to the model what a call of a tool raises: by itself the framework says that it failed."""

    async def process(self, context: FunctionInvocationContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Run the tool."""
        try:
            await call_next()
        except ToolException:
            raise
        except Exception as exc:  # noqa: BLE001 - as words
            context.result = f"error: {exc}"


def _made(agent: Agent, name: str, tools: Sequence[Any]) -> Bare[Any]:
    errors: list[Exception] = []

    def reply(messages: Sequence[Message]) -> str | list[Content]:
        if errors:
            raise errors.pop()
        found = _reply(agent, messages)
        return [_call(ask) for ask in found.calls] or found.text

    middleware = _Showing() if agent.shows_errors else _Raising(errors)
    return Bare(Scripted(reply), name=name, tools=tools, middleware=[middleware])


def _loop(agent: Agent) -> Bare[Any]:
    tools = [FunctionTool(name=tool.name, description=f"Do {tool.name}.", func=tool.function) for tool in agent.tools]
    return _made(agent, agent.step, tools)


def _nested(agent: Agent, worker: Bare[Any]) -> Bare[Any]:
    """Return an agent whose only tool is the other one."""
    delegating = Agent(
        agent.tools,
        lambda given, seen, said: Reply([], seen[0]) if given else Reply([Ask(agent.step, {"task": said})], ""),
        step=agent.step,
    )
    return _made(delegating, "outer", [worker.as_tool()])


def _call(ask: Ask) -> Content:
    return Content.from_function_call(call_id=ask.call_id, name=ask.tool, arguments=json.dumps(dict(ask.arguments)))


def _reply(agent: Agent, messages: Sequence[Message]) -> Reply:
    """Return what the script says to what was said since the newest words of the user."""
    newest = max(index for index, message in enumerate(messages) if message.role == "user")
    since = messages[newest + 1 :]
    seen = [str(content.result) for message in since for content in message.contents if content.type == "function_result"]
    given = sum(message.role == "assistant" for message in since)
    return agent.reply(given, seen, messages[newest].text)
