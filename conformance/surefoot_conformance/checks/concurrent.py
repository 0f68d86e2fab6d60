"""Processes and threads that meet on one run, one thread, one key."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from surefoot_conformance import hosts
from surefoot_conformance.checks.requests import last
from surefoot_conformance.checks.transparent import GO
from surefoot_conformance.forks import fork
from surefoot_conformance.harness import Turn
from surefoot_conformance.lab import Lab, Latch, Play, Stage
from surefoot_conformance.table import NotRun, check, equal, expect

_YEAR: Final = 365 * 86_400.0
_LONG: Final = 20.0
"""Seconds for which a body that nobody lets go on stays where it is."""


def _held(**options: Any) -> tuple[Play, Play, Latch, Latch]:
    """Return a play whose body waits inside for a latch, the same one with ``wait=0.2``, and the two latches."""
    entered, go_on = Latch(), Latch()

    def body(stage: Stage, name: str, amount: int) -> str:
        stage.effects.add(name, amount)
        entered.open()
        go_on.wait(_LONG)
        return f"{name} {amount}"

    play = Play(script=[[("charge", 5)]], bodies={"charge": body}, **options)
    return play, dataclasses.replace(play, guard={**play.guard, "wait": 0.2}), entered, go_on


@check("adapter", "L3", faces=("sync", "async"))
def a_busy_run_is_not_entered_by_another_process(lab: Lab) -> None:
    """AS-49: while a process works on a run, another one waits, and gets InFlight when its patience ends; one effect."""
    play, impatient, entered, go_on = _held()
    child = lab.start(play, GO)
    expect(entered.wait(), "the first process never came to the body")
    second = lab.act(impatient, last(lab))
    go_on.open()
    first = lab.fair(child.wait())
    expect(second.raised("InFlight"), f"the second process got {second.error or 'a result'}: {second.message}")
    expect(not first.error, f"the first process raised {first.error}: {first.message}")
    equal("effects", lab.effects.count("charge"), 1)


@check("adapter", "L3", faces=("sync", "async"))
def a_run_that_raised_is_left(lab: Lab) -> None:
    """A turn that raised is over: while its process lives on, another process resumes the run, and is not kept waiting."""

    def fails(_stage: Stage, _name: str, _amount: int) -> str:
        raise LookupError("once")

    left, go_on = Latch(), Latch()

    def work() -> None:
        try:
            lab.turn(
                Stage(lab, Play(script=[[("look", 1)]], bodies={"look": fails}, effects={"look": "read"}), kill=None, nth=1, bare=False), GO
            )
        finally:
            left.open()
            go_on.wait(_LONG)

    child = fork(work, lab.folder / "log")
    expect(left.wait(), "the first turn did not end")
    second = lab.act(Play(script=[[("look", 1)]], effects={"look": "read"}, guard={"wait": 0.2}), last(lab))
    go_on.open()
    equal("the first turn raised", lab.fair(child.wait()).error, "LookupError")
    expect(not second.error, f"the second process got {second.error}: {second.message}")
    equal("effects", lab.counted(), {"look": 1})


@check("adapter", "L3", faces=("sync", "async"))
def a_stopped_owner_is_waited_for_and_a_dead_one_is_not(lab: Lab) -> None:
    """AS-93: a run whose process is stopped is busy; when that is killed another one takes over at once, and repeats nothing."""
    play, impatient, entered, _ = _held()
    child = lab.start(play, GO)
    expect(entered.wait(), "the first process never came to the body")
    child.pause()
    second = lab.act(impatient, last(lab))
    child.kill()
    child.wait()
    expect(second.raised("InFlight"), f"beside a stopped owner: {second.error or 'a result'}: {second.message}")
    third = lab.act(impatient, last(lab))
    expect(not third.raised("InFlight"), "a dead owner was waited for")
    equal("effects", lab.effects.count("charge"), 1)
    equal("the call", lab.states(), ["in_doubt"])


@check("adapter", "L3", faces=("sync", "async"))
def a_call_that_runs_elsewhere_is_waited_for(lab: Lab) -> None:
    """AS-05: a call whose body runs in another process is waited for, and InFlight when patience ends; it is not run a second time."""
    from surefoot import ToolRule

    play, impatient, entered, go_on = _held(guard={"tools": {"charge": ToolRule(effect="unsafe", key=["amount"])}})
    child = lab.start(play, GO)
    expect(entered.wait(), "the first process never came to the body")
    second = lab.act(impatient, Turn("other", "go", run="r9"))
    go_on.open()
    first = lab.fair(child.wait())
    expect(second.raised("InFlight"), f"the second process got {second.error or 'a result'}: {second.message}")
    expect(not first.error, f"the first process raised {first.error}: {first.message}")
    equal("effects", lab.effects.count("charge"), 1)


@check("adapter", "L3", faces=("sync", "async"))
def processes_that_race_for_a_key_have_one_effect(lab: Lab) -> None:
    """I6: four processes ask for one business key at once, on threads of their own: one effect, and all get its answer."""
    from surefoot import ToolRule

    play = Play(script=[[("charge", 5)]], guard={"tools": {"charge": ToolRule(effect="unsafe", key=["amount"])}})
    gates = [Latch() for _ in range(4)]

    def work(me: int) -> list[str]:
        bench = lab.bench(f"p{me}")
        bench.url, bench.effects, bench.events = lab.url, lab.effects, lab.events
        stage = Stage(bench, play, kill=None, nth=1, bare=False)
        gates[me].wait()
        bench.turn(stage, Turn(f"t{me}", "go", run=f"r{me}"))
        return bench.seen()

    children = [fork(lambda me=number: work(me), lab.folder / "log") for number in range(4)]  # type: ignore[misc]
    for gate in gates:
        gate.open()
    ended = [lab.fair(child.wait()) for child in children]
    equal("errors", [f"{end.error}: {end.message}" for end in ended if end.error], [])
    equal("answers", [end.value for end in ended], [["charge 5"]] * 4)
    equal("effects", lab.effects.count("charge"), 1)


@check("adapter", "L3", faces=("sync",))
def threads_of_one_process_do_not_meet(lab: Lab) -> None:
    """Eight conversations in eight threads of one process: each has its own effect and its own answer."""
    play = Play(script=[[("charge", 5)]])

    def work() -> None:
        target = lab.built(Stage(lab, play, kill=None, nth=1, bare=False))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: lab.plain(target, Turn(f"t{number}", "go", run=f"r{number}")), range(8)))

    lab.here(work)
    equal("effects", lab.effects.count("charge"), 8)
    equal("calls, runs", (len(lab.calls()), len(lab.runs())), (8, 8))


@check("adapter", "L3", faces=("sync",))
def invocations_of_one_thread_come_one_after_the_other(lab: Lab) -> None:
    """Four invocations of one conversation at once are four runs, one after the other, with one effect each."""
    play = Play(script=[[("charge", 5)]])

    def work() -> None:
        target = lab.built(Stage(lab, play, kill=None, nth=1, bare=False))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: lab.plain(target, Turn("t", f"go {number}", run=f"r{number}")), range(4)))

    lab.here(work)
    equal("effects", lab.effects.count("charge"), 4)
    equal("runs", sorted(run["status"] for run in lab.runs()), ["completed"] * 4)


@check("adapter", "L3", capability="has_pausing_streams", faces=("stream",))
def a_paused_stream_gives_way(lab: Lab) -> None:
    """I9: a paused stream gives way to a new invocation of its run; consumed while that is under way, it does nothing more."""
    play = Play(script=[[("look", 1)], [("charge", 5)]])

    def work() -> str:
        target = lab.built(Stage(lab, play, kill=None, nth=1, bare=False))
        old = lab.harness.stream(target, GO)
        while not lab.effects.count("look"):
            next(old)
        new = lab.harness.stream(target, last(lab))
        next(new)
        told = "nothing"
        try:
            list(old)
        except Exception as exc:  # noqa: BLE001 - which one it is, is the question
            told = type(exc).__name__
        list(new)
        return told

    told = lab.here(work)
    equal("effects", lab.counted(), {"charge": 1, "look": 1})
    equal("the paused stream raised", told, "LeaseLost")


@check("adapter", "L3", faces=("sync", "async"), variants=("unclassified", "unsafe", "idempotent"))
def a_deadline_ends_the_waiting_and_not_the_effect(lab: Lab) -> None:
    """AS-42, AS-43: past its deadline a body is left, its call is in doubt, what it returns lands late, and nothing runs twice."""
    from surefoot import ToolRule

    effect = lab.variant
    rules = {"tools": {"charge": ToolRule(effect=effect, timeout=0.1)}}  # type: ignore[arg-type]

    def slow(stage: Stage, name: str, amount: int) -> Any:
        stage.effects.add(name, amount)

        async def coro() -> str:
            await asyncio.sleep(_LONG)
            return f"{name} {amount}"

        return coro() if lab.is_async else (stage.released.wait(_LONG), f"{name} {amount}")[1]

    def work() -> list[Any]:
        stage = Stage(lab, Play(script=[[("charge", 5)]], bodies={"charge": slow}, guard=rules), kill=None, nth=1, bare=False)
        begun, told = time.monotonic(), ""
        try:
            lab.turn(stage, GO)
        except Exception as exc:  # noqa: BLE001 - which one it is, is the question
            told = type(exc).__name__
        taken = time.monotonic() - begun
        stage.released.set()
        return [taken, told, lab.is_async or stage.settled("charge")]

    taken, told, landed = lab.here(work)
    expect(taken < _LONG / 2, f"the caller waited {taken:.1f} s for a deadline of 0.1 s")
    if effect == "unclassified" and lab.harness.has_model:
        expect("Outcome unknown" in "".join(lab.seen()), f"the model was not told: it saw {lab.seen()} {told}")
    else:
        equal("the turn raised", told, "TimeoutError" if effect == "idempotent" else "InDoubt")
    expect(landed, "what the body returned after its deadline was not recorded")
    equal("the call", lab.states()[:1], ["in_doubt" if lab.is_async else "committed"])
    lab.act(Play(script=[[("charge", 5)]], guard=rules), last(lab))
    equal("effects", lab.effects.count("charge"), 2 if lab.is_async and effect == "idempotent" else 1)


@check("adapter", "L4", faces=("sync", "async"), variants=("before its intent", "in its body"))
def a_run_is_taken_over_from_another_host(lab: Lab) -> None:
    """AS-49, I9, I10: a host that stops past its TTL loses its run to another, whose clock is a year off, and is fenced: one effect."""
    from surefoot import Allow, Call, Gate

    class Stops(Gate):
        timeout = None

        def check(self, call: Call) -> Allow:
            if call.tool == "charge":
                hosts.stop()
            return Allow()

    def stops(stage: Stage, name: str, amount: int) -> str:
        hosts.stop()
        stage.effects.add(name, amount)
        return f"{name} {amount}"

    if reason := hosts.missing():
        raise NotRun(reason)
    lab.url = hosts.url(lab.folder)
    script = [[("look", 1)], [("charge", 5)]]
    inside = lab.variant == "in its body"
    first = Play(script=script, bodies={"charge": stops}) if inside else Play(script=script, guard={"gates": [Stops()]})
    with hosts.stopped(lab.start_on("first", first, GO, clock=-_YEAR)) as child:
        second = lab.fair(lab.start_on("second", Play(script=script), last(lab), clock=_YEAR).wait())
        told = inside and not lab.harness.has_model
        expect(second.raised("InDoubt") if told else not second.error, f"the second host got {second.error}: {second.message}")
        equal("effects while the first host stands still", lab.counted(), {"look": 1} | ({} if inside else {"charge": 1}))
        child.go_on()
        ended = lab.fair(child.wait())
    expect(ended.raised("LeaseLost"), f"the first host was not fenced: {ended.error or 'a result'} {ended.message}")
    equal("effects", lab.counted(), {"charge": 1, "look": 1})
    equal("the call", lab.states(), ["committed"])
