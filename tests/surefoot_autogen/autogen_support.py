"""What the tests of the AutoGen adapter share: a model that says what it is told to, and ways to run an agent or a team."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import Response, TaskResult
from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import FunctionExecutionResultMessage, UserMessage
from crash import Effects

from surefoot_autogen.scripted import Scripted

__all__ = ["FACES", "Model", "asks", "cashier", "failing", "invoke", "payer", "plan", "script", "text_of"]

FACES = ["run", "stream", "messages"]
"""Ways to run an agent: ``run``, ``run_stream``, ``on_messages``. A team has the first two."""

Reply = Callable[[list[str], Sequence[Any]], Any]


def asks(tool: str, **given: Any) -> FunctionCall:
    """Return a request for a tool, with a fresh id, as real models give."""
    return FunctionCall(id=f"call_{uuid.uuid4().hex[:8]}", name=tool, arguments=json.dumps(given))


class Model(Scripted):
    """A model whose reply depends on the conversation alone, as a restarted process needs it.

    ``reply`` is given the texts that tools have answered to the newest words of the user, and the messages; it returns words or
    requests. Every question is counted in the effects file, where there is one.
    """

    def __init__(self, reply: Reply, effects: Effects | None = None, name: str = "model") -> None:
        def answer(messages: Sequence[Any]) -> Any:
            if effects is not None:
                effects.add("model", name)
            newest = max((index for index, one in enumerate(messages) if isinstance(one, UserMessage)), default=0)
            since = [one for one in messages[newest:] if isinstance(one, FunctionExecutionResultMessage)]
            return reply([result.content for one in since for result in one.content], messages)

        super().__init__(answer)


def plan(*replies: Any) -> Reply:
    """Return what gives these replies, one for each number of answers of tools."""
    after: dict[int, Any] = {}
    for number, reply in enumerate(replies):
        after[sum(len(earlier) for earlier in replies[:number] if not isinstance(earlier, str))] = reply
    return lambda answered, _messages: after[max(n for n in after if n <= len(answered))]


def script(*replies: Any, effects: Effects | None = None, name: str = "model") -> Model:
    """Return a model that gives these replies."""
    return Model(plan(*replies), effects, name)


def cashier(model: Any, *tools: Any, name: str = "cashier", **options: Any) -> AssistantAgent:
    """Return an agent with these tools."""
    return AssistantAgent(name, model, tools=list(tools) or None, **{"max_tool_iterations": 10, **options})


def text_of(result: Any) -> str:
    """Return what a result says."""
    return str(result.messages[-1].content if isinstance(result, TaskResult) else result.chat_message.content)


async def ainvoke(target: Any, given: Any = "order 7", face: str = "run", **options: Any) -> Any:
    """Run an agent or a team on one face and return its result."""
    if face == "run":
        return await target.run(task=given, **options)
    if face == "messages":
        response: Response = await target.on_messages([TextMessage(content=given, source="user")], CancellationToken())
        return response
    return [item async for item in target.run_stream(task=given, **options)][-1]


def invoke(target: Any, given: Any = "order 7", face: str = "run", **options: Any) -> str:
    """Run an agent or a team on one face, in a loop of its own, and return what it says."""
    return text_of(asyncio.run(ainvoke(target, given, face, **options)))


def payer(effects: Effects) -> Any:
    """Return a tool that pays."""

    async def pay(amount: int, currency: str = "EUR") -> str:
        """Pay."""
        effects.add("pay", amount, currency)
        return f"paid {amount}"

    return pay


def failing(effects: Effects) -> Model:
    """Return a model that asks for a payment and fails, once, when it is told of it."""
    failed: list[bool] = []

    def reply(answered: list[str], _messages: Any) -> Any:
        if not answered:
            return [asks("pay", amount=5)]
        if not failed:
            failed.append(True)
            raise ConnectionError("HTTP 500")
        return answered[0]

    return Model(reply, effects)
