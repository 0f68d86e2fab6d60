"""CrewAI adapter: ``surefoot.wrap(crew)`` for a ``Crew``, a ``Flow`` or an ``Agent``, ``guard.tool(tool)`` for one tool.

``wrap`` changes the object **in place** and returns it: tasks, agents, tools and models keep their identity, their type and what
they hold. Covered: ``kickoff`` in every form, streams, copies that ``kickoff_for_each`` makes, what a checkpoint restores,
delegation, managers, tools that the framework adds while it runs. Not covered: crews that a flow's methods make and nobody wraps,
agents of another framework (wrapping refuses them), ``LiteAgent``.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, hookimpl

__all__ = ["CrewAIAdapter", "surefoot_adapter"]

_KINDS: Final = frozenset({"Crew", "Flow", "BaseAgent", "BaseTool"})


class CrewAIAdapter(Adapter):
    """Wraps crews, flows, agents and tools of CrewAI."""

    name = "crewai"
    capabilities = Capabilities(copies=False)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is a crew, a flow, an agent or a tool, importing nothing."""
        return any(kind.__module__.partition(".")[0] == "crewai" and kind.__name__ in _KINDS for kind in type(target).__mro__)

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the object itself, guarded (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_crewai import _intercept, _support

        _support.framework.ready()
        _intercept.guarded(target, guard)
        guard.announce(_intercept.title(target))
        return target

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of an object (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(type(target), "surefoot_guard", None)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Kick an object off with a recorded input (see :meth:`surefoot_journal.Replays.again`)."""
        if type(given) is list and given and given[0] == "each":
            return target.kickoff_for_each(inputs=given[1])
        return target.kickoff(given)


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return CrewAIAdapter()
