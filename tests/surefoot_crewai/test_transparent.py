"""A wrapped crew, flow, agent or tool is what it was: same object, type, prompts, results. And what of CrewAI surefoot touches."""

from __future__ import annotations

import ast
import asyncio
import importlib.metadata
import inspect
import logging
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Flow, Task
from crewai.flow.flow import and_, listen, router, start
from crewai.tools import BaseTool
from crews import Effects, Script, agent, ask, crew, text_ask
from pydantic import BaseModel

import surefoot
import surefoot_crewai
from surefoot import AdapterUnavailable, Guard
from surefoot_crewai import CrewAIAdapter


class Receipt(BaseModel):
    """What a tool and a task may return."""

    amount: int
    note: str = ""


def small(effects: Effects, *, native: bool = True, **options: Any) -> Crew:
    """Return a crew of two tasks, the second of which sees the first one's output."""
    request = [ask("pay", amount=5)] if native else text_ask("pay", amount=5)
    one = agent(request, "paid 5", tools=[effects.tool("pay")], native=native, role="one")
    return crew(one, agent("all done", role="two", native=native), **options)


def shown(made: Any, output: Any) -> Any:
    """Return what a kickoff gave and what its models were asked, without generated ids."""
    prompts = [[{key: m[key] for key in ("role", "content") if key in m} for m in asked] for a in made.agents for asked in a.llm.asked]
    data = [[task.raw, task.name, task.agent, task.summary, [m["content"] for m in task.messages]] for task in output.tasks_output]
    return [output.raw, output.json_dict, data, [task.output.raw for task in made.tasks], prompts]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("face", ["kickoff", "kickoff_async", "akickoff"])
def test_a_wrapped_crew_gives_and_asks_what_a_bare_one_does(guard: Guard, effects: Effects, face: str, native: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """Output, task outputs and every prompt are equal, in every form of kickoff."""

    def run(made: Any) -> Any:
        output = getattr(made, face)(inputs={"name": "maria"})
        return shown(made, asyncio.run(output) if inspect.isawaitable(output) else output)

    bare, wrapped = small(effects, native=native), small(effects, native=native)
    assert run(surefoot.wrap(wrapped, guard=guard)) == run(bare)
    assert effects.count("pay") == 2


def test_wrapping_changes_in_place_and_shows_nothing(guard: Guard, effects: Effects) -> None:
    """The very object is returned; types look as they did, dumps and keys are equal, isinstance holds, tools keep their function."""
    made = small(effects)
    pay = made.agents[0].tools[0]
    before = [made.model_dump(), made.key, pay.model_dump(), repr(type(made)), repr(type(pay)), pay.tool_type, made.tasks[0].key]
    assert surefoot.wrap(made, guard=guard) is made
    after = [made.model_dump(), made.key, pay.model_dump(), repr(type(made)), repr(type(pay)), pay.tool_type, made.tasks[0].key]
    assert str(after) == str(before)
    assert (isinstance(made, Crew), isinstance(pay, BaseTool), made.agents[0].tools[0] is pay) == (True, True, True)
    assert pay.func.__wrapped__ is vars(pay)["func"]
    assert surefoot.wrap(made, guard=guard) is made


def test_a_copy_of_a_crew_is_guarded(guard: Guard, effects: Effects) -> None:
    """crew.copy(), which kickoff_for_each makes, is a guarded crew."""
    surefoot.wrap(small(effects), guard=guard).copy().kickoff()
    assert [call.tool for call in guard.calls.list()] == ["pay"]


def test_a_structured_output_comes_back_as_its_model(guard: Guard) -> None:
    """A task's pydantic output is that model, also where the task is replayed."""
    clerk = agent('{"amount": 5}')
    task = Task(description="pay", expected_output="x", agent=clerk, output_pydantic=Receipt)
    failing = agent(lambda _messages: (_ for _ in ()).throw(RuntimeError("down")), role="two", max_retry_limit=0)
    again = agent("done", role="two")
    for second in (failing, again):
        made = crew(clerk, second, tasks=[task.copy([clerk], {}), Task(description="tell", expected_output="x", agent=second)])
        surefoot.wrap(made, guard=guard)
        with surefoot.run("r"):
            if second is failing:
                with pytest.raises(RuntimeError, match="down"):
                    made.kickoff()
            else:
                assert made.kickoff().tasks_output[0].pydantic == Receipt(amount=5)
    assert len(clerk.llm.asked) == 1


class Billing(Flow):
    """A flow with two starts, a join and a router."""

    @start()
    def one(self) -> str:
        """Begin."""
        self.state["one"] = 1
        return "1"

    @start()
    async def two(self) -> str:
        """Begin as well."""
        self.state["two"] = 2
        return "2"

    @router(and_(one, two))
    def both(self) -> str:
        """Join."""
        return "paid"

    @listen("paid")
    def end(self) -> dict[str, Any]:
        """Say what there is."""
        return {key: value for key, value in self.state.items() if key != "id"}


@pytest.mark.parametrize("face", ["kickoff", "kickoff_async"])
def test_a_wrapped_flow_gives_what_a_bare_one_does(guard: Guard, face: str) -> None:
    """Results, state and method outputs are equal; each method is a step."""

    def run(flow: Any) -> Any:
        output = getattr(flow, face)()
        output = asyncio.run(output) if inspect.isawaitable(output) else output
        return [output, {key: value for key, value in flow.state.items() if key != "id"}, sorted(map(str, flow.method_outputs))]

    assert run(surefoot.wrap(Billing(), guard=guard)) == run(Billing())
    (made,) = guard.runs.list()
    assert sorted(found.path.split("[")[0] for found in guard.runs.checkpoints(made.run_id)) == ["both#1", "end#1", "one#1", "two#1"]


def test_a_flow_with_a_state_that_cannot_be_stored_runs(guard: Guard) -> None:
    """A lock in a flow's state costs the methods their memo, and nothing else."""
    flow = surefoot.wrap(Billing(), guard=guard)
    lock = flow._state["lock"] = threading.Lock()
    assert flow.kickoff() == {"one": 1, "two": 2, "lock": lock}


@pytest.mark.parametrize("face", ["kickoff", "kickoff_async", "akickoff"])
def test_a_wrapped_agent_gives_what_a_bare_one_does(guard: Guard, effects: Effects, face: str) -> None:
    """An agent on its own: its output, model and messages are equal."""

    def run(clerk: Any) -> Any:
        output = getattr(clerk, face)("pay", response_format=None)
        output = asyncio.run(output) if inspect.isawaitable(output) else output
        return [output.raw, output.agent_role, [m["content"] for m in output.messages]]

    clerks = [agent([ask("pay", amount=5)], "done", tools=[effects.tool("pay")]) for _ in range(2)]
    assert run(surefoot.wrap(clerks[0], guard=guard)) == run(clerks[1])


def test_a_tools_usage_limit_holds(guard: Guard, effects: Effects) -> None:
    """max_usage_count counts as it does bare, on the user's own tool."""
    pay = effects.tool("pay")
    pay.max_usage_count = 1
    surefoot.wrap(crew(agent([ask("pay", amount=1)], [ask("pay", amount=2)], "done", tools=[pay])), guard=guard).kickoff()
    assert (effects.all(), pay.current_usage_count) == ([["pay", 1]], 1)


@pytest.mark.parametrize("cache", [True, False])
def test_crewais_own_cache_answers_as_it_does_bare(guard: Guard, effects: Effects, cache: bool) -> None:  # noqa: FBT001 - as above
    """An equal request comes to the tool, or is answered from CrewAI's cache, as it is bare."""
    counts = []
    for wraps in (False, True):
        asks = [[ask("pay", amount=1)], [ask("look", amount=2)], [ask("pay", amount=1)]]
        made = crew(agent(*asks, "done", tools=[effects.tool("pay"), effects.tool("look")], cache=cache), cache=cache)
        (surefoot.wrap(made, guard=guard) if wraps else made).kickoff()
        counts.append(effects.count("pay"))
    assert counts[1] == 2 * counts[0]


def test_unclassified_tools_are_named_once(guard: Guard, effects: Effects, caplog: pytest.LogCaptureFixture) -> None:
    """Wrapping logs one notice that lists what nobody classified."""
    with caplog.at_level(logging.INFO, "surefoot"):
        surefoot.wrap(small(effects), guard=guard)
    assert [record.message.split(";")[0] for record in caplog.records] == ["crew: nobody classified pay"]


def test_an_agent_of_another_framework_is_refused(guard: Guard) -> None:
    """An agent whose tool calls run elsewhere cannot be guarded, and wrapping says so."""
    from crewai.agents.agent_builder.base_agent import BaseAgent

    class Foreign(BaseAgent):
        """Runs somewhere else."""

        def execute_task(self, *_args: Any, **_options: Any) -> str:
            """Say done."""
            return "done"

        async def aexecute_task(self, *_args: Any, **_options: Any) -> str:
            """Say done."""
            return "done"

        def create_agent_executor(self, *_args: Any, **_options: Any) -> None:
            """There is none."""

        def get_delegation_tools(self, _agents: Any) -> list[Any]:
            """There are none."""
            return []

        def get_platform_tools(self, _apps: Any) -> list[Any]:
            """There are none."""
            return []

        def get_mcp_tools(self, _mcps: Any) -> list[Any]:
            """There are none."""
            return []

    with pytest.raises(AdapterUnavailable, match="another framework"):
        surefoot.wrap(Foreign(role="x", goal="g", backstory="b", llm=Script(["done"])), guard=guard)


def test_too_old_a_release_is_refused(monkeypatch: pytest.MonkeyPatch, guard: Guard) -> None:
    """AS-59: a release below the range is refused with its version and what to install."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "0.1.0")
    with pytest.raises(AdapterUnavailable, match=r"crewai 0\.1\.0 is too old.*pip install"):
        surefoot.wrap(crew(agent("done")), guard=guard)


def test_matches_what_it_wraps(effects: Effects) -> None:
    """Crews, flows, agents and tools are matched, models and tasks are not."""
    adapter, made = CrewAIAdapter(), small(effects)
    assert all(adapter.matches(target) for target in (made, Billing(), made.agents[0], made.agents[0].tools[0]))
    assert not any(adapter.matches(target) for target in (made.tasks[0], made.agents[0].llm, "crew"))


def test_private_names() -> None:
    """Every private name of CrewAI that surefoot touches is there, with the parameters that it is called with."""
    from crewai.hooks import tool_hooks
    from crewai.llms.base_llm import BaseLLM
    from crewai.tools.structured_tool import CrewStructuredTool

    assert list(inspect.signature(Flow._execute_method).parameters)[:3] == ["self", "method_name", "method"]
    assert inspect.iscoroutinefunction(Flow._execute_method)
    assert inspect.iscoroutinefunction(Agent._execute_and_build_output_async)
    assert not inspect.iscoroutinefunction(Agent._execute_and_build_output)
    assert "executor" in inspect.getsource(Agent._prepare_kickoff).partition("return ")[0]
    assert isinstance(tool_hooks._before_tool_call_hooks, list)
    assert {"_run", "_arun"} <= set(vars(BaseTool))
    assert "_original_tool" in CrewStructuredTool.__private_attributes__
    assert isinstance(Billing()._state, dict)
    assert hasattr(Flow, "_start_methods") or "_flow_definition" in inspect.getsource(Flow.flow_definition)
    wrapped = getattr(BaseLLM, "_wrap_call_method", None)
    assert wrapped is None or "_crewai_rate_limit_wrapped" in inspect.getsource(wrapped)


def test_as_60_private_names_are_listed() -> None:
    """AS-60: every underscore name of CrewAI that the adapter touches is in the table of the docs, which names the test that owns it."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "crewai.md").read_text().partition("## Private names")[2]
    listed = set(re.findall(r"_[a-z]\w+", " ".join(re.findall(r"`([^`]+)`", page)))) | {"_execute_and_build_output_async"}
    own: set[str] = set()
    touched: set[str] = set()
    for source in Path(surefoot_crewai.__file__).parent.glob("*.py"):
        nodes = list(ast.walk(ast.parse(source.read_text())))
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)} | {source.stem}
        attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
        own |= {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "self"}
        touched |= {node.attr for node in attributes if re.match(r"_[a-z]", node.attr)}
        texts = (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
        touched |= {text for text in texts if re.fullmatch(r"_[a-z]\w+", text)}
    assert touched - own - listed == set()
    assert {"_state", "_before_tool_call_hooks", "_original_tool"} <= touched  # it looks where they are
