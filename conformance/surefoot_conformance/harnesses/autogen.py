"""AutoGen: assistant agents and teams with a scripted model client. No checkpoints: the same input resumes."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.teams import Swarm
from autogen_agentchat.tools import AgentTool
from autogen_core import FunctionCall
from autogen_core.models import AssistantMessage, FunctionExecutionResultMessage, UserMessage
from autogen_core.tools import FunctionTool

import surefoot
from surefoot_autogen.scripted import Scripted
from surefoot_conformance.harness import Agent, Ask, Harness, Reply, Site, Turn

__all__ = ["AutoGenHarness"]

_TURNS = 20
_LOCKS: dict[int, threading.Lock] = {}


class AutoGenHarness(Harness):
    """An assistant agent; nested, it is another one's tool; handing over, it is one of a swarm.

    AutoGen shows every error of a tool to the model. Where one has to end the run, the model's client raises it on.
    """

    name = "autogen-agentchat"
    distribution = "autogen-agentchat"
    packages = ("surefoot_autogen",)
    has_checkpoints = False  # a saved state is the user's to keep
    has_copies = False  # an agent is its conversation
    has_pausing_streams = False  # a team goes on, read or not
    has_hand_off = has_worker_threads = True

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the agent or the team of the shape."""
        return site.wrap(getattr(self, f"_{agent.shape}")(agent))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run it, in a loop in a thread of its own. An agent holds one conversation, so it is run by one thread at a time."""

        def whole() -> Any:
            with _LOCKS.setdefault(id(target), threading.Lock()):
                return asyncio.run(self.ainvoke(target, turn))

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, whole).result()

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Run it."""
        with surefoot.run(turn.run, thread=turn.thread):
            return await target.run(task=turn.input)

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Yield its messages and events."""
        with surefoot.run(turn.run, thread=turn.thread):
            items = target.run_stream(task=turn.input)
        async for item in items:
            yield item

    def shown(self, raw: Any) -> str:
        """Return what can be seen of a result, or of an item of a stream."""
        if isinstance(raw, TaskResult):
            return repr([[self.shown(message) for message in raw.messages], raw.stop_reason])
        return repr([type(raw).__qualname__, raw.model_dump(mode="json", exclude={"created_at"})])

    def outline(self, target: Any) -> Any:
        """Return type, name, description and the schemas of the tools."""
        tools = asyncio.run(_listed(target)) if isinstance(target, AssistantAgent) else []
        return [*super().outline(target), target.name, target.description, json.dumps(tools)]

    def move_hook_point(self) -> None:
        """Have function tools keep what they run under another name."""

        async def run(self: Any, args: Any, cancellation_token: Any) -> Any:  # noqa: ARG001 - stands in for it
            result = vars(self)["_body"](**args.model_dump())
            return await result if asyncio.iscoroutine(result) else result

        made = FunctionTool.__init__

        def __init__(self: Any, func: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - as above
            made(self, func, *args, **kwargs)
            vars(self)["_body"] = vars(self).pop("_func")

        FunctionTool.run = run  # type: ignore[method-assign] # what a new release might do
        FunctionTool.__init__ = __init__  # type: ignore[method-assign] # as above

    # --- shapes

    def _loop(self, agent: Agent, name: str = "agent", kind: Any = None, **options: Any) -> AssistantAgent:
        errors: list[Exception] = []
        tools: list[Any] = [_Tool(tool.name, tool.function, [] if agent.shows_errors else errors) for tool in agent.tools]
        return AssistantAgent(name, (kind or _Model)(agent, errors), tools=tools, max_tool_iterations=_TURNS, **options)

    def _nested(self, agent: Agent) -> AssistantAgent:
        errors: list[Exception] = []
        delegating = Agent(
            agent.tools,
            lambda given, seen, said: Reply([], seen[0]) if given else Reply([Ask(agent.step, {"task": said})], ""),
            step=agent.step,
        )
        tool = _AgentTool(self._loop(agent, agent.step), errors)
        return AssistantAgent("outer", _Model(delegating, errors), tools=[tool], max_tool_iterations=_TURNS)

    def _hand_off(self, agent: Agent) -> Swarm:
        a = self._loop(agent, "a", _Leaving, handoffs=["b"])
        b = self._loop(Agent([], lambda *_: Reply([Ask("transfer_to_a", {})], "")), "b", handoffs=["a"])
        return Swarm([a, b], termination_condition=TextMessageTermination("a"))


async def _listed(agent: Any) -> list[Any]:
    return [schema for workbench in agent._workbench for schema in await workbench.list_tools()]  # noqa: SLF001 - what a model is told


class _Tool(FunctionTool):
    """A tool that keeps what a call of it raises."""

    def __init__(self, name: str, function: Callable[..., Any], errors: list[Exception]) -> None:
        super().__init__(function, name=name, description=f"Do {name}.")
        self._errors = errors

    async def run(self, args: Any, cancellation_token: Any) -> Any:
        """Run the tool."""
        try:
            return await super().run(args, cancellation_token)
        except Exception as exc:
            self._errors.append(exc)
            raise


class _AgentTool(AgentTool):
    """An agent as a tool that keeps what a call of it raises."""

    def __init__(self, agent: AssistantAgent, errors: list[Exception]) -> None:
        super().__init__(agent, return_value_as_last_message=True)
        self._errors = errors

    async def run_stream(self, args: Any, cancellation_token: Any) -> AsyncGenerator[Any, None]:
        """Run the agent."""
        try:
            async for item in super().run_stream(args, cancellation_token):
                yield item
        except Exception as exc:
            self._errors.append(exc)
            raise


class _Model(Scripted):
    """The suite's scripted model."""

    def __init__(self, agent: Agent, errors: list[Exception]) -> None:
        super().__init__(self._said)
        self._agent, self._errors = agent, errors

    def asked(self, messages: Sequence[Any]) -> Reply:
        """Return the reply to a conversation."""
        newest = max(index for index, message in enumerate(messages) if isinstance(message, UserMessage))
        since, said = messages[newest + 1 :], messages[newest].content
        given = sum(isinstance(message, AssistantMessage) for message in since)
        seen = [result.content for message in since if isinstance(message, FunctionExecutionResultMessage) for result in message.content]
        return self._agent.reply(given, seen, said)

    def _said(self, messages: Sequence[Any]) -> str | list[FunctionCall]:
        if self._errors:
            raise self._errors.pop()
        reply = self.asked(messages)
        calls = [FunctionCall(id=ask.call_id, name=ask.tool, arguments=json.dumps(dict(ask.arguments))) for ask in reply.calls]
        return calls or reply.text


class _Leaving(_Model):
    """Runs the loop on both visits and hands over after the first."""

    def asked(self, messages: Sequence[Any]) -> Reply:
        """Return the reply of the loop since the visit began, or the hand-off."""
        reply = super().asked(messages)
        back = sum(isinstance(message, UserMessage) for message in messages) > 1
        return reply if reply.calls or back else Reply([Ask("transfer_to_b", {})], "")
