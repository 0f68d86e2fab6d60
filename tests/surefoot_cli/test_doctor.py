"""``surefoot doctor module:object``: what stands between the guard and the bodies of the tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from surefoot_cli.main import cli

DECORATED = """
import functools
import surefoot

def again(function):
    @functools.wraps(function)
    def twice(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception:
            return function(*args, **kwargs)
    twice.retry = True
    return twice

def plain(function):
    @functools.wraps(function)
    def around(*args, **kwargs):
        return function(*args, **kwargs)
    return around

def bare(function):
    return function
"""
MADE = {
    "langgraph": """
from langchain_core.tools import tool
from langgraph.graph import MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

@tool
@{decorator}
def pay(amount: int) -> str:
    "Pay."
    return "paid"

built = StateGraph(MessagesState)
built.add_node("tools", ToolNode([pay]))
built.set_entry_point("tools")
made = built.compile()
""",
    "openai-agents": """
from agents import Agent, function_tool

@function_tool
@{decorator}
def pay(amount: int) -> str:
    "Pay."
    return "paid"

made = Agent(name="a", tools=[pay])
""",
    "python": """
@surefoot.tool(effect="unsafe")
@{decorator}
def pay(amount: int) -> str:
    "Pay."
    return "paid"

def made():
    return pay(5)
""",
}


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], tuple[int, list[dict[str, Any]]]]:
    """Has the doctor look at a program of a framework whose tool has a decorator; returns its exit code and what it says of stacks."""
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)

    def look(framework: str, decorator: str) -> tuple[int, list[dict[str, Any]]]:
        module = f"decorated_{framework.replace('-', '_')}_{decorator}"
        (tmp_path / f"{module}.py").write_text(DECORATED + MADE[framework].format(decorator=decorator))
        done = CliRunner().invoke(cli, ["--store", f"sqlite:///{tmp_path}/s.db", "doctor", f"{module}:made", "--json"])
        sys.path[:] = path
        sys.modules.pop(module, None)
        return done.exit_code, [finding for finding in json.loads(done.stdout)["findings"] if finding["check"] == "stack"]

    return look


@pytest.mark.parametrize("framework", MADE)
@pytest.mark.parametrize(("decorator", "says"), [("again", "twice (retries)"), ("plain", "around")])
def test_as_82_what_is_between_guard_and_body_fails(doctor: Callable[..., Any], framework: str, decorator: str, says: str) -> None:
    """AS-82: a decorator between the guard and the body fails the doctor, who lists the stack; a retry in there is called one."""
    code, stacks = doctor(framework, decorator)
    assert code == 1
    [stack] = stacks
    assert stack["state"] == "fail"
    assert stack["text"].startswith("pay: guard > ")
    assert says in stack["text"]
    assert (" (retries)" in stack["text"]) is (decorator == "again")


@pytest.mark.parametrize("framework", MADE)
def test_as_82_negative_control_a_bare_body_is_fine(doctor: Callable[..., Any], framework: str) -> None:
    """AS-82: where nothing is between the guard and the body, the stack is listed and the doctor is content."""
    code, stacks = doctor(framework, "bare")
    assert (code, [stack["state"] for stack in stacks]) == (0, ["ok"])
    assert stacks[0]["text"].startswith("pay: guard > decorated_")


@pytest.mark.parametrize("framework", [name for name in MADE if name != "openai-agents"])
def test_the_doctor_takes_what_is_wrapped(
    doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, framework: str
) -> None:
    """The object that a program runs is the wrapped one: it is guarded, its stacks are listed; a policy is made of the bare one."""
    monkeypatch.setitem(MADE, framework, f"{MADE[framework]}\nmade = surefoot.wrap(made, store='memory://')\n")
    code, stacks = doctor(framework, "bare")
    assert (code, [stack["state"] for stack in stacks]) == (0, ["ok"])
    path = list(sys.path)
    module = f"decorated_{framework}_bare"
    done = CliRunner().invoke(cli, ["tools", "init", f"{module}:made"])
    sys.path[:] = path
    sys.modules.pop(module, None)
    assert "before surefoot.wrap()" in done.output
