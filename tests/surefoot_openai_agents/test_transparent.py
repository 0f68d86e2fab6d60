"""Where nothing fails, a wrapped agent is the bare one: items, events, exceptions, and what people see of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    Handoff,
    InputGuardrail,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrail,
    OutputGuardrailTripwireTriggered,
    RunConfig,
    RunHooks,
    Runner,
    SQLiteSession,
    StopAtTools,
    ToolOutputText,
    function_tool,
    handoff,
)
from agents.exceptions import UserError
from agents.models.interface import ModelProvider
from oai_support import Script, asks, says
from pydantic import BaseModel

import surefoot
from surefoot import Guard

FACES = ["sync", "async", "stream"]
_GENERATED = re.compile(r"(call|msg|resp)_[0-9a-f]{8}")


class Total(BaseModel):
    """A structured answer."""

    amount: int


class Odd:
    """A result that is no data."""

    def __str__(self) -> str:
        """Return what the model is shown."""
        return "odd"


@function_tool
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@function_tool
async def fail(what: str) -> str:
    """Raise."""
    raise ConnectionError(what)


@function_tool
def odd() -> Any:
    """Return something that is no data."""
    return Odd()


@function_tool
def typed() -> ToolOutputText:
    """Return one of the framework's own outputs."""
    return ToolOutputText(text="typed")


def loop() -> Agent[Any]:
    """Return an agent that calls tools in parallel and one after the other."""
    replies = [[asks("add", a=1), asks("add", a=1, b=5), asks("fail", what="x")], [asks("odd"), asks("typed")], [says("all done")]]
    return Agent(name="loop", model=Script(_by_count(replies)), tools=[add, fail, odd, typed], instructions="Be brief.")


def _by_count(replies: list[list[Any]]) -> Callable[..., Any]:
    limits = [sum(map(len, replies[:number])) for number in range(len(replies))]
    return lambda answered, _items: replies[max(n for n, limit in enumerate(limits) if limit <= len(answered))]


def handed() -> Agent[Any]:
    """Return an agent that hands over, by an agent and by a Handoff object."""
    third: Any = Agent(name="third", model=Script(lambda *_: [says("third")]))
    second: Any = Agent(name="second", model=Script(lambda *_: [asks("transfer_to_third")]), handoffs=[handoff(third)])
    return Agent(name="first", model=Script(lambda *_: [asks("transfer_to_second")]), handoffs=[second])


def nested() -> Agent[Any]:
    """Return an agent that has another one as a tool."""
    inner = loop()
    return Agent(
        name="outer",
        model=Script(lambda answered, _items: [says("outer done")] if answered else [asks("ask_loop", input="go")]),
        tools=[inner.as_tool("ask_loop", "Asks the loop.")],
    )


def stops_at_tool() -> Agent[Any]:
    """Return an agent whose answer is the tool's."""
    return Agent(
        name="stops", model=Script(lambda *_: [asks("add", a=1)]), tools=[add], tool_use_behavior=StopAtTools(stop_at_tool_names=["add"])
    )


def structured() -> Agent[Any]:
    """Return an agent with a structured answer and an input guardrail that passes."""

    def fine(_context: Any, _agent: Any, _given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info="fine", tripwire_triggered=False)

    model = Script(lambda *_: [says('{"amount": 7}')])
    return Agent(name="structured", model=model, output_type=Total, input_guardrails=[InputGuardrail(guardrail_function=fine)])


def escapes() -> Agent[Any]:
    """Return an agent whose tool's error ends the run."""
    tool = function_tool(lambda: 1 / 0, name_override="divide", failure_error_function=None)
    return Agent(name="escapes", model=Script(lambda *_: [asks("divide")]), tools=[tool])


def endless() -> Agent[Any]:
    """Return an agent that never ends."""
    return Agent(name="endless", model=Script(lambda *_: [asks("add", a=1)]), tools=[add])


def unknown() -> Agent[Any]:
    """Return an agent whose model asks for a tool that is not there."""
    return Agent(name="unknown", model=Script(lambda *_: [asks("nothing")]), tools=[add])


def judged() -> Agent[Any]:
    """Return an agent whose output guardrail trips."""

    def bad(_context: Any, _agent: Any, _output: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info="bad", tripwire_triggered=True)

    return Agent(name="judged", model=Script(lambda *_: [says("hm")]), output_guardrails=[OutputGuardrail(guardrail_function=bad)])


def broken() -> Agent[Any]:
    """Return an agent whose model raises."""

    def reply(*_args: Any) -> Any:
        raise OSError("no network")

    return Agent(name="broken", model=Script(reply), tools=[add])


WELL = [loop, handed, nested, stops_at_tool, structured]
ILL = {
    escapes: UserError,
    endless: MaxTurnsExceeded,
    unknown: ModelBehaviorError,
    judged: OutputGuardrailTripwireTriggered,
    broken: OSError,
}


def renamed(text: str) -> str:
    """Return text with generated ids renamed by first appearance."""
    names: dict[str, str] = {}
    return _GENERATED.sub(lambda found: names.setdefault(found[0], f"ID{len(names)}"), text)


def shown(result: Any, events: list[Any]) -> dict[str, Any]:
    """Return everything of a result that a user can see, as comparable text."""
    items = [[item.type, item.agent.name, json.dumps(item.to_input_item(), default=str)] for item in result.new_items]
    outputs = [type(getattr(item, "output", None)).__name__ for item in result.new_items]
    usage = result.context_wrapper.usage
    seen = {
        "items": renamed(json.dumps(items)),
        "outputs": outputs,
        "final": repr(result.final_output),
        "last": result.last_agent.name,
        "usage": (usage.requests, usage.input_tokens, usage.output_tokens, usage.total_tokens),
        "responses": len(result.raw_responses),
        "guardrails": [found.output.output_info for found in result.input_guardrail_results],
        "history": renamed(json.dumps(result.to_input_list(), default=str)),
    }
    seen["events"] = [
        renamed(f"{event.type} {getattr(event, 'name', '')} {getattr(getattr(event, 'data', None), 'type', '')}") for event in events
    ]
    return seen


def invoke(agent: Any, face: str, **options: Any) -> dict[str, Any]:
    """Run an agent on one face and return what can be seen."""
    if face == "sync":
        try:
            return shown(Runner.run_sync(agent, "go", **options), [])
        finally:
            asyncio.get_event_loop_policy().get_event_loop().close()  # the framework leaves it open

    async def run() -> dict[str, Any]:
        if face == "async":
            return shown(await Runner.run(agent, "go", **options), [])
        result = Runner.run_streamed(agent, "go", **options)
        return shown(result, [event async for event in result.stream_events()])

    return asyncio.run(run())


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("make", WELL, ids=lambda make: make.__name__)
def test_a_wrapped_agent_gives_what_the_bare_one_gives(guard: Guard, make: Callable[[], Agent[Any]], face: str) -> None:
    """Items, stream events, usage, history and final output are those of the bare agent."""
    bare = invoke(make(), face)
    with surefoot.run("order-1"):
        assert invoke(surefoot.wrap(make(), guard=guard), face) == bare
    assert [run.status for run in guard.runs.list()] == ["completed"]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("make", ILL, ids=lambda make: make.__name__)
def test_a_wrapped_agent_raises_what_the_bare_one_raises(guard: Guard, make: Callable[[], Agent[Any]], face: str) -> None:
    """Errors have the class, the text, the cause and the run data that they have without surefoot; the run can be resumed."""

    def failed(agent: Any) -> tuple[Any, ...]:
        with pytest.raises(ILL[make]) as caught:
            invoke(agent, face, max_turns=3)
        data = getattr(caught.value, "run_data", None)
        items = [item.type for item in data.new_items] if data is not None else None
        return type(caught.value), renamed(str(caught.value)), repr(caught.value.__cause__), items

    bare = failed(make())
    with surefoot.run("order-1"):
        assert failed(surefoot.wrap(make(), guard=guard)) == bare
    assert [run.status for run in guard.runs.list()] == ["open"]


def test_the_original_is_left_alone(guard: Guard) -> None:
    """Wrapping copies: agent, tools, hand-offs and model of the original are the same objects as before, and run unguarded."""
    agent = nested()
    before = {field.name: getattr(agent, field.name) for field in dataclasses.fields(agent)}
    tools, inner = list(agent.tools), vars(agent.tools[0]).copy()
    wrapped = surefoot.wrap(agent, guard=guard)
    assert wrapped is not agent
    assert isinstance(wrapped, Agent)
    assert type(wrapped).__qualname__ == "Agent"
    assert {name: getattr(agent, name) for name in before} == before
    assert agent.tools == tools
    assert vars(agent.tools[0]) == inner
    assert invoke(agent, "async")["final"] == "'outer done'"
    assert guard.calls.list() == []


def test_tools_keep_their_schema_and_their_callable(guard: Guard) -> None:
    """A guarded tool has the name, schema, description and policies of the original, and so has a copy of it."""
    wrapped = surefoot.wrap(loop(), guard=guard)
    for tool, mine in zip(loop().tools, wrapped.tools, strict=True):
        assert [getattr(mine, name) for name in ("name", "description", "params_json_schema", "strict_json_schema", "needs_approval")] == [
            getattr(tool, name) for name in ("name", "description", "params_json_schema", "strict_json_schema", "needs_approval")
        ]
    assert getattr(wrapped.tools[0], "__wrapped__", None) == getattr(add, "__wrapped__", None)


def test_a_clone_of_a_guarded_agent_is_guarded(guard: Guard) -> None:
    """``clone`` with a new tool, a new hand-off and another model leaves nothing unguarded."""
    second: Any = Agent(name="second", model=Script(lambda *_: [says("second")]))
    wrapped = surefoot.wrap(Agent(name="a", model=Script(lambda *_: [says("x")])), guard=guard)

    def reply(answered: list[str], _items: list[Any]) -> list[Any]:
        return [asks("transfer_to_second")] if answered else [asks("add", a=1)]

    clone = wrapped.clone(tools=[add], handoffs=[second], model=Script(reply))
    with surefoot.run("order-1"):
        assert invoke(clone, "async")["last"] == "second"
    assert [(row.tool, row.state) for row in guard.calls.list()] == [("add", "committed")]
    kinds = [event.type for event in guard.runs.events(guard.runs.list()[0].run_id)]
    assert kinds.count("model.replied") == 3


@pytest.mark.parametrize("face", FACES)
def test_models_of_a_provider_are_journalled(guard: Guard, face: str) -> None:
    """A model that is only named comes from the run's provider, and from its RunConfig: its replies are recorded all the same."""
    closed: list[int] = []

    class Provider(ModelProvider):
        def get_model(self, model_name: str | None) -> Any:
            return Script(lambda *_: [says(f"I am {model_name}")])

        async def aclose(self) -> None:
            closed.append(1)

    agent = surefoot.wrap(Agent(name="a", model="some-model"), guard=guard)
    with surefoot.run("order-1"):
        assert invoke(agent, face, run_config=RunConfig(model_provider=Provider()))["final"] == "'I am some-model'"
    with surefoot.run("order-2"):
        config = RunConfig(model=Script(lambda *_: [says("from the config")]))
        assert invoke(agent, face, run_config=config)["final"] == "'from the config'"
    events = [event.type for run in guard.runs.list() for event in guard.runs.events(run.run_id)]
    assert events.count("model.replied") == 2
    assert closed == [], "the caller's provider is the caller's to close"


@pytest.mark.parametrize("face", FACES)
def test_hooks_and_sessions_see_what_they_see_bare(guard: Guard, tmp_path: Path, face: str) -> None:
    """Run hooks are called in the same order with the same tools, and the session holds the same items."""

    def seen(agent: Any, name: str) -> Any:
        calls: list[str] = []

        class Hooks(RunHooks[Any]):
            async def on_agent_start(self, context: Any, agent: Any) -> None:
                calls.append(f"start {agent.name}")

            async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
                calls.append(f"tool {tool.name}")

            async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
                calls.append(f"{tool.name}: {result}")

        session = SQLiteSession(name, tmp_path / name)
        invoke(agent, face, hooks=Hooks(), session=session)
        items = asyncio.run(session.get_items())
        session.close()
        return sorted(calls), renamed(json.dumps(items))

    assert seen(surefoot.wrap(loop(), guard=guard), "wrapped") == seen(loop(), "bare")


def test_a_bare_agent_beside_a_guarded_one_is_let_through(guard: Guard) -> None:
    """The front of the default runner changes nothing for an agent that nobody wrapped."""
    surefoot.wrap(loop(), guard=guard)
    assert invoke(handed(), "async")["final"] == "'third'"
    assert guard.runs.list() == []


def test_handoff_objects_are_copied(guard: Guard) -> None:
    """A Handoff object that two agents share is copied for the guarded one, and leads to a guarded agent."""
    target: Any = Agent(name="target", model=Script(lambda *_: [asks("add", a=1)]), tools=[add], tool_use_behavior="stop_on_first_tool")
    shared: Handoff[Any, Any] = handoff(target)
    make = lambda: Agent(name="a", model=Script(lambda *_: [asks("transfer_to_target")]), handoffs=[shared])  # noqa: E731 - made twice
    with surefoot.run("order-1"):
        assert invoke(surefoot.wrap(make(), guard=guard), "async")["final"] == "'3'"
    assert len(guard.calls.list()) == 1
    assert invoke(make(), "async")["final"] == "'3'"
    assert len(guard.calls.list()) == 1


@pytest.mark.parametrize("mode", ["immediate", "after_turn"])
def test_a_stream_that_its_consumer_ends_can_be_resumed(guard: Guard, mode: Any) -> None:
    """A consumer cancels the stream after the first tool: the run is open, and goes on from there under its name."""
    agent = surefoot.wrap(loop(), guard=guard)

    async def part() -> None:
        result = Runner.run_streamed(agent, "go")
        async for event in result.stream_events():
            if getattr(event, "name", "") == "tool_output":
                result.cancel(mode=mode)

    with surefoot.run("order-1"):
        asyncio.run(part())
        assert [run.status for run in guard.runs.list()] == ["open"]
        assert invoke(agent, "stream")["final"] == "'all done'"
    assert [run.status for run in guard.runs.list()] == ["completed"]
    assert len(guard.calls.list()) == 5


def test_concurrent_runs_share_nothing(guard: Guard) -> None:
    """Eight runs of one wrapped agent at the same time, each under its name: eight runs, each with its own calls."""
    agent = surefoot.wrap(loop(), guard=guard)

    async def one(name: str) -> Any:
        with surefoot.run(name):
            return (await Runner.run(agent, "go")).final_output

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*(one(f"order-{n}") for n in range(8))))

    assert asyncio.run(all_of_them()) == ["all done"] * 8
    runs = guard.runs.list()
    assert len(runs) == 8
    assert [len(guard.calls.list(run_id=run.run_id)) for run in runs] == [5] * 8
