"""The guard proves that it sits at the body, and says loudly where it cannot."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langgraph.prebuilt import ToolNode
from support import Effects, ask, planner, react

import surefoot
import surefoot_langgraph
from surefoot import AdapterUnavailable, Guard, UsageError
from surefoot_langgraph import _support

PRIVATE = {
    # name the adapter touches: the test that owns it
    "_tools_by_name": "test_as_59_a_tool_node_that_keeps_its_tools_elsewhere",
    "_func": "test_as_59_a_tool_node_without_its_functions",
    "_afunc": "test_as_59_a_tool_node_without_its_functions",
    "_messages_key": "tests/surefoot_langgraph/test_forms.py::test_calls_sent_one_by_one_are_still_a_models_requests",
    "__pregel_read": "tests/surefoot_langgraph/test_forms.py::test_calls_sent_one_by_one_are_still_a_models_requests",
    "_run": "test_as_61_a_synthetic_call_is_seen",
    "_arun": "tests/surefoot_langgraph/test_transparent.py::test_ainvoke_and_astream",
    "__pregel_scratchpad": "tests/surefoot_langgraph/test_scenarios.py::test_r2_two_parallel_interrupts_get_their_own_answers",
    "__pregel_send": "tests/surefoot_langgraph/test_scenarios.py::test_r2_two_parallel_interrupts_get_their_own_answers",
    "__resume__": "tests/surefoot_langgraph/test_scenarios.py::test_r2_two_parallel_interrupts_get_their_own_answers",
    "__pregel_checkpointer": "tests/surefoot_langgraph/test_crash.py::test_as_90_as_94_as_96_as_97_each_request_once",
    "__pregel_push": "tests/surefoot_langgraph/test_crash.py::test_as_90_as_94_as_96_as_97_each_request_once",
}


def test_as_60_private_names_are_listed_with_the_test_that_owns_them() -> None:
    """Every underscore name of the framework that the adapter touches is in the list above, and nothing else is."""
    touched: set[str] = set()
    own: set[str] = set()
    for source in Path(surefoot_langgraph.__file__).parent.glob("*.py"):
        tree = ast.parse(source.read_text())
        own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef))}
        own |= {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                touched.add(node.attr)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"__pregel_\w+|__resume__", node.value):
                touched.add(node.value)
    own -= {"_run", "_arun"}
    modules = {path.stem for path in Path(surefoot_langgraph.__file__).parent.glob("_*.py")}
    assert touched - own - modules == set(PRIVATE)


def test_as_61_a_synthetic_call_is_seen() -> None:
    """A synthetic tool call through the installed LangGraph is recorded, as one committed call."""
    assert _support.framework._seen() == [("surefoot_canary", "committed")]


def test_as_61_a_guard_that_sees_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the synthetic call is not recorded, wrapping fails with "guard not installed"."""
    monkeypatch.setattr(_support.framework, "proven", False)
    monkeypatch.setattr("surefoot_langgraph._graph._tools.guarded_node", lambda node, _guard: node)
    with pytest.raises(AdapterUnavailable, match="guard not installed"):
        surefoot.wrap(react(planner(), []).compile(), store="memory://")


def test_as_59_a_tool_node_that_keeps_its_tools_elsewhere(effects: Effects) -> None:
    """A ToolNode whose tools are not where they are put is refused, not run unguarded."""

    class Moved(ToolNode):
        @property
        def tools_by_name(self) -> Any:
            return dict(self.__dict__["kept"])

        def __init__(self, tools: Any) -> None:
            self.__dict__["kept"] = {tool.name: tool for tool in tools}
            super().__init__(tools)

    builder = react(planner([ask("pay")]), [])
    builder.nodes.pop("tools")
    builder.add_node("tools", Moved([effects.tool("pay")]))
    with pytest.raises(AdapterUnavailable, match="guard not installed"):
        surefoot.wrap(builder.compile(), store="memory://")


def test_as_59_a_tool_node_without_its_functions(effects: Effects, monkeypatch: pytest.MonkeyPatch) -> None:
    """A LangGraph that renamed the function of its ToolNode is refused with what is missing."""
    graph = react(planner([ask("pay")]), [effects.tool("pay")]).compile()
    monkeypatch.setattr(_support.framework, "proven", True)
    monkeypatch.delattr(ToolNode, "_func")
    with pytest.raises(AdapterUnavailable, match="_func"):
        surefoot.wrap(graph, store="memory://")


def test_as_59_too_old_a_framework_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A LangGraph below the extra's floor is refused with the command that mends it."""
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.1.10")
    with pytest.raises(AdapterUnavailable, match=r"pip install 'langgraph>="):
        _support.framework.check()


def test_importing_the_adapter_imports_no_framework() -> None:
    """The adapter's module can be imported where LangGraph is not installed, and wrapping then says what to install."""
    code = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"langgraph", "langchain_core"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import surefoot, surefoot_langgraph
assert not any(name.startswith(("langgraph", "langchain")) for name in sys.modules)
try:
    surefoot.wrap(object(), store="memory://")
except surefoot.AdapterUnavailable as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no adapter wraps builtins.object" in done.stdout


def test_wrapping_twice(effects: Effects) -> None:
    """Wrapping a wrapped graph with its guard is the same graph; another guard is an error."""
    guard = Guard("memory://")
    graph = surefoot.wrap(react(planner(), [effects.tool("pay")]).compile(), guard=guard)
    assert surefoot.wrap(graph, guard=guard) is graph
    with pytest.raises(UsageError, match="another guard"):
        surefoot.wrap(graph, store="memory://")


def test_two_tools_of_one_name_are_refused(effects: Effects) -> None:
    """Two functions that are both called pay cannot be told apart and are refused at wrap."""
    guard = Guard("memory://")
    guard.tool(effects.tool("pay"))
    other = effects.tool("refund")
    other.name = "pay"
    with pytest.raises(UsageError, match="two tools are called 'pay'"):
        guard.tool(other)


def test_the_original_is_left_alone(effects: Effects) -> None:
    """Wrapping makes a copy: the original graph, its nodes and its tools are as they were."""
    graph = react(planner([ask("pay", amount=1)]), [effects.tool("pay")]).compile()
    nodes, tools = dict(graph.nodes), dict(graph.nodes["tools"].bound.tools_by_name)  # type: ignore[attr-defined]
    guard = Guard("memory://")
    surefoot.wrap(graph, guard=guard)
    assert graph.nodes == nodes
    assert graph.nodes["tools"].bound.tools_by_name == tools  # type: ignore[attr-defined]
    graph.invoke({"messages": []})
    assert guard.calls.list() == []
