"""Rolling back on LangGraph: effects are compensated, the thread's state goes back, and the graph goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.checkpoint.memory import InMemorySaver
from support import Effects, answers, ask, config, hello, planner, react

import surefoot
from surefoot import Call, Guard, InDoubt, NotCommitted, UsageError
from surefoot_recovery import RollbackRefused, undone_on_failure


@pytest.fixture
def guard(store: str) -> Guard:
    """A guard over a new SQLite store."""
    return Guard(store)


def undoable(effects: Effects, name: str, then: Callable[..., Any] | None = None) -> BaseTool:
    """Return a tool that declares how it is undone."""

    def undo(call: Call, value: Any) -> str:
        effects.add(f"undo {name}", call.arguments["amount"], value)
        return "undone"

    undo.__qualname__ = f"undo_{name}"
    return surefoot.tool(effect="unsafe", compensate=undo)(effects.tool(name, then))


def agent(guard: Guard, tools: list[BaseTool], *replies: Any) -> Any:
    """Return a guarded agent with a checkpointer that asks for these calls, one reply after another."""
    plan = planner(*(replies or ([ask("credit", amount=1)], [ask("withdraw", amount=2)])))
    return surefoot.wrap(react(plan, tools).compile(checkpointer=InMemorySaver()), guard=guard)


def newest(guard: Guard) -> Any:
    """Return the newest run that is no rollback."""
    return next(run for run in guard.runs.list() if run.adapter != "rollback")


def did(effects: Effects) -> list[str]:
    """Return the names of all effects, in order."""
    return [effect[0] for effect in effects.all()]


def shown(graph: Any) -> list[tuple[str, Any]]:
    """Return the conversation of the thread, without ids."""
    return [(message.type, message.content) for message in graph.get_state(config("t")).values.get("messages", [])]


def test_as_70_an_error_that_is_tried_again_undoes_nothing(guard: Guard, effects: Effects) -> None:
    """The withdrawal fails, the model asks again and it succeeds: nothing is compensated."""
    failing = [True]

    def then(amount: int) -> str:
        if failing:
            failing.pop()
            raise NotCommitted("closed")
        return f"withdraw {amount}"

    tools = [undoable(effects, "credit"), undoable(effects, "withdraw", then)]
    replies = ([ask("credit", amount=1)], [ask("withdraw", amount=2)], [ask("withdraw", amount=2)])
    plan = planner(*replies)
    graph = surefoot.wrap(react(plan, tools, handle_tool_errors=True).compile(checkpointer=InMemorySaver()), guard=guard)
    with undone_on_failure(guard, thread="t", app=graph):
        graph.invoke(hello(), config("t"))
    assert did(effects) == ["credit", "withdraw", "withdraw"]
    assert newest(guard).status == "completed"


def test_as_70_a_scope_that_finally_fails_is_undone_newest_first(guard: Guard, effects: Effects) -> None:
    """The agent fails after two effects: both are compensated in reverse order, the thread is as before, and nothing says success."""

    def plan(state: Any) -> Any:
        given = sum(isinstance(message, ToolMessage) for message in state["messages"])
        if given == 2:
            raise RuntimeError("no more")
        return {"messages": [AIMessage("", tool_calls=[ask(["credit", "withdraw"][given], amount=given + 1)])]}

    tools = [undoable(effects, "credit"), undoable(effects, "withdraw")]
    graph = surefoot.wrap(react(plan, tools).compile(checkpointer=InMemorySaver()), guard=guard)
    with pytest.raises(RuntimeError, match="no more"), undone_on_failure(guard, thread="t", app=graph):
        graph.invoke(hello(), config("t"))
    assert did(effects) == ["credit", "withdraw", "undo withdraw", "undo credit"]
    assert (newest(guard).status, shown(graph)) == ("compensated", [])


def test_as_71_what_cannot_be_completed_is_refused_before_anything_is_undone(guard: Guard, effects: Effects) -> None:
    """One tool without a compensation refuses the rollback; the effects and the thread's state are as they were."""
    graph = agent(guard, [surefoot.tool(effect="unsafe")(effects.tool("credit")), undoable(effects, "withdraw")])
    graph.invoke(hello(), config("t"))
    before = shown(graph)
    with pytest.raises(RollbackRefused, match="credit declares no compensate="):
        guard.runs.rollback(newest(guard).run_id, by="tester", app=graph)
    assert (did(effects), shown(graph)) == (["credit", "withdraw"], before)


def test_as_72_i18_back_to_a_step_the_state_is_what_it_was_and_the_graph_goes_on(guard: Guard, effects: Effects) -> None:
    """Back to the first payment: the conversation is what it was then, what came later is undone, and going on runs it anew, once."""
    graph = agent(guard, [undoable(effects, "credit"), undoable(effects, "withdraw")])
    states = [shown(graph) for _ in graph.stream(hello(), config("t"), stream_mode="values")]
    full = shown(graph)
    assert states[-1] == full
    run = newest(guard).run_id
    plan = guard.runs.rollback(run, to="tools#1", plan=True, by="tester")
    assert [(item.tool, item.fate) for item in plan.items] == [("withdraw", "compensable")]
    for times in (1, 2):
        undone = guard.runs.rollback(run, to="tools#1", by="tester", app=graph)
        assert (undone.status, shown(graph)) == ("rolled_back", full[:3])
        assert answers(graph.invoke(None, config("t"))) == ["credit 1", "withdraw 2"]
        assert shown(graph) == full
        assert (newest(guard).run_id, newest(guard).status) == (run, "completed")
        assert did(effects) == ["credit", "withdraw", *["undo withdraw", "withdraw"] * times]


def test_as_72_parallel_calls_of_one_step_stay_or_go_together(guard: Guard, effects: Effects) -> None:
    """Three payments of one super-step are one state: back to it all stay, back to before it all are undone."""
    calls = [ask("credit", amount=amount) for amount in (1, 2, 3)]
    graph = agent(guard, [undoable(effects, "credit"), undoable(effects, "withdraw")], calls, [ask("withdraw", amount=4)])
    graph.invoke(hello(), config("t"))
    run = newest(guard).run_id
    guard.runs.rollback(run, to="tools#1", by="tester", app=graph)
    assert (did(effects).count("undo credit"), did(effects)[-1]) == (0, "undo withdraw")
    guard.runs.rollback(run, to="agent#1", by="tester", app=graph)
    assert did(effects)[-3:] == ["undo credit"] * 3
    graph.invoke(None, config("t"))
    assert [did(effects).count(name) for name in ("credit", "withdraw")] == [6, 2]


def test_a_later_turn_is_rolled_back_and_the_earlier_one_stays(guard: Guard, effects: Effects) -> None:
    """All of the second turn undone, the conversation is what the first turn left; the first cannot be undone below the second."""
    graph = agent(guard, [undoable(effects, "credit"), undoable(effects, "withdraw")])
    graph.invoke(hello(), config("t"))
    first, before = newest(guard).run_id, shown(graph)
    graph.invoke(hello(), config("t"))
    with pytest.raises(UsageError, match="stands on it"):
        guard.runs.rollback(first, by="tester", app=graph)
    guard.runs.rollback(newest(guard).run_id, by="tester", app=graph)
    assert shown(graph) == before


def test_the_state_is_the_frameworks_so_the_graph_is_asked_for(guard: Guard, effects: Effects) -> None:
    """Without the graph nothing is undone: its state could not be taken back."""
    graph = agent(guard, [undoable(effects, "credit"), undoable(effects, "withdraw")])
    graph.invoke(hello(), config("t"))
    with pytest.raises(UsageError, match="--app"):
        guard.runs.rollback(newest(guard).run_id, by="tester")
    assert did(effects) == ["credit", "withdraw"]


def test_as_81_a_fork_replays_what_is_before_it_and_asks_about_what_is_after(guard: Guard, effects: Effects) -> None:
    """A branch after the first payment replays it; the same later payment gets the run's answer, another one needs a decision."""
    amounts = [2, 2, 3]

    def plan(state: Any) -> Any:
        given = sum(isinstance(message, ToolMessage) for message in state["messages"])
        calls = [ask("credit", amount=1)] if given == 0 else [ask("withdraw", amount=amounts.pop(0))] if given == 1 else []
        return {"messages": [AIMessage("" if calls else "done", tool_calls=calls)]}

    tools = [undoable(effects, "credit"), undoable(effects, "withdraw")]
    graph = surefoot.wrap(react(plan, tools).compile(checkpointer=InMemorySaver()), guard=guard)
    graph.invoke(hello(), config("t"))
    fork = guard.runs.fork(newest(guard).run_id, at="tools#1", by="tester", app=graph)
    assert answers(graph.invoke(None, fork.invoke)) == ["credit 1", "withdraw 2"]
    assert newest(guard).origin
    with pytest.raises(InDoubt, match="with other arguments"):
        graph.invoke(None, fork.invoke)
    assert did(effects) == ["credit", "withdraw"]
