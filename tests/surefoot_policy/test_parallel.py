"""What waits for people in plain Python: requests that come at once, in threads and in coroutines."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from crash import Effects

import surefoot
from surefoot import Allow, ApprovalPending, Call, Denied, Gate, Guard, IntegrityError

Policed = Callable[..., Guard]
PAY = "tools: [{tool: [pay, refund], decision: approve, reason: money leaves the house}]\n"


def tools(effects: Effects, effect: Any = "unsafe") -> tuple[Any, Any]:
    """Return a tool that pays, as a function and as a coroutine function."""

    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    async def apay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    pay.__qualname__ = "pay"
    apay.__qualname__ = "pay"
    return surefoot.tool(effect=effect)(pay), surefoot.tool(effect=effect)(apay)


def parallel(effects: Effects, face: str, *amounts: int, effect: Any = "unsafe") -> Callable[[], list[Any]]:
    """Return a program that asks for payments at once and says what became of each."""
    pay, apay = tools(effects, effect)

    def threads() -> list[Any]:
        with ThreadPoolExecutor(len(amounts)) as pool:
            asked = [pool.submit(contextvars.copy_context().run, pay, amount) for amount in amounts]
        return told([future.exception() or future.result() for future in asked])

    async def coroutines() -> list[Any]:
        return told(await asyncio.gather(*map(apay, amounts), return_exceptions=True))

    def told(answers: list[Any]) -> list[Any]:
        for answer in answers:
            if isinstance(answer, ApprovalPending):
                raise answer
        return [str(answer) for answer in answers]

    return threads if face == "sync" else coroutines  # type: ignore[return-value] # run() below awaits it


def run(guard: Guard, program: Any) -> Any:
    """Run a program in the run of these tests."""
    with surefoot.run("r"):
        answer = surefoot.wrap(program, guard=guard)()
        return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer


def waits(guard: Guard, program: Any) -> dict[int, str]:
    """Run what has to wait, and return amount → approval of all the cards."""
    with pytest.raises(ApprovalPending) as stopped:
        run(guard, program)
    return {card["arguments"]["amount"]: approval_id for approval_id, card in stopped.value.cards.items()}


FACES = pytest.mark.parametrize("face", ["sync", "async"])


@FACES
def test_as_06_as_09_a_rejected_call_is_not_executed(policed: Policed, effects: Effects, face: str) -> None:
    """AS-06, AS-09: of three calls one is rejected: it is not executed, the caller is told, and the others run once each."""
    guard = policed(PAY)
    ids = waits(guard, parallel(effects, face, 1, 82000, 3))
    guard.approvals.deny(ids[82000], by="maria", comment="too much")
    guard.approvals.approve(ids[1], ids[3], by="maria")
    answers = run(guard, parallel(effects, face, 1, 82000, 3))
    assert "maria denied it: too much" in answers[1]
    assert (answers[0], answers[2]) == ("paid 1", "paid 3")
    assert sorted(effects.all()) == [["pay", 1], ["pay", 3]]


@FACES
def test_as_26_parallel_requests_surface_at_once(policed: Policed, effects: Effects, face: str) -> None:
    """AS-26: three gated calls at once: what stops the run carries all three cards, each under an id made of its call."""
    guard = policed(PAY)
    ids = waits(guard, parallel(effects, face, 1, 2, 3))
    assert sorted(ids) == [1, 2, 3]
    found = {approval.id: approval for approval in guard.approvals.list()}
    assert set(ids.values()) == set(found)
    assert all(approval.id.startswith(f"appr_{approval.call_id.removeprefix('call_')[:20]}") for approval in found.values())
    assert waits(guard, parallel(effects, face, 3, 2, 1)) == ids  # the same ids in another order: no position is in them
    assert effects.all() == []


@FACES
def test_as_27_answers_land_on_their_own_call(policed: Policed, effects: Effects, face: str) -> None:
    """AS-27: answered in reverse order, one at a time, and one of them twice: each lands on its own call, each body runs once.

    The tool is unclassified: code has no reply of a model whose requests belong together, so of a declared unsafe tool the request for 1
    that comes after the payment of 3 is drift, and held.
    """
    guard, program = policed(PAY), parallel(effects, face, 1, 2, 3, effect="unclassified")
    ids = waits(guard, program)
    guard.approvals.approve(ids[3], by="maria")
    assert waits(guard, program) == {1: ids[1], 2: ids[2]}
    assert effects.all() == [["pay", 3]]
    guard.approvals.deny(ids[2], by="maria")
    with pytest.raises(IntegrityError, match="is denied by maria"):
        guard.approvals.approve(ids[2], by="maria")
    assert waits(guard, program) == {1: ids[1]}
    guard.approvals.approve(ids[1], by="maria")
    answers = run(guard, program)
    assert (answers[0], answers[2]) == ("paid 1", "paid 3")
    assert effects.all() == [["pay", 3], ["pay", 1]]


def test_as_28_an_approval_of_a_tool_that_is_gone_is_void(policed: Policed, effects: Effects) -> None:
    """AS-28: the program that resumes has one of two tools no more: its call does not run, the other approval is the other call's."""
    guard = policed(PAY)
    pay, _ = tools(effects)

    @surefoot.tool(effect="unsafe")
    def refund(amount: int) -> str:
        effects.add("refund", amount)
        return "refunded"

    guard.approvals.approve(*waits_of(guard, lambda: refund(9)), by="maria")
    guard.approvals.approve(*waits_of(guard, lambda: pay(5)), by="maria")
    assert run(guard, lambda: pay(5)) == "paid 5"
    assert effects.all() == [["pay", 5]]
    assert {approval.tool: approval.state for approval in guard.approvals.list(state=None)} == {"refund": "void", "pay": "used"}


def waits_of(guard: Guard, program: Any) -> list[str]:
    """Run what has to wait, and return the approvals that it waits for."""
    with pytest.raises(ApprovalPending) as stopped:
        run(guard, program)
    return [approval_id for approval_id, card in stopped.value.cards.items() if card["run_id"] == stopped.value.run_id]


class Slow(Gate):
    """Allows what somebody has let through."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self, call: Call) -> Allow:
        """Count."""
        self.asked.append(call.call_id)
        return Allow()


@pytest.mark.parametrize(
    ("dispatch", "face", "delivery"), list(itertools.product(["parallel", "sequential"], ["sync", "async"], ["stream", "whole"]))
)
def test_as_48_a_gate_is_asked_exactly_once(effects: Effects, dispatch: str, face: str, delivery: str) -> None:
    """AS-48: parallel and one after the other, sync and async, streamed and not: each call is seen exactly once."""
    gate = Slow()
    guard = Guard("memory://", gates=[gate])
    pay, apay = tools(effects)
    both = parallel(effects, face, 1, 2)

    def plain() -> list[Any]:
        return both() if dispatch == "parallel" else [pay(1), pay(2)]

    async def coroutine() -> list[Any]:
        return await both() if dispatch == "parallel" else [await apay(1), await apay(2)]  # type: ignore[misc] # a coroutine function here

    def streamed() -> Any:
        yield from plain()

    async def astreamed() -> Any:
        for answer in await coroutine():
            yield answer

    async def collected(items: Any) -> list[Any]:
        return [item async for item in items]

    program: Any = {("sync", "whole"): plain, ("async", "whole"): coroutine, ("sync", "stream"): streamed, ("async", "stream"): astreamed}[
        face, delivery
    ]
    with surefoot.run("r"):
        answer = surefoot.wrap(program, guard=guard)()
        if face == "async":
            answer = asyncio.run(collected(answer) if delivery == "stream" else answer)
        assert list(answer) == ["paid 1", "paid 2"]
    assert len(gate.asked) == len(set(gate.asked)) == 2
    assert sorted(effects.all()) == [["pay", 1], ["pay", 2]]


@FACES
def test_as_47_a_call_waits_for_a_gate_that_takes_its_time(effects: Effects, face: str) -> None:
    """AS-47: a gate that takes its time and then says no is waited for: counter 0 while it thinks, and after."""
    seen: list[int] = []

    class Late(Gate):
        def check(self, _call: Call) -> Any:
            seen.append(effects.count("pay"))
            return surefoot.Deny("the guardrail tripped")

    pay, apay = tools(effects)

    async def coroutine() -> Any:
        return await apay(5)

    with pytest.raises(Denied, match="the guardrail tripped"):
        run(Guard("memory://", gates=[Late()]), coroutine if face == "async" else lambda: pay(5))
    assert (seen, effects.count("pay")) == ([0], 0)
