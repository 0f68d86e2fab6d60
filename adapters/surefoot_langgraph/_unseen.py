"""What a wrapped graph would run past the guard: tools and graphs that a node's function calls by itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType
from typing import Any, Final

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel

from surefoot_langgraph._tools import node_in

__all__ = ["names", "unseen"]

_EMPTY: Final = CellType()
_PREVIOUS: Final = "__previous__"
"""The channel that an ``@entrypoint`` has and no other graph."""


def unseen(graph: Pregel[Any, Any, Any, Any]) -> list[str]:
    """Return one phrase for each node whose function refers to tools or graphs that nothing guards, and one for tasks.

    A tool that a tool node of the graph runs is left out: the node that calls the model names it too.
    """
    bounds = {name: node.bound for name, node in graph.nodes.items()}
    seen = [tool for bound in bounds.values() if (node := node_in(bound)) is not None for tool in node.tools_by_name.values()]
    found = ["the @task functions of an @entrypoint"] if _PREVIOUS in graph.channels else []
    for name, bound in bounds.items():
        names = sorted({part.get_name() for part in _referred(bound) if not _guarded(part) and not any(part is tool for tool in seen)})
        if names:
            found.append(f"node {name!r} calls {', '.join(names)}")
    return found


def names(graph: Pregel[Any, Any, Any, Any]) -> set[str]:
    """Return the names that node functions use, here and in sub-graphs: among them may be functions that are tools by themselves."""
    graphs = [graph, *(inner for _, inner in graph.get_subgraphs(recurse=True) if isinstance(inner, Pregel))]
    functions = (function for inner in graphs for node in inner.nodes.values() for function in _functions(node.bound))
    return {name for function in functions for name in {*_names(function.__code__), *function.__code__.co_freevars}}


def _guarded(part: Any) -> bool:
    if isinstance(part, ToolNode):
        return all(map(_guarded, part.tools_by_name.values()))
    return hasattr(type(part), "surefoot_binding")


def _referred(bound: Any) -> Iterator[Runnable[Any, Any]]:
    """Yield the tools, tool nodes and graphs that a node's function refers to, by a name around it or of its module."""
    for function in _functions(bound):
        cells = [cell.cell_contents for cell in function.__closure__ or () if cell != _EMPTY]
        for value in (*cells, *(function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__)):
            yield from _things(value)


def _functions(bound: Any) -> Iterator[FunctionType]:
    """Yield what a node runs that is a function."""
    for function in {vars(bound).get("func"), vars(bound).get("afunc")}:
        inner = inspect.unwrap(getattr(function, "__func__", function)) if callable(function) else None
        if inspect.isfunction(inner) and not isinstance(bound, ToolNode):
            yield inner


def _names(code: CodeType) -> set[str]:
    """Return the names that a function's code uses, also in the functions and comprehensions inside it."""
    return set(code.co_names).union(*(_names(const) for const in code.co_consts if isinstance(const, CodeType)))


def _things(value: Any) -> Iterator[Runnable[Any, Any]]:
    if isinstance(value, (BaseTool, ToolNode, Pregel)):
        yield value
    elif type(value) in {list, tuple, dict}:
        held = value.values() if isinstance(value, Mapping) else value
        yield from (item for item in held if isinstance(item, (BaseTool, ToolNode, Pregel)))
