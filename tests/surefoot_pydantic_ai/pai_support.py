"""What the tests of the Pydantic AI adapter share: a model that says what it is told to, and ways to run an agent."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from crash import Effects
from pydantic_ai import Agent, AgentRunResultEvent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from surefoot import Guard

__all__ = ["FACES", "asks", "cashier", "events", "invoke", "model", "run_sync", "says", "script"]

FACES = ["sync", "async", "events", "stream", "iter"]
"""Ways to run an agent: ``run_sync``, ``run``, ``run_stream_events``, ``run_stream``, ``iter``."""

Reply = Callable[[list[str], Sequence[ModelMessage]], list[Any]]


def asks(tool: str, **given: Any) -> ToolCallPart:
    """Return a request for a tool, with a fresh id, as real models give."""
    return ToolCallPart(tool, given, tool_call_id=f"call_{uuid.uuid4().hex[:8]}")


def says(text: str) -> TextPart:
    """Return words of the model."""
    return TextPart(text)


def model(reply: Reply, effects: Effects | None = None, name: str = "model") -> FunctionModel:
    """Return a model whose reply depends on the conversation alone, as a restarted process needs it.

    ``reply`` is given the texts that tools have answered to the newest words of the user, and the messages. Every question is
    counted in the effects file, where there is one.
    """

    def answer(messages: list[ModelMessage]) -> list[Any]:
        if effects is not None:
            effects.add("model", name)
        newest = max((i for i, one in enumerate(messages) if any(isinstance(part, UserPromptPart) for part in one.parts)), default=0)
        since = [part for message in messages[newest:] for part in message.parts]
        return reply([str(part.content) for part in since if isinstance(part, ToolReturnPart)], messages)

    def whole(messages: list[ModelMessage], _info: object) -> ModelResponse:
        return ModelResponse(answer(messages))

    async def streamed(messages: list[ModelMessage], _info: object) -> AsyncIterator[Any]:
        for number, part in enumerate(answer(messages)):
            if isinstance(part, TextPart):
                for word in part.content.split(" "):
                    yield f"{word} "
            else:
                yield {number: DeltaToolCall(name=part.tool_name, json_args=json.dumps(part.args), tool_call_id=part.tool_call_id)}

    return FunctionModel(whole, stream_function=streamed, model_name=name)


def script(*replies: list[Any], effects: Effects | None = None, name: str = "model") -> FunctionModel:
    """Return a model that gives these replies, one for each number of answers of tools."""
    after: dict[int, list[Any]] = {}
    for number, reply in enumerate(replies):
        after[sum(isinstance(item, ToolCallPart) for earlier in replies[:number] for item in earlier)] = reply
    return model(lambda answered, _messages: after[max(n for n in after if n <= len(answered))], effects, name)


def cashier(said: FunctionModel, *tools: Callable[..., Any], **options: Any) -> Agent[Any, Any]:
    """Return an agent with these functions as tools."""
    return Agent(said, name="cashier", tools=tools, **options)


def run_sync(agent: Any, *args: Any, **options: Any) -> Any:
    """Run an agent on the synchronous face, in a loop that is closed: the framework leaves it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return agent.run_sync(*args, **options)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def invoke(agent: Any, given: Any = "order 7", face: str = "async", **options: Any) -> Any:
    """Run an agent on one face and return its output."""
    if face == "sync":
        return run_sync(agent, given, **options).output

    async def whole() -> Any:
        if face == "async":
            return (await agent.run(given, **options)).output
        if face == "events":
            async with agent.run_stream_events(given, **options) as streamed:
                (last,) = [event async for event in streamed if isinstance(event, AgentRunResultEvent)]
            return last.result.output
        if face == "stream":
            async with agent.run_stream(given, **options) as streaming:
                return await streaming.get_output()
        async with agent.iter(given, **options) as run:
            async for _node in run:
                pass
        return run.result.output

    found = asyncio.run(whole())
    return found.strip() if isinstance(found, str) else found


def events(guard: Guard, kind: str) -> list[dict[str, Any]]:
    """Return what was evented under that name, over all runs."""
    return [dict(event.data) for run in guard.runs.list() for event in guard.runs.events(run.run_id) if event.type == kind]
