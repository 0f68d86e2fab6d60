"""What the LangChain tests share: a scripted chat model, tools with effects, an agent and a chain."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

from crash import Effects
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import BaseTool, tool

__all__ = ["Scripted", "agent", "answers", "chain", "charging", "go", "thread"]


def thread(name: str = "t") -> Any:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": name}}


def go() -> Any:
    """Return an ordinary input of an agent."""
    return {"messages": [HumanMessage("go")]}


def answers(result: Any) -> list[str]:
    """Return the texts of the tool messages, in order."""
    return [str(message.content) for message in result["messages"] if isinstance(message, ToolMessage)]


def charging(effects: Effects, then: Callable[[], Any] = lambda: None) -> BaseTool:
    """Return a tool ``charge(amount)`` that has an effect, and then does something."""

    @tool
    def charge(amount: int) -> str:
        """Charge."""
        effects.add("charge", amount)
        then()
        return f"charged {amount}"

    return charge


class Scripted(BaseChatModel):
    """Asks for the n-th list of amounts when it has been answered n times in this turn, and then says done."""

    script: Any
    effects: Any = None

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_kwargs: Any) -> Scripted:
        """Return itself: the script knows its tools."""
        return self

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_kwargs: Any) -> ChatResult:
        said = max(index for index, message in enumerate(messages) if isinstance(message, HumanMessage))
        given = sum(isinstance(message, AIMessage) for message in messages[said:])
        if self.effects is not None:
            self.effects.add("model", given)
        asked = self.script[given] if given < len(self.script) else ()
        calls = [{"name": "charge", "args": {"amount": n}, "id": f"call_{uuid.uuid4().hex[:8]}", "type": "tool_call"} for n in asked]
        return ChatResult(generations=[ChatGeneration(message=AIMessage("" if calls else "done", tool_calls=calls))])


def agent(charge: BaseTool, *script: Sequence[int], effects: Effects | None = None, **options: Any) -> Any:
    """Return an agent of ``create_agent`` whose model asks for these charges."""
    return create_agent(Scripted(script=script, effects=effects), [charge], **options)


def chain(charge: BaseTool, effects: Effects) -> Runnable[Any, Any]:
    """Return a chain: a function, a model, a function that runs the tool that the model asks for."""

    def plan(amount: int) -> list[BaseMessage]:
        effects.add("plan", amount)
        return [HumanMessage(f"charge {amount}")]

    def requested(message: AIMessage) -> dict[str, Any]:
        effects.add("requested")
        return dict(message.tool_calls[0]["args"])

    return RunnableLambda(plan) | Scripted(script=[[5]], effects=effects) | RunnableLambda(requested) | charge
