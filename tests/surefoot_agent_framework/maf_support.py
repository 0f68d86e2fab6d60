"""What the tests of the Microsoft Agent Framework adapter share: a model that says what it is told to, and ways to run an agent."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from agent_framework import Agent, AgentResponse, Content, FunctionInvocationContext, FunctionMiddleware, FunctionTool, Message
from crash import Effects

from surefoot import ErrorClass, Guard, StepOutput, Verdict, Verifier
from surefoot_agent_framework.scripted import Scripted

__all__ = ["FACES", "NoSorry", "ainvoke", "asks", "cashier", "events", "failing", "invoke", "model", "payer", "script"]

FACES = ["run", "stream", "response"]
"""Ways to run an agent: ``run``; its stream, read to the end; its stream's ``get_final_response`` alone."""

Reply = Callable[[list[str], Sequence[Message]], Any]


def asks(tool: str, **given: Any) -> Content:
    """Return a request for a tool, with a fresh id, as real models give."""
    return Content.from_function_call(call_id=f"call_{uuid.uuid4().hex[:8]}", name=tool, arguments=json.dumps(given))


def model(reply: Reply, effects: Effects | None = None, name: str = "model") -> Scripted:
    """Return a client whose reply depends on the conversation alone, as a restarted process needs it.

    ``reply`` is given the texts that tools have answered to the newest words of the user, and the messages. Every question is
    counted in the effects file, where there is one.
    """

    def answer(messages: Sequence[Message]) -> Any:
        if effects is not None:
            effects.add("model", name)
        newest = max((index for index, one in enumerate(messages) if one.role == "user"), default=0)
        since = [content for one in messages[newest:] for content in one.contents]
        return reply([str(content.result) for content in since if content.type == "function_result"], messages)

    return Scripted(answer)


def script(*replies: Any, effects: Effects | None = None, name: str = "model") -> Scripted:
    """Return a client that gives these replies, one for each number of answers of tools."""
    after: dict[int, Any] = {}
    for number, reply in enumerate(replies):
        after[sum(len(earlier) for earlier in replies[:number] if not isinstance(earlier, str))] = reply
    return model(lambda answered, _messages: after[max(n for n in after if n <= len(answered))], effects, name)


def cashier(said: Scripted, *tools: Any, name: str = "cashier", **options: Any) -> Agent[Any]:
    """Return an agent with these tools."""
    return Agent(said, name=name, tools=list(tools), **options)


async def ainvoke(agent: Any, given: Any = "order 7", face: str = "run", **options: Any) -> AgentResponse[Any]:
    """Run an agent on one face and return its response."""
    if face == "run":
        found: AgentResponse[Any] = await agent.run(given, **options)
        return found
    stream = agent.run(given, stream=True, **options)
    if face == "stream":
        async for _update in stream:
            pass
    response: AgentResponse[Any] = await stream.get_final_response()
    return response


def invoke(agent: Any, given: Any = "order 7", face: str = "run", **options: Any) -> str:
    """Run an agent on one face, in a loop of its own, and return what it says."""
    return asyncio.run(ainvoke(agent, given, face, **options)).messages[-1].text


def payer(effects: Effects, **options: Any) -> FunctionTool:
    """Return a tool that pays."""

    async def pay(amount: int, currency: str = "EUR") -> str:
        effects.add("pay", amount, currency)
        return f"paid {amount}"

    return FunctionTool(name="pay", description="Pay.", func=pay, **options)


def failing(effects: Effects) -> Scripted:
    """Return a client that asks for a payment and fails, once, when it is told of it."""
    failed: list[bool] = []

    def reply(answered: list[str], _messages: Any) -> Any:
        if not answered:
            return [asks("pay", amount=5)]
        if not failed:
            failed.append(True)
            raise ConnectionError("HTTP 500")
        return answered[0]

    return model(reply, effects)


class NoSorry(Verifier):
    """Rejects an apology."""

    def verify(self, output: StepOutput) -> Verdict:
        """Judge."""
        return Verdict.failed(ErrorClass.INCOMPLETE, "Say what was paid.") if "sorry" in str(output.output) else Verdict.passed()


def events(guard: Guard, kind: str) -> list[dict[str, Any]]:
    """Return what was evented under that name, over all runs."""
    return [dict(event.data) for run in guard.runs.list() for event in guard.runs.events(run.run_id) if event.type == kind]


class Again(FunctionMiddleware):
    """A user's middleware that calls each tool twice, as a retry would."""

    async def process(self, context: FunctionInvocationContext, call_next: Any) -> None:
        """Call it, and again."""
        await call_next()
        await call_next()
