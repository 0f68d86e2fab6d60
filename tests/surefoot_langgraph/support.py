"""What the LangGraph tests share: effects counted in a file, scripted planners, ordinary small graphs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import crash
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt

__all__ = ["Agent", "Effects", "Scripted", "answers", "ask", "asker", "config", "hello", "planner", "react"]


class Effects(crash.Effects):
    """What really happened, and tools that do it."""

    def tool(self, name: str, then: Callable[..., Any] | None = None) -> BaseTool:
        """Return a tool ``name(amount)`` that has an effect and returns ``"<name> <amount>"``, or what ``then`` does."""

        def body(amount: int = 0) -> Any:
            self.add(name, amount)
            return then(amount) if then is not None else f"{name} {amount}"

        body.__doc__ = f"Do {name}."
        body.__qualname__ = body.__name__ = name
        return tool(body)


def ask(name: str, call_id: str | None = None, **arguments: Any) -> dict[str, Any]:
    """Return one request as a model would make it, with a fresh id unless one is given."""
    return {"name": name, "args": arguments, "id": call_id or f"call_{uuid.uuid4().hex[:8]}", "type": "tool_call"}


def answers(result: Any) -> list[str]:
    """Return the texts of the tool messages, in order."""
    return [str(m.content) for m in result["messages"] if isinstance(m, ToolMessage)]


def hello() -> dict[str, Any]:
    """Return an ordinary input."""
    return {"messages": [HumanMessage("go")]}


def asker(effects: Effects, name: str = "ask_human") -> Any:
    """Return a tool that asks a person and has an effect when the answer is yes."""

    def body(amount: int = 0) -> str:
        answer = interrupt({"name": name, "amount": amount})
        if answer == "yes":
            effects.add(name, amount)
        return f"{name} {amount}: {answer}"

    body.__doc__, body.__name__, body.__qualname__ = "Ask a person.", name, name
    return tool(body)


def planner(*replies: Sequence[dict[str, Any]] | Callable[[], Sequence[dict[str, Any]]]) -> Callable[[Any], dict[str, Any]]:
    """Return a node that asks for the n-th reply's calls when n replies were given before, and then says done."""

    def plan(state: Any) -> dict[str, Any]:
        given = sum(1 for message in state["messages"] if isinstance(message, AIMessage))
        if given >= len(replies):
            return {"messages": [AIMessage("done")]}
        reply = replies[given]
        calls = reply() if callable(reply) else [{**call, "id": f"call_{uuid.uuid4().hex[:8]}"} for call in reply]
        return {"messages": [AIMessage("", tool_calls=list(calls))]}

    return plan


class Scripted(BaseChatModel):
    """A chat model that says what a planner node would say."""

    plan: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_kwargs: Any) -> Scripted:
        """Return itself: the script knows its tools."""
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.plan({"messages": messages})["messages"][0])])


class Agent:
    """An agent of ``create_agent``, whose model follows a planner, as something to compile."""

    def __init__(self, tools: Sequence[Any], plan: Callable[[Any], dict[str, Any]], **options: Any) -> None:
        self._given = (Scripted(plan=plan), tools)
        self._options = options

    def compile(self, **options: Any) -> Any:
        """Create it."""
        return create_agent(*self._given, **self._options, **options)


def react(plan: Callable[..., Any], tools: Sequence[Any], **options: Any) -> StateGraph[Any, Any, Any, Any]:
    """Return an agent loop: plan, run the tools, plan again until nothing is asked for."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("agent", plan)
    builder.add_node("tools", ToolNode(tools, **options))
    builder.add_edge(START, "agent")
    builder.add_conditional_edges("agent", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END])
    builder.add_edge("tools", "agent")
    return builder


def config(thread: str) -> Any:
    """Return the config that names a thread."""
    return {"configurable": {"thread_id": thread}}
