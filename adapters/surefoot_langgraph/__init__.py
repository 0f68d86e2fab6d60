"""LangGraph adapter: ``surefoot.wrap(graph)`` for a compiled graph, ``guard.tool(tool)`` for a tool called in node code.

``wrap`` returns a guarded copy and leaves the original alone. Covered: every node, ``ToolNode`` and tool in it, sub-graphs
used as nodes, parallel branches and ``Send``; ``invoke``, ``stream``, their async forms, interrupts, time travel. Not covered:
tools and graphs that a node function calls by itself, unless they are guarded objects (wrapping warns of those that it can see);
``@task`` and ``@entrypoint`` (wrapping one warns);
``graph.builder.compile()``, which makes an unguarded graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, UsageError, hookimpl

if TYPE_CHECKING:
    from surefoot_adapters import Do
    from surefoot_langgraph._saver import SurefootSaver

__all__ = ["LangGraphAdapter", "SurefootSaver", "surefoot_adapter"]

_GRAPH: Final = "langgraph.pregel.main.Pregel"
_TOOL: Final = "langchain_core.tools.base.BaseTool"
_ANY_STEPS: Final = 1_000_000
"""A replay ends where its recording does."""


def __getattr__(name: str) -> Any:
    """Import LangGraph only when its checkpointer is asked for."""
    if name == "SurefootSaver":
        from surefoot_langgraph._saver import SurefootSaver

        return SurefootSaver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def is_langchains(target: object) -> bool:
    """Return whether a graph was made by LangChain's ``create_agent``, which says so in its metadata: it has an adapter of its own."""
    from surefoot_adapters import kinds_of

    metadata = (getattr(target, "config", None) or {}).get("metadata") or {}
    return _GRAPH in kinds_of(target) and metadata.get("ls_integration") == "langchain_create_agent"


class LangGraphAdapter(Adapter):
    """Wraps compiled LangGraph graphs and LangChain tools."""

    name = "langgraph"
    capabilities = Capabilities(copies=True, resumes=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is a ``Pregel`` graph or a ``BaseTool``, importing nothing."""
        from surefoot_adapters import kinds_of

        return not {_GRAPH, _TOOL}.isdisjoint(kinds_of(target)) and not is_langchains(target)

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded copy (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import misnamed, warn
        from surefoot_langgraph import _graph, _support, _tools, _unseen

        _support.framework.ready()
        if _tools.is_tool(target):
            return _tools.guarded(target, guard)
        wrapped = _graph.guarded(target, guard, self.name)
        guard.announce(target.get_name())
        functions = _unseen.names(target)
        for name, like in misnamed(guard).items():
            if name not in functions:
                hint = f"did you mean {like!r}?" if like else f"for one that comes later, write the pattern {name + '*'!r}"
                warn(f"{target.get_name()}: no tool is called {name!r}, which tools= or reads= names; {hint}", guard)
        if missed := _unseen.unseen(target):
            warn(f"{target.get_name()}: not guarded, {'; '.join(missed)}: make them guard.tool(tool) or wrap(graph, guard=guard)", guard)
        return wrapped

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of a graph (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(getattr(type(target), "surefoot_binding", None), "guard", None)

    def rewind(self, target: Any, run: RunRecord, mark: int | None) -> Do:
        """Return what takes the thread's state back (see :class:`surefoot_recovery.Rewinds`); checkpointers are asked synchronously."""
        from surefoot_adapters import Do
        from surefoot_langgraph import _rewind

        return Do(partial(_rewind.rewind, target, run, mark))

    def place(self, target: Any, run: RunRecord, mark: int | None) -> Mapping[str, Any]:
        """Return the config to branch off with (see :class:`surefoot_recovery.Branches`)."""
        from surefoot_langgraph import _rewind

        return _rewind.place(target, run, mark)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:
        """Run a graph with a recorded input, without its checkpointer (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        if run.first is not None:
            raise UsageError(f"run {run.run_id} went on from a checkpoint of its thread, and only the first run of a thread is replayed")
        config: Any = {"configurable": {"thread_id": run.thread or run.run_id}, "recursion_limit": _ANY_STEPS}
        return asyncio.run(target.copy({"checkpointer": None}).ainvoke(given, config))


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return LangGraphAdapter()
