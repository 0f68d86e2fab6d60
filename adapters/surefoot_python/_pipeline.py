"""Pipelines: steps in a row, each verified before its output is committed and shown to the next."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from weakref import WeakKeyDictionary

from surefoot import Guard, Retry, StepRule, UsageError, VerificationFailed, current_step
from surefoot.types import expect

__all__ = ["Context", "Criticality", "Pipeline", "Result", "Step", "StepReport", "Task"]


class Criticality(StrEnum):
    """How bad an error in a step would be; ``tiered`` verifiers look closer where it is high."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Task:
    """What a pipeline is asked to do."""

    goal: str
    """In words; verifiers see it."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Plain data for the steps."""
    id: str | None = None
    """Names the run: killed, and run again under this id with the same goal and inputs, it goes on where it was."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a step is given: of everything a copy, so that no attempt can change what is committed."""

    task: Task
    outputs: Mapping[str, Any]
    """Committed outputs of the steps before it, by name."""
    attempt: int
    """1-based."""
    hint: str
    """What the verifier said about the last attempt; empty in the first."""

    @property
    def is_retry(self) -> bool:
        """Whether an attempt before this one was rejected."""
        return self.attempt > 1


Body = Callable[[Context], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pipeline."""

    name: str
    run: Body
    """Takes a :class:`Context` and returns plain data; may be a coroutine function."""
    goal: str = ""
    """What this step is for, in words; verifiers see it, and the task's goal as a part of the input."""
    criticality: Criticality = Criticality.MEDIUM
    verifier: Any = None
    """As in ``StepRule``; default: the pipeline's."""
    retry: Retry | None = None
    timeout: float | None = None
    """Seconds that an attempt may take."""
    fallback: Sequence[Body] = ()
    """What is run instead where the step cannot, the best first; as in ``StepRule``."""

    def __post_init__(self) -> None:
        """Refuse what cannot work with a :class:`~surefoot.UsageError`."""
        expect("name", self.name, "a step's name", lambda given: isinstance(given, str) and bool(given))
        expect("run", self.run, "a function that takes a Context", callable)
        expect("criticality", self.criticality, "a Criticality", lambda given: given in list(Criticality))


@dataclass(frozen=True, slots=True)
class StepReport:
    """What became of one step."""

    name: str
    committed: bool
    attempts: int
    """How often its body ran in this call; 0 where a recorded output was given again."""
    hints: tuple[str, ...] = ()
    """What rejected attempts were told."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a pipeline came to. Where a step never passed, the outputs of those before it are here."""

    run_id: str
    outputs: Mapping[str, Any]
    steps: tuple[StepReport, ...]
    """One for each step that was reached."""
    planned: int
    """How many steps the pipeline has."""
    error: VerificationFailed | None = None
    """Why it stopped, or ``None``."""

    @property
    def success(self) -> bool:
        """Whether every step is committed."""
        return self.error is None

    @property
    def committed(self) -> int:
        """How many steps are committed."""
        return sum(report.committed for report in self.steps)

    @property
    def output(self) -> Any:
        """The last committed output, or ``None``."""
        return self.outputs[[*self.outputs][-1]] if self.outputs else None

    def raise_for_error(self) -> Result:
        """Return itself, or raise why it stopped."""
        if self.error is not None:
            raise self.error
        return self

    def summary(self) -> str:
        """Return a few lines for people."""
        lines = [f"{self.committed} of {self.planned} steps committed" + ("" if self.success else f"; stopped: {self.error}")]
        for report in self.steps:
            how = "committed" if report.committed else "not committed"
            tries = "recorded before" if report.committed and not report.attempts else f"attempts: {report.attempts}"
            lines.append(f"  {report.name}: {how}, {tries}" + "".join(f"\n    told: {hint}" for hint in report.hints))
        return "\n".join(lines)


class Pipeline:
    """Steps in a row. ``surefoot.wrap(pipeline, store=…)`` returns one whose runs are governed.

    :param steps: :class:`Step` objects, or functions of a :class:`Context`, named as they are.
    :param verifier: judges every step that has none of its own (as in ``StepRule``); ``None`` judges nothing.
    :param name: of the pipeline, in events and step paths.

    Unwrapped it is only a description. Raises :class:`~surefoot.UsageError` for no step, or two of one name.
    """

    def __init__(self, steps: Sequence[Step | Body], *, verifier: Any = "rules", name: str = "pipeline") -> None:
        self.steps = tuple(given if isinstance(given, Step) else Step(getattr(given, "__name__", ""), given) for given in steps)
        self.verifier = verifier
        self.name = name
        names = [one.name for one in self.steps]
        expect("steps", names, "at least one step, each with a name of its own", lambda given: 0 < len(given) == len(set(given)))
        self._guard: Guard | None = None

    def guarded(self, guard: Guard) -> Pipeline:
        """Return a copy whose runs go through the guard. Raises :class:`~surefoot.UsageError` where another guard has it."""
        if self._guard is guard:
            return self
        if self._guard is not None:
            raise UsageError(f"{self.name} is guarded by another guard already; wrap everything with one guard: guard=")
        known = _declared.setdefault(guard, {})
        for one in self.steps:
            rule = self._rule(one, guard)
            if known.get(one.name, rule) != rule:
                raise UsageError(f"two pipelines of one guard have a step {one.name!r} with different rules; rename one of them")
            guard.verifier(rule)
            known[one.name] = guard.steps[one.name] = rule
        made = copy.copy(self)
        made._guard = guard  # noqa: SLF001 - a copy of itself
        return made

    def run(self, task: Task | str) -> Result:
        """Run the task, or go on with it, and return what became of it.

        What a step raises is raised, and leaves the run open; a step that never passes ends the pipeline, and is in the
        result. Raises :class:`~surefoot.UsageError` when it is not wrapped, or has asynchronous steps in a running loop.
        """
        guard, program = self._asked(task)
        result: Result = guard.drive(program)
        return result

    async def arun(self, task: Task | str) -> Result:
        """Like :meth:`run`, from a coroutine."""
        guard, program = self._asked(task)
        result: Result = await guard.adrive(program)
        return result

    def _rule(self, one: Step, guard: Guard) -> StepRule:
        """Return the guard's own rule for a step of that name where it has a verifier, else the step's."""
        given = _declared.get(guard, {}).get(one.name)
        theirs = guard.step_rule(one.name) if given is None else StepRule()
        if theirs.verifier is not None:
            return theirs
        verifier = self.verifier if one.verifier is None else one.verifier
        return StepRule(one.goal, verifier, one.retry or theirs.retry, one.criticality.value, one.timeout, one.fallback)

    def _asked(self, task: Task | str) -> tuple[Guard, Any]:
        """Return the guard and its program for a task."""
        from surefoot_python import _running

        if self._guard is None:
            raise UsageError(f"{self.name} is not wrapped: surefoot.wrap(pipeline, store=…).run(task)")
        if current_step() is not None:
            raise UsageError(f"{self.name} was run inside of a step; run a pipeline outside of any run")
        task = Task(task) if isinstance(task, str) else task
        expect("task", task, "a Task or a goal in words", lambda given: isinstance(given, Task))
        return self._guard, _running.program(self, self._guard, task)


_declared: WeakKeyDictionary[Guard, dict[str, StepRule]] = WeakKeyDictionary()
"""Rules that pipelines brought to a guard, by step name."""
