"""LangChain: agents of ``create_agent`` with a scripted chat model, and LangGraph's own SQLite checkpointers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ToolRetryMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.errors import GraphBubbleUp

from surefoot_conformance.harness import NOTHING, Agent, Site, Turn
from surefoot_conformance.harnesses.langgraph import LangGraphHarness, model_of, tools_of

__all__ = ["LangChainHarness"]


class LangChainHarness(LangGraphHarness):
    """An agent; nested, it is a node of a graph."""

    name = "langchain"
    distribution = "langchain"
    packages = ("surefoot_langchain", "surefoot_langgraph")
    has_hand_off = has_fan_out = False  # LangGraph's, and certified there

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Invoke the agent; calls run in tasks of their own, so an answer names its question."""
        return super().invoke(target, turn if turn.answer is NOTHING else _to_one(turn, target.get_state(_config(turn))))

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Invoke it asynchronously."""
        return await super().ainvoke(target, turn if turn.answer is NOTHING else _to_one(turn, await target.aget_state(_config(turn))))

    def touch(self, target: Any, turn: Turn) -> None:
        """Update the state with nothing, as the model's node."""
        target.update_state(_config(turn), {"messages": []}, as_node="model")

    def _loop(self, agent: Agent, site: Site) -> Any:  # noqa: ARG002 - shapes have one signature
        return _Made(agent)


def _config(turn: Turn) -> Any:
    return {"configurable": {"thread_id": turn.thread}}


def _to_one(turn: Turn, state: Any) -> Turn:
    """Return a turn that answers the first question that waits."""
    return replace(turn, answer={state.interrupts[0].id: turn.answer})


class _Made:
    """An agent that is made when it is known which checkpointer it has."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def compile(self, **options: Any) -> Any:
        """Make it."""
        middleware: list[AgentMiddleware[Any, Any]] = [_Shows()] if self._agent.shows_errors else []
        if self._agent.retries:
            retries = ToolRetryMiddleware(
                max_retries=self._agent.retries, retry_on=(ConnectionError,), on_failure="error", initial_delay=0.001, jitter=False
            )
            middleware.append(retries)
        return create_agent(_Scripted(said=model_of(self._agent)), tools_of(self._agent), middleware=middleware, **options)


class _Shows(AgentMiddleware[Any, Any]):
    """Shows the model what a tool raises."""

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        """Run the tool."""
        try:
            return handler(request)
        except GraphBubbleUp:
            raise
        except Exception as exc:  # noqa: BLE001 - the model is to see it, whatever it is
            return _shown(request, exc)

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        """Run the tool."""
        try:
            return await handler(request)
        except GraphBubbleUp:
            raise
        except Exception as exc:  # noqa: BLE001 - the model is to see it, whatever it is
            return _shown(request, exc)


def _shown(request: Any, exc: Exception) -> ToolMessage:
    return ToolMessage(f"error: {exc}", name=request.tool_call["name"], tool_call_id=request.tool_call["id"], status="error")


class _Scripted(BaseChatModel):
    """The suite's scripted model."""

    said: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_kwargs: Any) -> _Scripted:  # noqa: ARG002 - the script knows its tools
        """Return itself."""
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_kwargs: Any) -> ChatResult:  # noqa: ARG002 - LangChain's signature
        return ChatResult(generations=[ChatGeneration(message=self.said({"messages": messages})["messages"][0])])
