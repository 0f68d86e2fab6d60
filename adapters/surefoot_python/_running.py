"""How a pipeline runs: a run, and its steps in a row."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from surefoot import Guard, NotStorable, UsageError, VerificationFailed
from surefoot_adapters import Do, Frame, Opened, Program, RunName, RunSpec, StepSpec, element, in_run, named_run, step, thread_of, unnamed
from surefoot_python._pipeline import Context, Pipeline, Result, Step, StepReport, Task

__all__ = ["program"]

_log = logging.getLogger("surefoot.python")


def program(pipeline: Pipeline, guard: Guard, task: Task) -> Program[Result]:
    """Return the program that runs a task, or goes on with it. Raises :class:`~surefoot.UsageError` for inputs that are no data."""
    named = named_run() if task.id is None else RunName(task.id, None, named_run().tenant)
    thread = thread_of(named)
    if thread is None:
        unnamed(guard, pipeline.name, _log, "give its Task an id=, or run {} in 'with surefoot.run(name):'")
    given = {"pipeline": pipeline.name, "goal": task.goal, "inputs": dict(task.inputs)}
    try:
        digest = guard.codec.digest(given)
    except NotStorable as exc:
        raise UsageError(f"the inputs of a task must be plain data: {exc}") from exc
    spec = RunSpec("python", named.tenant, thread, "input", given, digest, joins=named.thread is None)
    return in_run(guard, spec, partial(_in_a_row, pipeline, guard, task, digest))


def _in_a_row(pipeline: Pipeline, guard: Guard, task: Task, digest: str, opened: Opened) -> Program[Result]:
    """Run the steps. A digest that goes from each to the next tells whether a recorded output still fits."""
    outputs = _Outputs(guard)
    reports: list[StepReport] = []
    fits: str | None = digest
    error: VerificationFailed | None = None
    given = {"goal": task.goal, "inputs": task.inputs}
    for one in pipeline.steps:
        hints: list[str] = []
        spec = StepSpec(opened.run, None, element(one.name, 1), one.name, given, fits)
        try:
            body, instead = partial(_body, one, task, outputs, hints), partial(_instead, one, task, outputs, hints)
            output = yield from step(guard, spec, body, instead=instead)
        except VerificationFailed as exc:
            error = exc
        else:
            text = outputs.add(one.name, output)
            fits = guard.codec.digest([fits, one.name, text]) if fits is not None and text is not None else None
        reports.append(StepReport(one.name, error is None, len(hints), tuple(hint for hint in hints if hint)))
        if error is not None:
            break
    return Result(opened.run.record.run_id, outputs.copies(), tuple(reports), len(pipeline.steps), error)


def _body(one: Step, task: Task, outputs: _Outputs, hints: list[str], frame: Frame) -> Do:
    """Return one attempt: everything that it is given is its own copy."""

    def context() -> Context:
        hints.append(frame.hint)
        own = replace(task, inputs=copy.deepcopy(dict(task.inputs))) if task.inputs else task
        return Context(own, outputs.copies(), frame.attempt, frame.hint)

    def plain() -> Any:
        value = one.run(context())
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise UsageError(f"step {one.name} is asynchronous: use 'await pipeline.arun(task)'")
        return value

    async def coro() -> Any:
        value = one.run(context())
        return await value if inspect.isawaitable(value) else value

    return Do(plain, coro)


def _instead(one: Step, task: Task, outputs: _Outputs, hints: list[str], function: Callable[..., Any], frame: Frame) -> Do:
    """Return an attempt of what a step falls back to."""
    return _body(replace(one, run=function), task, outputs, hints, frame)


class _Outputs:
    """Committed outputs as they were stored; whoever looks gets a copy of his own."""

    def __init__(self, guard: Guard) -> None:
        self._codec = guard.codec
        self._made: dict[str, Callable[[], Any]] = {}

    def add(self, name: str, output: Any) -> str | None:
        """Keep an output; return its stored form, or ``None`` where it has none."""
        try:
            text = self._codec.dumps(output, whole=True)
        except NotStorable:
            self._made[name] = partial(copy.deepcopy, output)
            return None
        self._made[name] = partial(self._codec.loads, text)
        return text

    def copies(self) -> Mapping[str, Any]:
        """Return all of them, each copied when it is first looked at."""
        return _Copies(dict(self._made))


class _Copies(Mapping[str, Any]):
    def __init__(self, made: dict[str, Callable[[], Any]]) -> None:
        self._made = made
        self._seen: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._seen:
            self._seen[name] = self._made[name]()
        return self._seen[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        return repr(dict(self))
