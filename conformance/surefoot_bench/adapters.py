"""Agents of frameworks, beside the same agents wrapped, over the store without I/O."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import surefoot
from surefoot_bench.plan import Plan, Side, interleaved
from surefoot_bench.results import Result, Skip, Target, extra

__all__ = ["adapters"]

_TURNS: Final = 30
"""Turns a run: each asks for one call."""
_PART: Final = 2
"""One turn for so many calls of a round."""
_TARGET: Final = Target("ratio", "<", 0.15)


def adapters(plan: Plan) -> Iterator[Result]:
    """Measure what wrapping adds to a turn, with one call of a tool in it, over the memory store, in processor time.

    Raises :class:`Skip` where none of the frameworks is installed.
    """
    known = {
        "agent_framework": _agent_framework,
        "agents": _openai_agents,
        "autogen_agentchat": _autogen,
        "crewai": _crewai,
        "semantic_kernel": _semantic_kernel,
        "workflows": _llama_index,
        "pydantic_ai": _pydantic_ai,
        "langchain": _langchain,
    }
    found = [make for name, make in known.items() if importlib.util.find_spec(name) is not None]
    if not found:
        raise Skip("no framework is installed; install one of surefoot's extras, like 'surefoot[openai-agents]'")
    for make in found:
        with _quiet(), surefoot.Guard("memory://") as guard, asyncio.Runner() as runner:
            name, sides = make(guard, runner)
            number = max(_TURNS, plan.calls // _PART)
            figures = interleaved(plan, {side: (run, number) for side, run in sides.items()})
        yield extra(f"adapters/{name}, added", figures["wrapped"], "the same, bare; a turn with one call", figures["bare"], _TARGET)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the guard has to say of a scripted agent out of the figures, and what frameworks warn of in themselves."""
    logger = logging.getLogger("surefoot")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _side(run: Callable[[str], None]) -> Side:
    """Return a side whose operation is one turn; every run has a name of its own."""
    names = itertools.count(1)

    def turns(number: int) -> float:
        runs = max(1, number // _TURNS)
        begun = time.process_time()
        for _ in range(runs):
            with surefoot.run(f"run {next(names)}"):
                run("Charge every order.")
        return (time.process_time() - begun) / (runs * _TURNS)

    return turns


def _agent_framework(guard: surefoot.Guard, runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    from agent_framework import Agent, Content, FunctionTool

    from surefoot_agent_framework.scripted import Scripted

    def reply(messages: Any) -> Any:
        given = sum(message.role == "tool" for message in messages)
        asked = json.dumps({"order": f"order-{given:04}", "cents": 1999})
        return "done" if given == _TURNS else [Content.from_function_call(call_id=f"call_{given}", name="charge", arguments=asked)]

    async def charge(order: str, cents: int) -> str:
        """Charge an order."""
        return f"charged {cents} for {order}"

    tool = FunctionTool(name="charge", description="Charge an order.", func=charge)
    bare = Agent(Scripted(reply), name="cashier", instructions="Charge what is asked for.", tools=[tool])

    def side(agent: Any) -> Side:
        return _side(lambda words: runner.run(_done(agent.run(words))))

    return "agent-framework-core", {"bare": side(bare), "wrapped": side(surefoot.wrap(bare, guard=guard))}


def _openai_agents(guard: surefoot.Guard, runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, function_tool
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    class Scripted(Model):
        """Asks for one call a turn, then is done."""

        async def get_response(self, system_instructions: Any, input: Any, *_args: Any, **_kwargs: Any) -> ModelResponse:  # noqa: A002, ARG002 - their names
            """Return the next request."""
            given = 0 if isinstance(input, str) else sum(item.get("type") == "function_call_output" for item in input)
            if given == _TURNS:
                text = ResponseOutputText(type="output_text", text="done", annotations=[])
                output: Any = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
            else:
                asked = json.dumps({"order": f"order-{given:04}", "cents": 1999})
                output = ResponseFunctionToolCall(type="function_call", name="charge", arguments=asked, call_id=f"call_{given}")
            return ModelResponse(output=[output], usage=Usage(requests=1), response_id=None)

        def stream_response(self, *_args: Any, **_kwargs: Any) -> Any:
            """Do not stream."""
            raise NotImplementedError

    @function_tool
    async def charge(order: str, cents: int) -> str:
        """Charge an order."""
        return f"charged {cents} for {order}"

    bare: Agent[Any] = Agent(name="cashier", instructions="Charge what is asked for.", model=Scripted(), tools=[charge])
    config = RunConfig(tracing_disabled=True)

    def side(agent: Agent[Any]) -> Side:
        return _side(lambda words: runner.run(_done(Runner.run(agent, words, max_turns=_TURNS + 2, run_config=config))))

    return "openai-agents", {"bare": side(bare), "wrapped": side(surefoot.wrap(bare, guard=guard))}


async def _done(result: Any) -> None:
    await result


def _autogen(guard: surefoot.Guard, runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_core import CancellationToken, FunctionCall
    from autogen_core.models import FunctionExecutionResultMessage

    from surefoot_autogen.scripted import Scripted

    def reply(messages: Any) -> Any:
        given = sum(isinstance(message, FunctionExecutionResultMessage) for message in messages)
        asked = json.dumps({"order": f"order-{given:04}", "cents": 1999})
        return "done" if given == _TURNS else [FunctionCall(id=f"call_{given}", name="charge", arguments=asked)]

    async def charge(order: str, cents: int) -> str:
        """Charge an order."""
        return f"charged {cents} for {order}"

    def side(*, wrapped: bool) -> Side:
        agent = AssistantAgent("cashier", Scripted(reply), tools=[charge], max_tool_iterations=_TURNS + 2)
        made = surefoot.wrap(agent, guard=guard) if wrapped else agent

        async def run(words: str) -> None:
            await made.run(task=words)
            await made.on_reset(CancellationToken())  # else it is one conversation

        return _side(lambda words: runner.run(run(words)))

    return "autogen-agentchat", {"bare": side(wrapped=False), "wrapped": side(wrapped=True)}


def _crewai(guard: surefoot.Guard, _runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false"}
    os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="surefoot-bench-")
    from crewai import Agent, BaseLLM, Crew, Task
    from crewai.tools import tool

    class Scripted(BaseLLM):  # type: ignore[misc] # CrewAI is not there for the type checker
        """Asks for one call a turn, then is done."""

        def call(self, messages: Any, *_args: Any, **_kwargs: Any) -> Any:
            """Return the next request."""
            given = sum(message["role"] == "tool" for message in messages)
            if given == _TURNS:
                return "done"
            asked = json.dumps({"order": f"order-{given:04}", "cents": 1999})
            return [{"id": f"call_{given}", "type": "function", "function": {"name": "charge", "arguments": asked}}]

        def supports_function_calling(self) -> bool:
            """Call tools natively."""
            return True

        def get_context_window_size(self) -> int:
            """Return a size that nothing here reaches."""
            return 1_000_000

    def side(*, wrapped: bool) -> Side:
        def charge(order: str, cents: int) -> str:
            """Charge an order."""
            return f"charged {cents} for {order}"

        made_tool = tool("charge")(charge)
        made_tool.cache_function = lambda *_: False
        clerk = Agent(role="clerk", goal="serve", backstory="b", llm=Scripted(model="script"), tools=[made_tool], max_iter=_TURNS + 5)
        crew = Crew(agents=[clerk], tasks=[Task(description="Charge.", expected_output="done", agent=clerk)])
        made = surefoot.wrap(crew, guard=guard) if wrapped else crew
        return _side(lambda _words: made.kickoff())

    return "crewai", {"bare": side(wrapped=False), "wrapped": side(wrapped=True)}


def _llama_index(guard: surefoot.Guard, runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.base.llms.types import ChatMessage, TextBlock, ToolCallBlock
    from llama_index.core.llms.mock import MockFunctionCallingLLM

    def script(messages: Any, **_options: Any) -> ChatMessage:
        given = sum(message.role == "tool" for message in messages)
        if given == _TURNS:
            return ChatMessage(role="assistant", blocks=[TextBlock(text="done")])
        asked = {"order": f"order-{given:04}", "cents": 1999}
        return ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id=f"call_{given}", tool_name="charge", tool_kwargs=asked)])

    async def charge(order: str, cents: int) -> str:
        """Charge an order."""
        return f"charged {cents} for {order}"

    model = MockFunctionCallingLLM(response_generator=script)
    bare = FunctionAgent(name="cashier", system_prompt="Charge what is asked for.", llm=model, tools=[charge], streaming=False)

    def side(agent: Any) -> Side:
        async def run(words: str) -> None:
            await agent.run(user_msg=words, max_iterations=_TURNS + 2)

        return _side(lambda words: runner.run(run(words)))

    return "llama-index-core", {"bare": side(bare), "wrapped": side(surefoot.wrap(bare, guard=guard))}


def _pydantic_ai(guard: surefoot.Guard, runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    from pydantic_ai import Agent, UsageLimits
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import FunctionModel

    def script(messages: Any, _info: object) -> ModelResponse:
        given = sum(isinstance(part, ToolReturnPart) for message in messages for part in message.parts)
        if given == _TURNS:
            return ModelResponse([TextPart("done")])
        return ModelResponse([ToolCallPart("charge", {"order": f"order-{given:04}", "cents": 1999}, tool_call_id=f"call_{given}")])

    async def charge(order: str, cents: int) -> str:
        """Charge an order."""
        return f"charged {cents} for {order}"

    bare = Agent(FunctionModel(script), name="cashier", instructions="Charge what is asked for.", tools=[charge])

    def side(agent: Any) -> Side:
        return _side(lambda words: runner.run(_done(agent.run(words, usage_limits=UsageLimits(request_limit=_TURNS + 2)))))

    return "pydantic-ai-slim", {"bare": side(bare), "wrapped": side(surefoot.wrap(bare, guard=guard))}


def _langchain(guard: surefoot.Guard, runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    from langchain.agents import create_agent
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, ToolMessage
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.tools import tool

    class Scripted(BaseChatModel):
        """Asks for one call a turn, then is done."""

        @property
        def _llm_type(self) -> str:
            return "scripted"

        def bind_tools(self, *_args: Any, **_kwargs: Any) -> Any:
            """Return itself: the script knows its tool."""
            return self

        def _generate(self, messages: Any, *_args: Any, **_kwargs: Any) -> ChatResult:
            given = sum(isinstance(message, ToolMessage) for message in messages)
            asked = {"name": "charge", "args": {"order": f"order-{given:04}", "cents": 1999}, "id": f"call_{given}", "type": "tool_call"}
            done = AIMessage("done") if given == _TURNS else AIMessage("", tool_calls=[asked])
            return ChatResult(generations=[ChatGeneration(message=done)])

    @tool
    async def charge(order: str, cents: int) -> str:
        """Charge an order."""
        return f"charged {cents} for {order}"

    bare: Any = create_agent(Scripted(), [charge], system_prompt="Charge what is asked for.")

    def side(agent: Any) -> Side:
        def run(words: str) -> None:
            runner.run(_done(agent.ainvoke({"messages": [("user", words)]}, {"recursion_limit": 3 * _TURNS})))

        return _side(run)

    return "langchain", {"bare": side(bare), "wrapped": side(surefoot.wrap(bare, guard=guard))}


def _semantic_kernel(guard: surefoot.Guard, runner: asyncio.Runner) -> tuple[str, dict[str, Side]]:
    from semantic_kernel import Kernel
    from semantic_kernel.agents import ChatCompletionAgent
    from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
    from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
    from semantic_kernel.contents import ChatMessageContent, FunctionCallContent
    from semantic_kernel.functions import kernel_function

    class Scripted(ChatCompletionClientBase):  # type: ignore[misc] # Semantic Kernel is not there for the type checker
        """Asks for one call a turn, then is done."""

        SUPPORTS_FUNCTION_CALLING = True

        async def _inner_get_chat_message_contents(self, chat_history: Any, settings: Any) -> list[Any]:  # noqa: ARG002 - their names
            given = sum(message.role == "tool" for message in chat_history.messages)
            if given == _TURNS:
                return [ChatMessageContent(role="assistant", content="done")]
            asked = json.dumps({"order": f"order-{given:04}", "cents": 1999})
            return [
                ChatMessageContent(role="assistant", items=[FunctionCallContent(id=f"call_{given}", name="bank-charge", arguments=asked)])
            ]

    @kernel_function  # type: ignore[untyped-decorator] # as above
    async def charge(order: str, cents: int) -> str:
        """Charge an order."""
        return f"charged {cents} for {order}"

    kernel = Kernel(services=Scripted(ai_model_id="script"))
    kernel.add_function("bank", charge)
    calls = FunctionChoiceBehavior.Auto(maximum_auto_invoke_attempts=_TURNS + 2)
    bare = ChatCompletionAgent(kernel=kernel, name="cashier", instructions="Charge what is asked for.", function_choice_behavior=calls)

    def side(agent: Any) -> Side:
        return _side(lambda words: runner.run(_done(agent.get_response(words))))

    return "semantic-kernel", {"bare": side(bare), "wrapped": side(surefoot.wrap(bare, guard=guard))}
