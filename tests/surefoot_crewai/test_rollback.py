"""Rolling back crews, whose tasks are steps; and what counts as the same call. Effects are counted in a file that tools write."""

from __future__ import annotations

from typing import Any

import pytest
from crewai import Task
from crewai.tools import tool
from crews import Effects, agent, ask, crew

import surefoot
from surefoot import Call, Guard, NotCommitted, ToolRule
from surefoot_recovery import RollbackRefused, undone_on_failure


def rules(guard: Guard, effects: Effects, *names: str, without: str = "") -> Guard:
    """Return a guard over the same store whose tools say how they are undone."""

    def undo(call: Call, value: Any) -> str:
        effects.add(f"undo {call.tool}", call.arguments["amount"], value)
        return "undone"

    made = {name: ToolRule(effect="unsafe", compensate=None if name == without else undo) for name in names}
    return Guard(guard.store, tools=made)


def did(effects: Effects) -> list[str]:
    """Return the names of all effects, in order."""
    return [str(effect[0]) for effect in effects.all()]


def newest(guard: Guard) -> Any:
    """Return the newest run that is no rollback."""
    return next(run for run in guard.runs.list() if run.adapter != "rollback")


def transfer(guard: Guard, effects: Effects, *last: Any) -> Any:
    """Return a crew of two tasks, each of which moves money; the last model also says what is given here."""
    first = agent([ask("credit", amount=1)], "credited", tools=[effects.tool("credit")], role="first")
    said = last or ([ask("withdraw", amount=2)], "withdrawn")
    second = agent(*said, tools=[effects.tool("withdraw")], role="second")
    tasks = [
        Task(name=name, description=f"{name} it", expected_output="done", agent=who) for name, who in (("fetch", first), ("send", second))
    ]
    return surefoot.wrap(crew(first, second, tasks=tasks), guard=guard)


def boom(_messages: Any) -> Any:
    """Be a model that fails."""
    raise RuntimeError("HTTP 500")


def test_as_70_an_error_that_is_tried_again_undoes_nothing(guard: Guard, effects: Effects) -> None:
    """The withdrawal fails, the model is shown that and asks again: it succeeds, and nothing is compensated."""
    guard = rules(guard, effects, "credit", "withdraw")
    fails = [True]

    def then(amount: int) -> str:
        if fails:
            fails.pop()
            raise NotCommitted("closed")
        return f"withdraw {amount}"

    tools = [effects.tool("credit"), effects.tool("withdraw", then)]
    clerk = agent([ask("credit", amount=1)], [ask("withdraw", amount=2)], [ask("withdraw", amount=2)], "done", tools=tools)
    with undone_on_failure(guard, "t-7"):
        surefoot.wrap(crew(clerk), guard=guard).kickoff()
    assert (did(effects), newest(guard).status) == (["credit", "withdraw", "withdraw"], "completed")


def test_as_70_a_scope_that_finally_fails_is_undone_newest_first(guard: Guard, effects: Effects) -> None:
    """The second model fails after both effects: they are compensated in reverse order, once each, and the run is ``compensated``."""
    guard = rules(guard, effects, "credit", "withdraw")
    made = transfer(guard, effects, [ask("withdraw", amount=2)], boom)
    with pytest.raises(Exception, match="HTTP 500"), undone_on_failure(guard, "t-7"):
        made.kickoff()
    assert did(effects) == ["credit", "withdraw", "undo withdraw", "undo credit"]
    assert newest(guard).status == "compensated"


def test_as_71_as_72_the_plan_lists_refuses_and_leaves(guard: Guard, effects: Effects) -> None:
    """What cannot be undone refuses the rollback before anything is; with ``partial`` it is left, and the next run does not repeat it."""
    guard = rules(guard, effects, "credit", "withdraw", without="withdraw")
    with surefoot.run("t-7"):
        transfer(guard, effects).kickoff()
    run = newest(guard).run_id
    plan = guard.runs.rollback(run, plan=True, by="tester")
    assert [(item.tool, item.fate) for item in plan.items] == [("withdraw", "irreversible"), ("credit", "compensable")]
    with pytest.raises(RollbackRefused, match="withdraw declares no compensate="):
        guard.runs.rollback(run, by="tester")
    assert did(effects) == ["credit", "withdraw"]
    guard.runs.rollback(run, partial=True, by="tester")
    with surefoot.run("t-7"):
        assert transfer(guard, effects).kickoff().raw == "withdrawn"
    assert did(effects) == ["credit", "withdraw", "undo credit", "credit"]


def test_as_72_running_forward_replays_what_stays_and_runs_what_was_undone(guard: Guard, effects: Effects) -> None:
    """Back to the first task and kicked off again: its output is replayed, the second task asks its model and its tool anew, once."""
    guard = rules(guard, effects, "credit", "withdraw")
    with surefoot.run("t-7"):
        transfer(guard, effects).kickoff()
    run = newest(guard).run_id
    undone = guard.runs.rollback(run, to="fetch", by="tester")
    assert (undone.status, did(effects)) == ("rolled_back", ["credit", "withdraw", "undo withdraw"])
    again = transfer(guard, effects)
    with surefoot.run("t-7"):
        assert again.kickoff().raw == "withdrawn"
    assert did(effects) == ["credit", "withdraw", "undo withdraw", "withdraw"]
    assert (newest(guard).run_id, newest(guard).status) == (run, "completed")
    assert [len(who.llm.asked) for who in again.agents] == [0, 2]


def test_as_81_a_fork_replays_what_is_before_it_and_shares_what_is_after(guard: Guard, effects: Effects) -> None:
    """A branch after the first task has its output; the same request after it gets the run's answer."""
    guard = rules(guard, effects, "credit", "withdraw")
    with surefoot.run("t-7"):
        transfer(guard, effects).kickoff()
    guard.runs.fork(newest(guard).run_id, at="fetch", name="t-7b", by="tester")
    with surefoot.run("t-7b"):
        assert transfer(guard, effects).kickoff().raw == "withdrawn"
    assert did(effects) == ["credit", "withdraw"]


def test_as_80_what_is_meant_twice_happens_twice_and_reads_are_fresh(guard: Guard, effects: Effects) -> None:
    """Equal mails under two declared keys are both sent, a read after a write reads anew, and a repeated key gets the real answer."""

    @tool("send")
    def send(ref: str, text: str) -> str:
        """Send."""
        effects.add("send", ref)
        return f"sent {ref}"

    @tool("status")
    def status() -> str:
        """Look."""
        return f"{effects.count('send')} sent"

    guard = Guard(guard.store, tools={"send": ToolRule(effect="unsafe", key=["ref"])}, reads=["status"])
    turns = (
        [ask("send", ref="1", text="hi")],
        [ask("send", ref="2", text="hi")],
        [ask("status")],
        [ask("send", ref="3", text="hi")],
        [ask("status")],
        [ask("send", ref="1", text="hi")],
    )
    clerk = agent(*turns, "done", tools=[send, status])
    surefoot.wrap(crew(clerk), guard=guard).kickoff()
    assert effects.all() == [["send", "1"], ["send", "2"], ["send", "3"]]
    heard = [message["content"] for message in clerk.llm.asked[-1] if message["role"] == "tool"]
    assert heard == ["sent 1", "sent 2", "2 sent", "sent 3", "3 sent", "sent 1"]
