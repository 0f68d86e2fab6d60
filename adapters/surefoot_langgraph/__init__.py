"""LangGraph adapter: ``surefoot.wrap(graph)`` for a compiled graph, ``guard.tool(tool)`` for a tool called in node code.

``wrap`` returns a guarded copy and leaves the original alone. Covered: every node, ``ToolNode`` and tool in it, sub-graphs
used as nodes, parallel branches and ``Send``; ``invoke``, ``stream``, their async forms, interrupts, time travel. Not covered:
tools and graphs that a node function calls by itself, unless they are guarded objects; ``@task`` and ``@entrypoint``;
``graph.builder.compile()``, which makes an unguarded graph.
"""

from __future__ import annotations

from typing import Any

from surefoot import Adapter, Capabilities, Guard, hookimpl

__all__ = ["LangGraphAdapter", "surefoot_adapter"]


class LangGraphAdapter(Adapter):
    """Wraps compiled LangGraph graphs and LangChain tools."""

    name = "langgraph"
    capabilities = Capabilities(copies=True, resumes=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is a ``Pregel`` graph or a ``BaseTool``, importing nothing."""
        kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(target).__mro__}
        return bool(kinds & {"langgraph.pregel.main.Pregel", "langchain_core.tools.base.BaseTool"})

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded copy (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_langgraph import _graph, _support, _tools

        _support.check()
        _support.prove()
        if _tools.is_tool(target):
            return _tools.guarded(target, guard)
        wrapped = _graph.guarded(target, guard)
        guard.announce(target.get_name())
        return wrapped


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return LangGraphAdapter()
