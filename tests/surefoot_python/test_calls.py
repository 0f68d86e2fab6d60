"""Calls of plain functions: threads, tasks, generators, cancellation, context variables, identity of arguments."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from crash import Effects
from python_support import Once, Stop, resumed

import surefoot
from surefoot import Guard, InDoubt, NotCommitted, SurefootWarning, UsageError


def test_a_committed_call_is_replayed_in_the_next_entry(guard: Guard, effects: Effects) -> None:
    """A run that raised after two equal calls and goes on gets both results without running a body, and runs what is new."""
    once = Once()

    @surefoot.tool()
    def charge(amount: int) -> int:
        effects.add("charge", amount)
        return effects.count("charge")

    def main() -> list[int]:
        first = [charge(5), charge(5)]
        once()
        return [*first, charge(5)]

    assert resumed(guard, main) == [1, 2, 3]
    assert effects.count("charge") == 3


def test_outside_of_any_run_a_declared_tool_is_the_plain_function(guard: Guard, effects: Effects) -> None:
    """Decorating declares, wrapping guards: called by itself the function runs and nothing is recorded."""

    @surefoot.tool(effect="unsafe")
    def charge(amount: int) -> int:
        effects.add("charge", amount)
        return amount

    assert [charge(5), charge(5)] == [5, 5]
    assert effects.count("charge") == 2
    assert list(guard.calls.list()) == []


def test_a_guarded_tool_outside_of_any_run_is_an_error(guard: Guard) -> None:
    """What ``guard.tool`` made is never called unguarded."""
    double = guard.tool(_double)
    with pytest.raises(UsageError, match="outside of any run"):
        double(2)


def _double(n: int) -> int:
    """Double."""
    return 2 * n


def test_guard_tool_governs_a_function_that_nobody_declared(guard: Guard) -> None:
    """``guard.tool(f)`` makes a governed call of a function from elsewhere; called twice on one guard it is one tool."""
    double = guard.tool(_double)
    assert guard.tool(double) is double
    assert surefoot.wrap(lambda: [double(2), _double(3)], guard=guard)() == [4, 6]
    assert [(call.tool, call.value) for call in guard.calls.list()] == [("_double", "4")]


def test_a_thread_without_the_callers_context_is_warned_about(guard: Guard) -> None:
    """A call from a thread that lost the context is not governed, and says so; with the context it is."""

    @surefoot.tool()
    def charge(amount: int) -> int:
        return amount

    def main() -> list[int]:
        with ThreadPoolExecutor(2) as pool:
            with pytest.warns(SurefootWarning, match="copy_context"):
                lost = pool.submit(charge, 1).result()
            return [lost, pool.submit(contextvars.copy_context().run, charge, 2).result()]

    assert surefoot.wrap(main, guard=guard)() == [1, 2]
    assert [call.arguments for call in guard.calls.list()] == ['{"amount":2}']


def test_twins_in_threads_and_tasks_each_have_their_effect(guard: Guard, effects: Effects) -> None:
    """Equal requests that run at the same time are two requests; resumed, each gets a result and none runs again."""
    once = Once()

    @surefoot.tool()
    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    @surefoot.tool()
    async def ask(amount: int) -> str:
        await asyncio.sleep(0)
        effects.add("ask", amount)
        return f"asked {amount}"

    async def main() -> list[str]:
        found = await asyncio.gather(ask(1), ask(1), ask(2), asyncio.to_thread(pay, 1), asyncio.to_thread(pay, 1))
        once()
        return found

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(Stop):
            asyncio.run(wrapped())
        assert asyncio.run(wrapped()) == ["asked 1", "asked 1", "asked 2", "paid 1", "paid 1"]
    assert (effects.count("pay"), effects.count("ask")) == (2, 3)


def test_a_body_sees_the_context_variables_of_its_caller(guard: Guard) -> None:
    """Plain and asynchronous bodies read what their caller set; what a plain body sets its caller reads, as unguarded."""
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

    @surefoot.tool()
    def whoami() -> str:
        found = user.get()
        user.set("set in the body")
        return found

    @surefoot.tool()
    async def awhoami() -> str:
        return user.get()

    async def main() -> list[str]:
        user.set("maria")
        return [await awhoami(), await asyncio.to_thread(whoami), whoami(), user.get()]

    assert asyncio.run(surefoot.wrap(main, guard=guard)()) == ["maria", "maria", "maria", "set in the body"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_i4_a_body_whose_loop_was_closed_is_in_doubt(guard: Guard, effects: Effects) -> None:
    """A loop is stopped and closed in the middle of a body: once its task is gone, the call is in doubt, and nobody waits for it."""
    inside = asyncio.Event()

    @surefoot.tool(effect="unsafe", key=["order"])
    async def charge(order: int) -> None:
        effects.add("charge", order)
        inside.set()
        await asyncio.Event().wait()

    async def main() -> None:
        await charge(7)

    wrapped = surefoot.wrap(main, guard=guard)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    task = loop.create_task(wrapped())
    loop.run_until_complete(inside.wait())
    loop.close()
    del task
    gc.collect()
    with pytest.raises(InDoubt):
        asyncio.run(wrapped())
    assert effects.count("charge") == 1


async def test_as_31_a_cancelled_sibling_is_in_doubt(guard: Guard, effects: Effects) -> None:
    """A call that is cancelled in its body because its sibling failed ends in doubt, and the cancellation goes on."""
    inside = asyncio.Event()

    @surefoot.tool(effect="unsafe")
    async def charge(amount: int) -> None:
        effects.add("charge", amount)
        inside.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(charge(5))
            await inside.wait()
            raise Stop

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(ExceptionGroup) as caught:
            await wrapped()
        assert [type(error) for error in caught.value.exceptions] == [Stop]
        assert [str(call.state) for call in guard.calls.list()] == ["in_doubt"]
        with pytest.raises(InDoubt):
            await wrapped()
    assert effects.count("charge") == 1
    assert {task for task in asyncio.all_tasks() if not task.done()} == {asyncio.current_task()}


async def test_asynchronous_generator_tools_do_the_same(guard: Guard, effects: Effects) -> None:
    """The same for an asynchronous generator, with what the consumer sends reaching the body."""
    once = Once()

    @surefoot.tool()
    async def echo(first: int) -> AsyncIterator[int]:
        effects.add("echo")
        got = yield first
        while got is not None:
            got = yield 10 * got

    async def main() -> list[int]:
        items = echo(1)
        found = [await anext(items), await items.asend(2), await items.asend(3)]  # type: ignore[attr-defined]
        with pytest.raises(StopAsyncIteration):
            await anext(items)
        once()
        return found

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(Stop):
            await wrapped()
        assert await wrapped() == [1, 20, 30]
    assert effects.count("echo") == 1


def test_as_22_what_a_tool_raises_is_an_answer(guard: Guard, effects: Effects) -> None:
    """An error is the caller's; asked for again an unclassified call gets it again, one that proved that nothing happened runs."""

    @surefoot.tool()
    def flaky(kind: str) -> str:
        effects.add(kind)
        if effects.count(kind) == 1:
            raise NotCommitted("busy") if kind == "proven" else ConnectionError("reset")
        return kind

    def main() -> list[str]:
        found = []
        for kind in ("proven", "proven", "unknown", "unknown"):
            try:
                found.append(flaky(kind))
            except (NotCommitted, ConnectionError) as exc:
                found.append(f"{type(exc).__name__}: {exc}")
        return found

    answers = surefoot.wrap(main, guard=guard)()
    assert answers == ["NotCommitted: busy", "proven", "ConnectionError: reset", "ConnectionError: reset"]
    assert (effects.count("proven"), effects.count("unknown")) == (2, 1)


def test_strict_refuses_what_nobody_classified_and_runs_without_a_name(tmp_path: Any) -> None:
    """A strict guard refuses an unnamed run, and each call of an unclassified tool."""
    strict = Guard(f"sqlite:///{tmp_path}/strict.db", strict=True)

    @surefoot.tool()
    def pay() -> None:
        raise AssertionError

    def nothing() -> None:
        pay()

    main = surefoot.wrap(nothing, guard=strict)
    with pytest.raises(UsageError, match="name for the run"):
        main()
    with surefoot.run("r"):
        for _ in range(2):
            with pytest.raises(UsageError, match="nobody classified pay"):
                main()


def test_two_guards_on_one_function_are_an_error(guard: Guard, tmp_path: Any) -> None:
    """Wrapping twice with one guard is once; with two it is refused, and so is a step of another guard."""
    other = Guard(f"sqlite:///{tmp_path}/other.db")
    wrapped = surefoot.wrap(_double, guard=guard)
    assert surefoot.wrap(wrapped, guard=guard) is wrapped
    with pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(wrapped, guard=other)
    with pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(lambda: wrapped(1), guard=other)()


def test_threads_of_a_pool_run_named_runs_beside_each_other(guard: Guard, effects: Effects) -> None:
    """Runs of different names in different threads do not meet."""
    barrier = threading.Barrier(4)

    @surefoot.tool()
    def charge(order: int) -> int:
        barrier.wait(20)
        effects.add("charge", order)
        return order

    def main(order: int) -> int:
        return charge(order)

    wrapped = surefoot.wrap(main, guard=guard)

    def one(order: int) -> Any:
        with surefoot.run(f"order-{order}"):
            return wrapped(order)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == [0, 1, 2, 3]
    assert [effects.count("charge", order) for order in range(4)] == [1, 1, 1, 1]


async def test_as_90_steps_beside_each_other_are_told_apart_by_their_input(guard: Guard, effects: Effects) -> None:
    """Steps in tasks, two of them equal: resumed in another order, each recorded one is not run again and the others go on."""
    order, fails = [1, 2, 2], [2]

    @surefoot.tool(effect="unsafe")
    async def charge(amount: int) -> int:
        effects.add("charge", amount)
        return amount

    async def bill(amount: int) -> int:
        await asyncio.sleep(0)  # all three are in their bodies before one of them ends
        charged = await charge(amount)
        effects.add("billed", amount)
        if amount in fails:
            fails.clear()
            raise Stop
        return charged

    step = surefoot.wrap(bill, guard=guard)

    async def main() -> list[int]:
        found = await asyncio.gather(*(step(amount) for amount in order), return_exceptions=True)
        if any(isinstance(result, Stop) for result in found):
            raise Stop
        return found

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(Stop):
            await wrapped()
        order.reverse()
        assert await wrapped() == [2, 2, 1]
    assert [effects.count("charge", amount) for amount in (1, 2)] == [1, 2]
    assert [effects.count("billed", amount) for amount in (1, 2)] == [1, 3]


def test_a_step_inside_a_tool_makes_it_composite(guard: Guard, effects: Effects) -> None:
    """A tool that nobody classified and that starts a step is entered again on resume; what the step did is not done again."""
    once = Once()

    @surefoot.tool(effect="unsafe")
    def charge(amount: int) -> int:
        effects.add("charge", amount)
        return amount

    def bill(amount: int) -> int:
        return charge(amount)

    step = surefoot.wrap(bill, guard=guard)

    @surefoot.tool()
    def delegate(amount: int) -> int:
        billed = step(amount)
        once()
        return billed

    assert resumed(guard, lambda: delegate(5)) == 5
    assert effects.count("charge") == 1
    assert {call.tool: str(call.effect) for call in guard.calls.list()} == {"charge": "unsafe", "delegate": "composite"}


async def test_i11_cancellation_comes_out_of_a_held_run(tmp_path: Path, effects: Effects) -> None:
    """A program whose run is held, cancelled while another call still runs, ends with CancelledError; the next one tells of the hold."""
    held, forever, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    def look(event: surefoot.Event) -> None:
        if event.type == "run.held":
            loop.call_soon_threadsafe(held.set)

    class HoldsPay(surefoot.Gate):
        """Lets a person decide about paying."""

        def check(self, call: surefoot.Call) -> surefoot.Allow | surefoot.Hold:
            """Hold, or allow."""
            return surefoot.Hold("a person decides") if call.tool.endswith("pay") else surefoot.Allow()

    @surefoot.tool(effect="idempotent")
    async def slow() -> None:
        await forever.wait()

    @surefoot.tool()
    async def pay() -> None:
        effects.add("pay")

    async def main() -> None:
        await asyncio.gather(slow(), pay())

    guard = Guard(f"sqlite:///{tmp_path}/s.db", gates=[HoldsPay()], on_event=look)
    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        task = asyncio.ensure_future(wrapped())
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(InDoubt):
            await wrapped()
    assert effects.count("pay") == 0


def test_a_call_that_a_gate_held_runs_when_somebody_settles_that_it_may(tmp_path: Path, effects: Effects) -> None:
    """Held by a gate and settled with ``failed=True`` it runs, once, and its result is the tool's; other gates still decide about it."""

    class HoldsPay(surefoot.Gate):
        def check(self, call: surefoot.Call) -> surefoot.Decision:
            return surefoot.Hold("a person decides")

    class Closed(surefoot.Gate):
        def check(self, call: surefoot.Call) -> surefoot.Decision:
            return surefoot.Deny("closed") if closed else surefoot.Allow()

    @surefoot.tool(effect="unsafe")
    def pay() -> str:
        effects.add("pay")
        return "paid"

    closed = [True]
    guard = Guard(f"sqlite:///{tmp_path}/s.db", gates=[HoldsPay(), Closed()])
    program = surefoot.wrap(lambda: pay(), guard=guard)  # noqa: PLW0108 - a function of its own is the run
    with surefoot.run("r"):
        with pytest.raises(InDoubt) as held:
            program()
        guard.calls.settle(held.value.call_id or "", failed=True, by="maria")
        with pytest.raises(surefoot.Denied, match="closed"):
            program()
        closed.clear()
        assert program() == "paid"
    assert effects.count("pay") == 1


def test_i27_tenants_whose_names_look_alike_do_not_meet(guard: Guard, effects: Effects) -> None:
    """A tenant's name that holds what separates tenant and thread is another tenant's: its run resumes nothing, and its body runs."""

    @surefoot.tool(effect="unsafe")
    def pay(n: int) -> str:
        effects.add("pay", n)
        return "a secret of somebody's"

    def main() -> None:
        pay(1)
        raise Stop

    wrapped = surefoot.wrap(main, guard=guard)
    for name, tenant in (("x/run:y", "a"), ("y", "a/run:x")):
        with surefoot.run(name, tenant=tenant), pytest.raises(Stop):
            wrapped()
    assert effects.count("pay") == 2
    assert [run.ordinal for run in guard.runs.list()] == [1, 1]


@pytest.mark.parametrize("effect", ["unsafe", "unclassified"])
def test_what_a_replayed_agent_did_inside_is_no_drift(guard: Guard, effects: Effects, effect: Any) -> None:
    """An agent that is a tool has paid and is replayed: another payment after it, which nobody made before, just runs (AS-17, AS-94)."""

    @surefoot.tool(effect=effect)
    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    @surefoot.tool(effect="composite")
    def agent(amount: int) -> str:
        return str(pay(amount))

    fails = [True]

    def program() -> list[str]:
        paid = agent(1)
        if fails:
            fails.clear()
            raise ConnectionError
        return [paid, pay(2)]

    wrapped = surefoot.wrap(program, guard=guard)
    with surefoot.run("r"):
        with pytest.raises(ConnectionError):
            wrapped()
        assert wrapped() == ["paid 1", "paid 2"]
    assert effects.all() == [["pay", 1], ["pay", 2]]
