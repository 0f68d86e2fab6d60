"""Is this LangGraph one that can be guarded? The range, and a proof by a call."""

from __future__ import annotations

import importlib.metadata
import threading
from typing import Any, Final

from surefoot import AdapterUnavailable, Guard

__all__ = ["check", "prove"]

_PACKAGE: Final = "langgraph"
_lock = threading.Lock()
_proven = False


def check() -> None:
    """Raise :class:`~surefoot.AdapterUnavailable` unless the installed LangGraph is at least the extra's floor."""
    floor = _floor()
    try:
        version = importlib.metadata.version(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise AdapterUnavailable(f"langgraph is not installed; run: pip install 'surefoot[{_PACKAGE}]'") from None
    if _numbers(version) < floor:
        wanted = ".".join(map(str, floor))
        raise AdapterUnavailable(f"langgraph {version} is too old to be guarded; run: pip install 'langgraph>={wanted}'")


def _floor() -> tuple[int, ...]:
    """Return the floor that the extra declares: the one place where the range is written."""
    try:
        requires = importlib.metadata.requires("surefoot") or []
    except importlib.metadata.PackageNotFoundError:
        requires = []
    for line in requires:
        spec, _, marker = line.partition(";")
        if f"extra == '{_PACKAGE}'" in marker.replace('"', "'") and spec.strip().startswith(_PACKAGE):
            bounds = spec.strip().removeprefix(_PACKAGE).split(",")
            return _numbers(next(b.removeprefix(">=") for b in bounds if b.strip().startswith(">=")))
    return ()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.strip().split(".")[:3] if part.isdigit())


def prove() -> None:
    """Run one synthetic tool through the patched path, once per process; the guard must see exactly that call (AS-61).

    Raises :class:`~surefoot.AdapterUnavailable` when it does not: better no graph than an unguarded one (AS-59).
    """
    global _proven  # noqa: PLW0603 - proven once for the installed framework
    with _lock:
        if _proven:
            return
        seen = _canary()
        if seen != [("surefoot_canary", "committed")]:
            msg = f"guard not installed: a synthetic tool call through LangGraph was recorded as {seen}; this release cannot be guarded"
            raise AdapterUnavailable(msg)
        _proven = True


def _canary() -> list[tuple[str, str]]:
    from langchain_core.messages import AIMessage
    from langchain_core.tools import tool
    from langgraph.graph import END, START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode

    from surefoot_langgraph import _graph

    @tool
    def surefoot_canary() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([surefoot_canary]))
    builder.add_edge(START, "tools")
    builder.add_edge("tools", END)
    guard = Guard("memory://")
    request: Any = AIMessage("", tool_calls=[{"name": "surefoot_canary", "args": {}, "id": "canary", "type": "tool_call"}])
    try:
        _graph.guarded(builder.compile(), guard).invoke({"messages": [request]})
    except Exception as exc:
        msg = f"guard not installed: a synthetic tool call through LangGraph failed ({type(exc).__name__}: {exc})"
        raise AdapterUnavailable(msg) from exc
    return [(record.tool, str(record.state)) for record in guard.calls.list()]
