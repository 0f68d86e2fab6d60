"""``surefoot runs replay`` and ``export``: what is said of a run that is replayed, and the exit codes."""

from __future__ import annotations

import asyncio
import importlib
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import surefoot
from surefoot import Guard
from surefoot_cli.main import cli

PYTHON = """
import surefoot, urllib.request
from pathlib import Path

happened = []

@surefoot.tool(effect="unsafe")
def charge(amount: int) -> str:
    happened.append(amount)
    return f"charged {amount}"

@surefoot.tool(effect="read")
def price(order: str) -> int:
    happened.append(order)
    return 5

def agent(order: str) -> dict:
    told = charge(price(order) AGAIN)
    CODE
    return {"told": told, "words": "WORDS"}
"""
OPENAI = """
import json
from agents import Agent, Model, ModelResponse, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

happened = []

set_tracing_disabled(True)

class Scripted(Model):
    async def get_response(self, system_instructions, input, *args, **kwargs):
        happened.append("model")
        if isinstance(input, str) or len(input) == 1:
            output = ResponseFunctionToolCall(type="function_call", name="charge", arguments='{"amount": 5}', call_id="call_1")
        else:
            text = ResponseOutputText(type="output_text", text="done", annotations=[])
            output = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError

@function_tool
def charge(amount: int) -> str:
    "Charge."
    happened.append(amount)
    return f"charged {amount}"

agent = Agent(name="cashier", instructions="WORDS", model=Scripted(), tools=[charge])
"""
LANGGRAPH = """
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

happened = []

@tool
def charge(amount: int) -> str:
    "Charge."
    happened.append(amount)
    return f"charged {amount}"

def model(state):
    happened.append("model")
    asked = [{"name": "charge", "args": {"amount": 5}, "id": "call_1", "type": "tool_call"}]
    return {"messages": [AIMessage("done") if len(state["messages"]) > 1 else AIMessage("", tool_calls=asked)]}

builder = StateGraph(MessagesState)
builder.add_node("model", model)
builder.add_node("tools", ToolNode([charge]))
builder.add_edge(START, "model")
builder.add_conditional_edges("model", lambda s: "WORDS" if s["messages"][-1].tool_calls else END, ["tools", END, "model"])
builder.add_edge("tools", "model")
agent = builder.compile()
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Write an agent's module and return it, imported anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SUREFOOT_STORE", f"sqlite:///{tmp_path}/surefoot.db")

    def write(source: str, *, words: str = "tools", again: str = "", code: str = "pass") -> Any:
        text = source.replace("WORDS", words).replace("AGAIN", again).replace("CODE", code)
        (tmp_path / "my_agent.py").write_text(text)
        sys.modules.pop("my_agent", None)
        (tmp_path / "__pycache__").exists() and [file.unlink() for file in (tmp_path / "__pycache__").iterdir()]
        importlib.invalidate_caches()
        return importlib.import_module("my_agent")

    yield write
    sys.modules.pop("my_agent", None)


def recorded(module: Any) -> str:
    """Run the agent under a name and return the run's id."""
    guard = Guard()
    agent = surefoot.wrap(module.agent, guard=guard)
    with surefoot.run("order-7"):
        if hasattr(agent, "invoke"):
            agent.invoke({"messages": [("user", "order 7")]})
        elif hasattr(agent, "instructions"):
            from agents import Runner

            asyncio.run(Runner.run(agent, "order 7"))
        else:
            agent("7")
    guard.close()
    module.happened.clear()
    return str(guard.runs.list()[0].run_id)


def replay(*args: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["runs", "replay", *args, "--app", "my_agent:agent"])


def rows(folder: Path) -> list[int]:
    """Return how much of everything the store holds."""
    with sqlite3.connect(folder / "surefoot.db") as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in sorted(names)]  # noqa: S608 - the store's own names


@pytest.mark.parametrize("source", [PYTHON, OPENAI, LANGGRAPH], ids=["python", "openai", "langgraph"])
def test_as_77_a_run_is_replayed(made: Callable[..., Any], tmp_path: Path, source: str) -> None:
    """Replayed with the same agent, a run is the same: no model, no tool, nothing written; exit code 0; as text and as JSON."""
    module = made(source)
    run_id = recorded(module)
    before = rows(tmp_path)
    told = replay(run_id)
    assert (told.exit_code, told.stderr) == (0, "")
    assert "the same from beginning to end" in told.stdout
    found = json.loads(replay(run_id, "--json").stdout)
    assert (found["schema_version"], found["run"], found["outcome"], found["why"], found["left"]) == (1, run_id, "same", "", [])
    assert found["steps"]
    assert (module.happened, rows(tmp_path)) == ([], before)


@pytest.mark.parametrize(
    ("source", "change", "why"),
    [
        (PYTHON, {"again": "+ 1"}, 'charge was asked for in agent#1 with {"amount":6}'),
        (PYTHON, {"words": "other"}, "step agent#1 ends otherwise"),
        (OPENAI, {"words": "Be rude."}, r"model call 1 of cashier#1 asks otherwise (prompt)"),
        (LANGGRAPH, {"words": "model"}, "step model#2 is given another input"),
    ],
    ids=["call", "output", "prompt", "step"],
)
def test_as_77_the_first_thing_that_differs_is_named(made: Callable[..., Any], source: str, change: dict[str, str], why: str) -> None:
    """With an agent that was changed, the first thing that differs is named, with what was recorded; exit code 10; nothing runs."""
    run_id = recorded(made(source))
    module = made(source, **change)
    told = replay(run_id, "--diff")
    assert told.exit_code == 10
    assert f"differs: {why}" in told.stdout
    assert "--- recorded" in told.stdout
    found = json.loads(replay(run_id, "--json").stdout)
    assert found["outcome"] == "differs"
    assert found["why"].startswith(why)
    assert module.happened == []


def test_what_is_not_asked_for_any_more_differs(made: Callable[..., Any]) -> None:
    """An agent that ends before its recorded run did differs, and what the run went on with is named."""
    run_id = recorded(made(PYTHON, code="charge(7)"))
    made(PYTHON)
    told = replay(run_id)
    assert told.exit_code == 10
    assert 'went on with charge in agent#1 with {"amount":7}' in told.stdout


def test_the_network_is_refused(made: Callable[..., Any]) -> None:
    """What an agent asks the network outside of any recorded call is refused and named."""
    run_id = recorded(made(PYTHON))
    made(PYTHON, code="urllib.request.urlopen('http://127.0.0.1:9/', timeout=1)")
    told = replay(run_id)
    assert told.exit_code == 10
    assert "asks the network for" in told.stdout


def test_a_run_that_is_open_ends_where_its_recording_does(made: Callable[..., Any]) -> None:
    """A run that failed is replayed up to there, which is no difference: exit code 0."""
    module = made(PYTHON, code="raise RuntimeError('HTTP 500')")
    with pytest.raises(RuntimeError):
        recorded(module)
    made(PYTHON, code="charge(8)")
    run_id = Guard().runs.list()[0].run_id
    told = replay(run_id)
    assert told.exit_code == 0
    assert "the recording of run" in told.stdout


def test_an_exported_run_is_replayed(made: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was exported is replayed from its file, without the store, with the digest key that it was recorded with."""
    monkeypatch.setenv("SUREFOOT_DIGEST_KEY", "shared")
    made(OPENAI)
    run_id = recorded(importlib.import_module("my_agent"))
    file = tmp_path / "run.jsonl"
    file.write_text(CliRunner().invoke(cli, ["runs", "export", run_id]).stdout)
    monkeypatch.delenv("SUREFOOT_STORE")
    assert "the same from beginning to end" in replay(str(file)).stdout
    monkeypatch.setenv("SUREFOOT_DIGEST_KEY", "other")
    told = replay(str(file))
    assert (told.exit_code, told.stderr.count("\n")) == (2, 1)
    assert "set SUREFOOT_DIGEST_KEY" in told.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["run_0"], 3, "there is no run run_0"),
        (["my_agent.py"], 2, "this is no recorded run"),
        (["empty.jsonl"], 2, "empty.jsonl is empty"),
        (["RUN", "--input", "{"], 2, "--input is not JSON"),
        (["RUN", "--input", '{"other": 1}'], 2, "has no 'order', which agent takes"),
    ],
)
def test_bad_input_is_one_sentence(made: Callable[..., Any], tmp_path: Path, args: list[str], code: int, words: str) -> None:
    """What cannot be replayed is said in one sentence, with the exit code of its kind."""
    run_id = recorded(made(PYTHON))
    (tmp_path / "empty.jsonl").touch()
    told = replay(*(run_id if arg == "RUN" else arg for arg in args))
    assert (told.exit_code, told.stderr.count("\n")) == (code, 1)
    assert words in told.stderr


def test_a_name_stands_for_its_newest_run(made: Callable[..., Any]) -> None:
    """A run is replayed and exported by its name as by its id; of several runs of one name it is the newest."""
    module = made(PYTHON)
    first, newest = recorded(module), recorded(module)
    assert first != newest
    assert json.loads(replay("order-7", "--json").stdout)["run"] == newest
    by_name, by_id = (CliRunner().invoke(cli, ["runs", "export", run]).stdout for run in ("order-7", newest))
    assert by_name == by_id != ""
    assert json.loads(replay(first, "--json").stdout)["run"] == first


def test_a_name_of_several_tenants_is_refused(made: Callable[..., Any]) -> None:
    """A name that runs of several tenants have says nothing; the ids do."""
    module = made(PYTHON)
    agent = surefoot.wrap(module.agent, guard=Guard())
    for tenant in ("one", "other"):
        with surefoot.run("order-7", tenant=tenant):
            agent("7")
    told = CliRunner().invoke(cli, ["runs", "export", "order-7"])
    assert (told.exit_code, told.stdout) == (2, "")
    assert "runs of several tenants" in told.stderr


def test_a_run_of_another_framework_is_refused(made: Callable[..., Any]) -> None:
    """A run is replayed with the kind of agent that was run."""
    run_id = recorded(made(PYTHON))
    made(OPENAI)
    told = replay(run_id)
    assert told.exit_code == 2
    assert "was recorded with python" in told.stderr
