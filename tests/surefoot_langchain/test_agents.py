"""Agents of ``create_agent`` that are wrapped: LangChain's own runs, and what its middleware decides is what happens.

What they have in common with other graphs is tested with these (``surefoot_langgraph``).
"""

from __future__ import annotations

from typing import Any

import pytest
from crash import Effects
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, hook_config
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from lc_support import agent, answers, charging, go, thread

import surefoot
from surefoot import Guard
from surefoot_langchain import SurefootMiddleware


class Jump(AgentMiddleware[Any, Any]):
    """Goes straight to the tools, as documented."""

    @hook_config(can_jump_to=["tools"])
    def after_model(self, state: Any, runtime: Any) -> Any:
        """Jump."""
        return {"jump_to": "tools"} if [m for m in state["messages"] if isinstance(m, AIMessage)][-1].tool_calls else None


def test_a_built_agent_is_langchains(guard: Guard, effects: Effects) -> None:
    """The run of a wrapped agent is recorded as LangChain's; the agent keeps its type and its drawing."""
    bare = agent(charging(effects), [5])
    wrapped = surefoot.wrap(bare, guard=guard)
    assert answers(wrapped.invoke(go())) == ["charged 5"]
    assert [run.adapter for run in guard.runs.list()] == ["langchain"]
    assert (type(wrapped).__name__, wrapped.get_graph().draw_mermaid()) == (type(bare).__name__, bare.get_graph().draw_mermaid())


@pytest.mark.parametrize("how", ["wrapped", "middleware"])
@pytest.mark.parametrize("face", ["sync", "async"])
async def test_r4_a_rejected_call_is_not_executed(how: str, face: str, guard: Guard, effects: Effects) -> None:
    """R4: a person rejects a charge, another middleware jumps to the tools: it is not charged, and the rejection stays its answer."""
    hitl = HumanInTheLoopMiddleware(interrupt_on={"charge": True})
    inside = [SurefootMiddleware(guard)] if how == "middleware" else []
    made = agent(charging(effects), [82000], middleware=[Jump(), hitl, *inside], checkpointer=InMemorySaver())
    target = made if inside else surefoot.wrap(made, guard=guard)
    rejected: Any = Command(resume={"decisions": [{"type": "reject", "message": "too much"}]})
    if face == "sync":
        target.invoke(go(), thread())
        state = target.invoke(rejected, thread())
    else:
        await target.ainvoke(go(), thread())
        state = await target.ainvoke(rejected, thread())
    assert effects.count("charge") == 0
    (told,) = answers(state)
    assert "too much" in told
    assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]


def test_r4_only_the_rejected_one_is_left_out(guard: Guard, effects: Effects) -> None:
    """R4: of two charges one is approved and one rejected: the approved one happens, once."""
    hitl = HumanInTheLoopMiddleware(interrupt_on={"charge": True})
    target = surefoot.wrap(agent(charging(effects), [5, 6], middleware=[Jump(), hitl], checkpointer=InMemorySaver()), guard=guard)
    target.invoke(go(), thread())
    state = target.invoke(Command(resume={"decisions": [{"type": "approve"}, {"type": "reject"}]}), thread())
    assert effects.all() == [["charge", 5]]
    assert sorted(message.status for message in state["messages"] if isinstance(message, ToolMessage)) == ["error", "success"]
