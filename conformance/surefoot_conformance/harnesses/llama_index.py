"""LlamaIndex: function agents with a scripted model, a plain workflow for branches. No checkpoints: the same input resumes."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.tools import FunctionTool, ToolSelection
from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent

import surefoot
from surefoot_conformance.harness import Agent, Harness, Reply, Site, Turn

__all__ = ["LlamaIndexHarness"]

_BACK = "Agent a is now handling"


class LlamaIndexHarness(Harness):
    """A function agent; nested, a tool of another one runs it; handing over, it is one of two; branches are a plain workflow's.

    LlamaIndex shows every error of a tool to the model. Where one has to end the run, the model's client raises it on.
    """

    name = "llama-index-core"
    distribution = "llama-index-core"
    packages = ("surefoot_llama_index",)
    has_checkpoints = False  # a snapshot of a context is the user's to take
    has_pausing_streams = False  # a workflow goes on, read or not
    has_hand_off = has_fan_out = has_worker_threads = True

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the workflow of the shape."""
        return site.wrap(getattr(self, f"_{agent.shape}")(agent, site))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run it, in a loop in a thread of its own."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, lambda: asyncio.run(self.ainvoke(target, turn))).result()

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Run it."""
        with surefoot.run(turn.run, thread=turn.thread):
            handler = target.run(user_msg=turn.input)
        return await handler

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Yield its events."""
        with surefoot.run(turn.run, thread=turn.thread):
            handler = target.run(user_msg=turn.input)
        try:
            async for event in handler.stream_events():
                yield event
            await handler
        except asyncio.CancelledError:  # leaving the stream ends nothing by itself
            await handler.cancel_run()
            raise

    def shown(self, raw: Any) -> str:
        """Return what can be seen of a result, or of an event, answers to one reply sorted: the bare framework gives them in any order."""
        return repr([type(raw).__qualname__, _sorted(raw.model_dump(mode="json")) if hasattr(raw, "model_dump") else raw])

    def outline(self, target: Any) -> Any:
        """Return type, names and the schemas of the tools."""
        agents = target.agents.values() if hasattr(target, "agents") else [target]
        return [*super().outline(target), [[agent.name, [_tool(tool) for tool in agent.tools or []]] for agent in agents]]

    def move_hook_point(self) -> None:
        """Have tools keep what they run under another name."""

        async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
            from llama_index.core.tools.types import ToolOutput

            result = self.real_fn(*args, **kwargs)
            result = await result if asyncio.iscoroutine(result) else result
            return ToolOutput(content=str(result), tool_name=self.metadata.name, raw_input=kwargs, raw_output=result)

        FunctionTool.acall = acall  # type: ignore[method-assign] # what a new release might do

    # --- shapes

    def _loop(self, agent: Agent, _site: Site | None = None, name: str = "agent") -> FunctionAgent:
        errors: list[Exception] = []
        return FunctionAgent(name=name, description=name, llm=_Scripted.of(agent, errors), tools=_tools(agent, errors), streaming=False)

    def _nested(self, agent: Agent, site: Site) -> FunctionAgent:
        worker = site.wrap(self._loop(agent, name=agent.step))
        errors: list[Exception] = []

        async def work(input: str) -> str:
            return str(await worker.run(user_msg=input))

        tool = _made(agent.step, work, errors)
        return FunctionAgent(name="outer", llm=_Delegating.of(agent, errors), tools=[tool], streaming=False)

    def _hand_off(self, agent: Agent, _site: Site) -> AgentWorkflow:
        errors: list[Exception] = []
        options: dict[str, Any] = {"streaming": False}
        a = FunctionAgent(name="a", description="a", llm=_Leaving.of(agent, errors), tools=_tools(agent, errors), **options)
        b = FunctionAgent(name="b", description="b", llm=_Returning.of(agent, errors), tools=[], **options)
        return AgentWorkflow(agents=[a, b], root_agent="a")

    def _fan_out(self, agent: Agent, site: Site) -> Workflow:
        first = agent.tools[0]
        return _Branches(site.tool(FunctionTool.from_defaults(fn=first.function, name=first.name, description=first.name)))


class _Branch(Event):
    """A branch."""


class _Done(Event):
    """A branch that has ended, with its text."""

    text: str


class _Branches(Workflow):
    """Two branches with equal inputs, each of which calls a tool from its own code."""

    def __init__(self, tool: Any) -> None:
        super().__init__()
        self._tool = tool

    @step
    async def begin(self, ctx: Context, ev: StartEvent) -> _Branch | None:  # noqa: ARG002 - the framework's signature
        """Begin both."""
        ctx.send_event(_Branch())
        ctx.send_event(_Branch())
        return None

    @step(num_workers=2)
    async def branch(self, ev: _Branch) -> _Done:  # noqa: ARG002 - as above
        """Call the tool."""
        return _Done(text=(await self._tool.acall(amount=5)).content)

    @step
    async def join(self, ctx: Context, ev: _Done) -> StopEvent | None:
        """Wait for both."""
        found = ctx.collect_events(ev, [_Done, _Done])
        return StopEvent(result=[done.text for done in found]) if found else None


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(item) for name, item in value.items()}
    if not isinstance(value, list):
        return value
    found: list[Any] = []
    for answers, group in itertools.groupby(value, key=_is_answer):
        together = list(group)
        if answers:
            together.sort(key=lambda one: repr([one.get("tool_name"), one.get("tool_kwargs"), one.get("blocks")]))
        found += together
    return [_sorted(item) for item in found]


def _is_answer(value: Any) -> bool:
    return isinstance(value, dict) and (value.get("role") == "tool" or "tool_id" in value)


def _tool(tool: Any) -> list[Any]:
    return [type(tool).__qualname__, tool.metadata.name, tool.metadata.description, tool.metadata.get_parameters_dict()]


def _tools(agent: Agent, errors: list[Exception]) -> list[Any]:
    return [_made(entry.name, entry.function, [] if agent.shows_errors else errors) for entry in agent.tools]


class _Tool(FunctionTool):
    """A tool that keeps what a call of it raises."""

    errors: list[Exception]

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """Run the tool."""
        try:
            return await super().acall(*args, **kwargs)
        except Exception as exc:
            self.errors.append(exc)
            raise


def _made(name: str, function: Callable[..., Any], errors: list[Exception]) -> Any:
    made: Any = _Tool.from_defaults(fn=function, name=name, description=name)
    made.errors = errors
    return made


class _Scripted(FunctionCallingLLM):
    """The suite's scripted model."""

    _agent: Agent = PrivateAttr()
    _errors: list[Exception] = PrivateAttr()

    @classmethod
    def of(cls, agent: Agent, errors: list[Exception]) -> Any:
        """Return the model of an agent."""
        made = cls()
        made._agent, made._errors = agent, errors
        return made

    @property
    def metadata(self) -> LLMMetadata:
        """Say that it calls tools."""
        return LLMMetadata(is_function_calling_model=True, is_chat_model=True, model_name="scripted")

    def asked(self, messages: Sequence[ChatMessage]) -> Reply | tuple[str, dict[str, Any], str]:
        """Return the reply to a conversation, or one request of its own."""
        newest = max(index for index, message in enumerate(messages) if message.role == "user")
        return self.reply(messages[newest + 1 :], str(messages[newest].content))

    def reply(self, since: Sequence[ChatMessage], said: str) -> Reply:
        """Return the reply of the script."""
        if self._errors:
            raise self._errors.pop()
        given = sum(message.role == "assistant" for message in since)
        asked = [call["id"] for message in since for call in message.additional_kwargs.get("calls", [])]
        seen = [message for message in since if message.role == "tool"]  # as they ended, not as they were asked for
        seen.sort(key=lambda message: asked.index(message.additional_kwargs["tool_call_id"]))
        return self._agent.reply(given, [str(message.content) for message in seen], said)

    async def achat(self, messages: Sequence[ChatMessage], **_kwargs: Any) -> ChatResponse:
        """Answer."""
        reply = self.asked(messages)
        if isinstance(reply, Reply):
            asked = [(ask.tool, dict(ask.arguments), ask.call_id) for ask in reply.calls]
            text = reply.text
        else:
            asked, text = [reply], ""
        calls = [{"name": name, "arguments": arguments, "id": call_id} for name, arguments, call_id in asked]
        return ChatResponse(message=ChatMessage(role="assistant", content=text, additional_kwargs={"calls": calls}))

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,  # noqa: ARG002, FBT002 - the framework's signature
        **_kwargs: Any,
    ) -> list[ToolSelection]:
        """Return the requests of a reply."""
        calls = response.message.additional_kwargs.get("calls", [])
        return [ToolSelection(tool_id=call["id"], tool_name=call["name"], tool_kwargs=call["arguments"]) for call in calls]

    def _prepare_chat_with_tools(self, tools: Any, user_msg: Any = None, chat_history: Any = None, **_kwargs: Any) -> Any:  # type: ignore[override] # noqa: ARG002 - as above
        return {"messages": list(chat_history or [])}

    def _not_here(self, *_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError

    chat = stream_chat = complete = stream_complete = acomplete = astream_complete = astream_chat = _not_here


class _Delegating(_Scripted):
    """Has its only tool do what it was asked, and then is done."""

    def asked(self, messages: Sequence[ChatMessage]) -> Reply | tuple[str, dict[str, Any], str]:
        """Return the request, or the words at the end."""
        if self._errors:
            raise self._errors.pop()
        if messages[-1].role == "tool":
            return Reply([], str(messages[-1].content))
        return self._agent.step, {"input": str(messages[-1].content)}, "call_delegate"


class _Leaving(_Scripted):
    """Runs the loop on both visits and hands over after the first."""

    def asked(self, messages: Sequence[ChatMessage]) -> Reply | tuple[str, dict[str, Any], str]:
        """Return the reply of the loop since the visit began, or the hand-off."""
        back = max((index for index, message in enumerate(messages) if str(message.content).startswith(_BACK)), default=None)
        first = next(index for index, message in enumerate(messages) if message.role == "user")
        since, said = (messages[first + 1 :], str(messages[first].content)) if back is None else (messages[back + 1 :], "back")
        reply = self.reply(since, said)
        return reply if reply.calls or back is not None else ("handoff", {"to_agent": "b", "reason": "r"}, "call_to_b")


class _Returning(_Scripted):
    """Hands back."""

    def asked(self, messages: Sequence[ChatMessage]) -> Reply | tuple[str, dict[str, Any], str]:  # noqa: ARG002 - as the others
        """Return the hand-off."""
        return "handoff", {"to_agent": "a", "reason": "r"}, "call_to_a"
