"""Plain Python adapter: ``surefoot.wrap(main)`` makes a function a run, ``@surefoot.tool`` makes one a governed call.

``wrap`` returns a guarded function of the same kind (plain, ``async``, generator, asynchronous generator, bound method) and
leaves the original alone. Called outside of any run it opens one and is its outermost step; called inside of one it is a step
in it. A function that is decorated with ``@surefoot.tool`` finds the guard of the run that it is called in through a context
variable; outside of any run it is the plain function, because decorating declares and wrapping guards. Covered: threads that
get the caller's context (``asyncio.to_thread``, ``copy_context().run``), tasks, generators, recursion. Not covered: threads
without it (a warning says so), functions that nobody decorated, callable objects and ``functools.partial``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from surefoot import Adapter, Capabilities, Guard, RunRecord, hookimpl
from surefoot_python._pipeline import Context, Criticality, Pipeline, Result, Step, StepReport, Task

__all__ = ["Context", "Criticality", "Pipeline", "PythonAdapter", "Result", "Step", "StepReport", "Task", "surefoot_adapter"]


class PythonAdapter(Adapter):
    """Wraps plain functions, bound methods and pipelines."""

    name = "python"
    capabilities = Capabilities(copies=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is a function, a method or a pipeline."""
        if isinstance(target, Pipeline):
            return True
        return type(target).__module__ == "builtins" and type(target).__name__ in {"function", "method", "staticmethod", "classmethod"}

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the function as a run or step, the pipeline governed (see :meth:`surefoot.Adapter.wrap`)."""
        if isinstance(target, Pipeline):
            return target.guarded(guard)
        from surefoot_python import _steps

        return _steps.guarded(target, guard)

    def tool(self, target: Any, guard: Guard | None) -> Any:
        """Return the function as a tool (see :meth:`surefoot.Adapter.tool`)."""
        from surefoot_python import _tools

        return _tools.guarded(target, guard)

    def introduce(self, guard: Guard, names: Collection[str]) -> None:
        """Make the decorated functions of these names known to a guard that none of them was called with yet."""
        from surefoot_python import _intercept

        for subject in _intercept.subjects():
            if subject.name in names and subject.name not in guard.declared and subject.guard in {None, guard}:
                subject.meet(guard)

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of a function (see :meth:`surefoot_journal.Replays.guard_of`)."""
        from surefoot_python import _intercept

        subject = _intercept.subject_of(target)
        return subject.guard if subject is not None else None

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Call a function with recorded arguments, to its end (see :meth:`surefoot_journal.Replays.again`)."""
        from surefoot_python import _intercept

        return _intercept.again(target, given)


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return PythonAdapter()
