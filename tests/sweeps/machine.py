"""A small model of the call protocol: processes open runs, ask, crash, settle and land late, and the model says what must follow.

The model knows what ``design`` 5 says and nothing of the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sweeps.simulated import Body, Cancelled, Key, Mortal, Process, able, advance, between, bury, calling, failing, idle, inside
from sweeps.support import ToolError, memory_folder, spec_of, step_of

from surefoot import CallState, Guard, InDoubt, InFlight, LeaseLost, NotCommitted, RunStatus, Store, ToolRule
from surefoot.engine.call import call
from surefoot.engine.claims import Position, Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do, Program
from surefoot.engine.run import close_run, open_run
from surefoot.engine.step import step

TOOLS: Final = {"pay": "unsafe", "mail": "unclassified", "sync": "idempotent"}
ARGUMENTS: Final = {"to": "somebody"}
STEPS: Final = 2
THREAD: Final = "t"
SITUATIONS: Final = {
    *("asked: body", "asked: value", "asked: raised", "asked: told", "asked: held", "asked: lost lease"),
    *("asked: value of another slot", "asked: told of another slot", "asked: held of another slot"),
    *("landed late: in_doubt", "landed late: failed", "landed late: conflict"),
}
"""What a sweep must have reached, or it proves nothing."""


@dataclass
class Slot:
    """What the model knows about a call."""

    state: str
    owner: str
    claims: int = 1
    sticky: bool = False
    value: str | None = None
    risky: int = 1
    """How often its body may have taken effect."""


def anybody(fits: Callable[[Process], bool]) -> Callable[[Any], Any]:
    """Return the precondition that some process fits."""
    return precondition(lambda self: any(map(fits, self.processes)))


class Machine(RuleBasedStateMachine):
    """Processes on one thread of one store, and the model beside them."""

    open_store: ClassVar[Callable[[Path], Store]]
    reached: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.store = type(self).open_store(self.resources.enter_context(memory_folder()))
        self.living: set[str] = set()
        self.processes: list[Process] = []
        self.programs: list[Program[Any]] = []
        self.names = 0
        # the model
        self.slots: dict[Key, Slot] = {}
        self.committed: set[tuple[int, int]] = set()
        self.holds: dict[int, set[Key]] = {}
        self.number = 0
        self.done = True
        self.holder: Process | None = None
        self.epoch = 0
        self.start()

    def teardown(self) -> None:
        """Bury everybody, and remove the store."""
        for program in self.programs:
            bury(program)
        self.store.close()
        self.resources.close()

    def program(self, program: Program[Any]) -> Program[Any]:
        """Remember a program, which may outlive its process."""
        self.programs.append(program)
        return program

    def saw(self, what: str) -> None:
        """Count a situation that was reached."""
        type(self).reached[what] += 1

    # --- processes

    @precondition(lambda self: len(self.living) < 3)
    @rule()
    def start(self) -> None:
        """Start a process."""
        self.names += 1
        name = f"p{self.names}"
        tools = {tool: ToolRule(effect) for tool, effect in TOOLS.items()}  # type: ignore[arg-type]
        self.living.add(name)
        self.processes.append(Process(name, Guard(Mortal(self.store, name, self.living), tools=tools, wait=0.0)))

    def pick(self, data: Any, fits: Callable[[Process], bool]) -> Process:
        """Choose a process that fits."""
        type(self).reached["steps"] += 1
        fitting = {process.name: process for process in self.processes if fits(process)}
        return fitting[data.draw(st.sampled_from(sorted(fitting)), "process")]

    @precondition(lambda self: len(self.processes) > 1 and any(process.run is not None for process in self.processes))
    @rule(data=st.data())
    def crash(self, data: Any) -> None:
        """A process dies in the middle of its run."""
        process = self.pick(data, lambda process: process.run is not None)
        self.living.discard(process.name)
        self.processes.remove(process)
        if self.holder is process:
            self.holder = None

    @precondition(lambda self: self.holder is not None and self.holder.body is not None and len(self.processes) > 1)
    @rule()
    def presume_dead(self) -> None:
        """A process that goes on, in the middle of a call, is taken for dead."""
        assert self.holder is not None
        self.living.discard(self.holder.name)
        self.holder = None

    # --- runs

    @anybody(idle)
    @rule(data=st.data())
    def open(self, data: Any) -> None:
        """A process opens the thread's run."""
        self.opens(self.pick(data, idle))

    def opens(self, process: Process) -> None:
        """Open the run."""
        try:
            (opened,) = advance(process, open_run(process.guard, spec_of("go", thread=THREAD)))
        except InFlight:
            assert self.holder is not None
            return
        except InDoubt:
            self.taken_over()
            assert not self.done
            assert self.holds.get(self.number)
            return
        self.taken_over()
        assert not (self.holds.get(self.number) and not self.done)
        if self.done:
            self.number, self.done = self.number + 1, False
        assert opened.run.record.ordinal == self.number
        process.run, process.number, process.epoch = opened.run, self.number, self.epoch
        self.holder = process

    def taken_over(self) -> None:
        """What taking the thread's lease finds: intents of the dead are doubts, unsafe ones hold the run."""
        assert self.holder is None
        self.epoch += 1
        if self.done:
            return
        for key, slot in self.slots.items():
            if key[0] != self.number or TOOLS[key[2]] == "idempotent":
                continue
            if slot.state == "intent":
                slot.state, slot.sticky = "in_doubt", True
            if slot.state == "in_doubt" and TOOLS[key[2]] == "unsafe":
                self.holds.setdefault(self.number, set()).add(key)

    @anybody(between)
    @rule(data=st.data())
    def close(self, data: Any) -> None:
        """A process that is between steps ends its invocation; the run is completed when all its steps are."""
        process = self.pick(data, between)
        whole = all((process.number, number) in self.committed for number in range(1, STEPS + 1))
        self.shut(process, completed=whole)

    def shut(self, process: Process, *, completed: bool) -> None:
        """Close the run of a process."""
        assert process.run is not None
        current = process.epoch == self.epoch
        held = current and bool(self.holds.get(process.number))
        try:
            advance(process, close_run(process.guard, process.run, RunStatus.COMPLETED if completed else RunStatus.OPEN))
        except InDoubt:
            assert held
        else:
            assert not held
            if current and completed:
                self.done = True
        if self.holder is process:
            self.holder = None
        process.run = None

    # --- steps

    @anybody(between)
    @rule(data=st.data(), number=st.integers(1, STEPS))
    def enter(self, data: Any, number: int) -> None:
        """A process enters a step, or gets its recorded output."""
        self.enters(self.pick(data, between), number)

    def enters(self, process: Process, number: int) -> None:
        """Enter a step."""
        assert process.run is not None
        frames: list[Frame] = []

        def body(frame: Frame) -> Do:
            frames.append(frame)
            return Do(lambda: None)

        program = self.program(step(process.guard, step_of(process.run, number), body))
        at = advance(process, program)
        if (process.number, number) in self.committed and (process.epoch == self.epoch or not isinstance(at, Do)):
            assert at == (f"output {process.number} {number}",)
            return  # one that was taken over may not know, and begin: it claims and commits nothing
        assert isinstance(at, Do)
        process.step, process.place, process.frame, process.error, process.asked = program, number, frames[0], None, set()

    @anybody(inside)
    @rule(data=st.data())
    def end_step(self, data: Any) -> None:
        """A step's body returns: its output is committed unless the run is held or was taken over."""
        process = self.pick(data, inside)
        assert process.step is not None
        try:
            advance(process, process.step, f"output {process.number} {process.place}")
        except InDoubt:
            assert self.holds.get(process.number)
            assert process.epoch == self.epoch
        except LeaseLost:
            assert process.epoch != self.epoch
        else:
            assert process.epoch == self.epoch
            assert not self.holds.get(process.number)
            self.committed.add((process.number, process.place))
        process.step = None

    @anybody(failing)
    @rule(data=st.data())
    def escape(self, data: Any) -> None:
        """A tool's error escapes the step: in doubt if the tool was declared unsafe. The invocation ends with it."""
        process = self.pick(data, failing)
        assert process.step is not None
        assert process.error is not None
        with pytest.raises(ToolError):
            advance(process, process.step, error=process.error)
        for name in process.asked:
            slot = self.slots.get((process.number, process.place, name))
            if slot is not None and slot.state == "raised" and TOOLS[name] == "unsafe" and slot.value == str(process.error):
                slot.state, slot.sticky = "in_doubt", True
        process.step = None
        self.shut(process, completed=False)

    # --- calls

    @anybody(able)
    @rule(data=st.data(), number=st.integers(1, STEPS), tool=st.sampled_from(sorted(TOOLS)))
    def ask(self, data: Any, number: int, tool: str) -> None:
        """A model asks for a tool in a step, of a run that is opened for it; the answer is the one that the protocol gives."""
        process = self.pick(data, able)
        if idle(process):
            self.opens(process)
        if between(process):
            self.enters(process, number)
        if inside(process):
            self.asks(process, tool)

    def asks(self, process: Process, tool: str) -> None:
        """Ask for a tool."""
        assert process.frame is not None
        key = (process.number, process.place, tool)
        expected, by = self.expected(process, key)
        digest = process.guard.codec.digest(ARGUMENTS)
        request = Request(tool, ARGUMENTS, None, alias=repr(key), position=Position(digest, 0), notice=lambda text: ("told", text))
        program = self.program(call(process.guard, process.frame, request, Do(lambda: None)))
        try:
            got = advance(process, program)
        except (ToolError, InDoubt, LeaseLost) as exc:
            got = exc
        self.judge(process, key, expected, by, got, program)

    def expected(self, process: Process, key: Key) -> tuple[str, Key]:
        """Return what the protocol answers, and the slot that decides it."""
        if process.epoch != self.epoch:
            return "lost lease", key
        effect = TOOLS[key[2]]
        own = self.slots.get(key)
        by = key
        if own is None:
            by = next((k for k, slot in self.slots.items() if slot.sticky and k[2] == key[2]), key)
            own = self.slots.get(by)
        if own is None or own.state == "failed":
            return self.fresh(process, effect), by
        if own.state == "committed":
            return "value", by
        if effect == "idempotent":
            return self.fresh(process, effect), by
        if own.state == "raised" and not (own.sticky and by != key):
            return "raised", by
        own.state, own.sticky = "in_doubt", True
        if effect == "unsafe":
            self.holds.setdefault(process.number, set()).add(by)
            return "held", by
        return "told", by

    def fresh(self, process: Process, effect: str) -> str:
        """A body may run, unless the run is held."""
        return "held" if effect != "idempotent" and self.holds.get(process.number) else "body"

    def judge(self, process: Process, key: Key, expected: str, by: Key, got: Any, program: Program[Any]) -> None:
        """Compare an answer with the expected one; move the model on."""
        self.saw(f"asked: {expected}{'' if by == key else ' of another slot'}")
        slot = self.slots.get(by)
        process.asked.add(key[2])
        match expected:
            case "lost lease":
                assert isinstance(got, LeaseLost)
            case "held":
                assert isinstance(got, InDoubt), got
            case "told":
                assert got[0][0] == "told", got
            case "value":
                assert slot is not None
                assert got == (slot.value,)
                slot.sticky = False
            case "raised":
                assert slot is not None
                assert isinstance(got, ToolError)
                assert str(got) == slot.value
                process.error = got
            case "body":
                assert isinstance(got, Do), got
                if slot is None:
                    slot = self.slots[by] = Slot("intent", process.name)
                else:
                    slot.state, slot.sticky, slot.owner = "intent", False, process.name
                    slot.claims, slot.risky = slot.claims + 1, slot.risky + 1
                assert slot.risky == 1 or TOOLS[key[2]] == "idempotent"
                process.body = Body(program, by, slot.claims)

    @anybody(calling)
    @rule(data=st.data())
    def ask_while_it_runs(self, data: Any) -> None:
        """The call whose body runs is asked for a second time: it is in flight, and nothing is done."""
        process = self.pick(data, calling)
        assert process.frame is not None
        assert process.body is not None
        tool = process.body.key[2]
        request = Request(tool, ARGUMENTS, None, position=Position(process.guard.codec.digest(ARGUMENTS), 0))
        if process.body.key != (process.number, process.place, tool):  # it runs for another slot's call in doubt
            return
        with pytest.raises(InFlight if process.epoch == self.epoch else LeaseLost):
            advance(process, call(process.guard, process.frame, request, Do(lambda: None)))

    @anybody(calling)
    @rule(data=st.data(), how=st.sampled_from(["returns", "returns", "raises", "proves nothing happened", "is cancelled"]))
    def finish(self, data: Any, how: str) -> None:
        """A body ends, maybe long after its call was settled by somebody else."""
        process = self.pick(data, calling)
        assert process.body is not None
        body, process.body = process.body, None
        slot = self.slots[body.key]
        text = f"{body.key} {body.attempt} by {process.name}"
        mine = slot.claims == body.attempt
        if how == "returns":
            assert advance(process, body.program, text) == (text,)
            if mine and slot.state == "intent":
                slot.state, slot.sticky, slot.value = "committed", False, text
            elif mine and slot.state in {"in_doubt", "failed"}:
                self.saw(f"landed late: {slot.state}")
                slot.risky = max(slot.risky, 1)
                slot.state, slot.sticky, slot.value = "committed", True, text
                self.lift(body.key)
            else:
                self.saw("landed late: conflict")
            return
        error = {"raises": ToolError(text), "proves nothing happened": NotCommitted(text), "is cancelled": Cancelled(text)}[how]
        with pytest.raises(type(error)):
            advance(process, body.program, error=error)
        process.error = error
        if not mine or slot.state != "intent":
            return
        match how:
            case "raises":
                slot.state, slot.sticky, slot.value = "raised", TOOLS[body.key[2]] == "unsafe", text
            case "proves nothing happened":
                slot.state, slot.sticky, slot.risky = "failed", False, slot.risky - 1
            case _:
                slot.state, slot.sticky = "in_doubt", True

    # --- settling

    @precondition(lambda self: any(slot.state == "in_doubt" for slot in self.slots.values()))
    @rule(data=st.data(), happened=st.booleans())
    def settle(self, data: Any, happened: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        """Somebody settles a call in doubt, rather one whose body still runs: what it returns then lands late."""
        type(self).reached["steps"] += 1
        doubts = [key for key, slot in self.slots.items() if slot.state == "in_doubt"]
        running = {process.body.key for process in self.processes if process.body is not None}
        key = data.draw(st.sampled_from([key for key in doubts if key in running] or doubts), "doubt")
        guard = self.processes[0].guard
        (record,) = [row for row in guard.calls.list(state=CallState.IN_DOUBT, limit=1000) if row.alias == repr(key)]
        slot = self.slots[key]
        if happened:
            guard.calls.settle(record.call_id, committed=f"settled {key}", by="maria")
            slot.state, slot.sticky, slot.value = "committed", True, f"settled {key}"
        else:
            guard.calls.settle(record.call_id, failed=True, by="maria")
            slot.state, slot.sticky, slot.risky = "failed", False, slot.risky - 1
        self.lift(key)

    def lift(self, key: Key) -> None:
        """Take a call out of every hold."""
        for held in self.holds.values():
            held.discard(key)

    # --- what must always hold

    @invariant()
    def the_store_is_what_the_model_says(self) -> None:
        """Every call, hold, step and run is stored as the model has it."""
        guard = self.processes[0].guard
        stored = {row.alias: (str(row.state), row.sticky) for row in guard.calls.list(limit=10_000)}
        assert stored == {repr(key): (slot.state, slot.sticky) for key, slot in self.slots.items()}
        runs = sorted(guard.runs.list(), key=lambda run: run.ordinal)
        assert [len(run.hold) for run in runs] == [len(self.holds.get(run.ordinal, ())) for run in runs]
        assert [str(run.status) == "completed" for run in runs] == [run.ordinal < self.number or self.done for run in runs]
        saved = {(run.ordinal, int(c.path.rpartition("#")[2])) for run in runs for c in guard.runs.checkpoints(run.run_id)}
        assert saved == self.committed


def machine(open_store: Callable[[Path], Store]) -> type[Machine]:
    """Return the machine over a store."""
    return type("OverThatStore", (Machine,), {"open_store": staticmethod(open_store)})
