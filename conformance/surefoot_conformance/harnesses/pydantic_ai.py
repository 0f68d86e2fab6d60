"""Pydantic AI: agents of the framework with its own scripted model. No checkpoints: the same input resumes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from pydantic_ai import Agent as Bare
from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import FunctionToolset
from pydantic_core import to_jsonable_python

import surefoot
from surefoot_conformance.harness import Agent, Ask, Harness, Reply, Site, Turn

__all__ = ["PydanticAIHarness"]


class PydanticAIHarness(Harness):
    """One agent with function tools; nested, it is run in a tool of another agent."""

    name = "pydantic-ai-slim"
    distribution = "pydantic-ai-slim"
    packages = ("surefoot_pydantic_ai", "surefoot_journal")
    has_checkpoints = False
    has_worker_threads = True

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the agent of the shape."""
        loop = _loop(agent)
        return site.wrap(loop) if agent.shape == "loop" else site.wrap(_nested(agent, site.wrap(loop)))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run it on the synchronous face, which the framework refuses inside of a plain tool: there it takes a loop."""
        with surefoot.run(turn.run, thread=turn.thread):
            return target.run_sync(turn.input) if surefoot.current_call() is None else asyncio.run(target.run(turn.input))

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Run it asynchronously."""
        with surefoot.run(turn.run, thread=turn.thread):
            return await target.run(turn.input)

    def stream(self, target: Any, turn: Turn) -> Iterator[Any]:
        """Run it and yield its texts."""
        with surefoot.run(turn.run, thread=turn.thread):
            streamed = target.run_stream_sync(turn.input)
        with streamed as result:
            yield from result.stream_text(delta=True, debounce_by=None)
            yield result.get_output()

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Run it and yield its events."""
        with surefoot.run(turn.run, thread=turn.thread):
            async with target.run_stream_events(turn.input) as events:
                async for event in events:
                    yield event

    def shown(self, raw: Any) -> str:
        """Return what can be seen of a result, of an event or of a text."""
        if hasattr(raw, "all_messages_json"):
            return repr([raw.output, json.loads(raw.all_messages_json()), raw.usage])
        result = getattr(raw, "result", None)
        return self.shown(result) if hasattr(result, "all_messages_json") else repr([type(raw).__name__, to_jsonable_python(raw)])

    def outline(self, target: Any) -> Any:
        """Return type, name and the schemas of the tools."""
        found: list[FunctionToolset[Any]] = []
        for toolset in target.toolsets:
            toolset.apply(lambda leaf: found.append(leaf) if isinstance(leaf, FunctionToolset) else None)
        tools = [[tool.name, tool.description, tool.function_schema.json_schema] for leaf in found for tool in leaf.tools.values()]
        return [*super().outline(target), target.name, target.output_json_schema(), tools]

    def move_hook_point(self) -> None:
        """Have function toolsets call the functions of their tools past what they are handed."""

        async def call_tool(self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:  # noqa: ARG001 - stands in for it
            return await self.tools[name].function_schema.call(tool_args, ctx)

        moved: Any = FunctionToolset
        moved.call_tool = call_tool


class _Shown(AbstractCapability[Any]):
    """Shows to the model what a tool raises."""

    async def on_tool_execute_error(self, ctx: RunContext[Any], **about: Any) -> Any:  # noqa: ARG002 - the framework's signature
        """Return the error as words."""
        return f"error: {about['error']}"


def _loop(agent: Agent) -> Bare[Any, str]:
    made: Bare[Any, str] = Bare(_model(agent), name=agent.step, capabilities=[_Shown()] if agent.shows_errors else [])
    for tool in agent.tools:
        made.tool_plain(name=tool.name)(tool.function)
    return made


def _nested(agent: Agent, worker: Any) -> Bare[Any, str]:
    """Return an agent whose only tool runs the other one."""
    delegating = Agent(
        agent.tools,
        lambda given, seen, said: Reply([], seen[0]) if given else Reply([Ask(agent.step, {"words": said})], ""),
        step=agent.step,
    )
    outer: Bare[Any, str] = Bare(_model(delegating), name="outer")

    @outer.tool_plain(name=agent.step)
    async def work(words: str) -> str:
        """Have the work done."""
        return str((await worker.run(words)).output)

    return outer


def _model(agent: Agent) -> FunctionModel:
    def reply(messages: list[ModelMessage], _info: object) -> ModelResponse:
        found = _reply(agent, messages)
        calls: list[Any] = [ToolCallPart(ask.tool, dict(ask.arguments), tool_call_id=ask.call_id) for ask in found.calls]
        return ModelResponse(calls or [TextPart(found.text)])

    async def stream(messages: list[ModelMessage], _info: object) -> AsyncIterator[Any]:
        found = _reply(agent, messages)
        for number, ask in enumerate(found.calls):
            yield {number: DeltaToolCall(name=ask.tool, json_args=json.dumps(dict(ask.arguments)), tool_call_id=ask.call_id)}
        if not found.calls:
            yield found.text

    return FunctionModel(reply, stream_function=stream, model_name="scripted")


def _reply(agent: Agent, messages: Sequence[ModelMessage]) -> Reply:
    """Return what the script says to what was said since the newest words of the user."""
    newest = max(index for index, message in enumerate(messages) if any(isinstance(part, UserPromptPart) for part in message.parts))
    (prompt, *_) = [part.content for part in messages[newest].parts if isinstance(part, UserPromptPart)]
    since = messages[newest + 1 :]
    seen = [str(part.content) for message in since for part in message.parts if isinstance(part, ToolReturnPart)]
    given = sum(isinstance(message, ModelResponse) for message in since)
    return agent.reply(given, seen, prompt if isinstance(prompt, str) else str(prompt[-1]))
