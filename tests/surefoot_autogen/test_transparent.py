"""Where nothing fails, a wrapped agent or team is the bare one: messages, events, exceptions, states, and what people see of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from autogen_agentchat.agents import (
    AssistantAgent,
    BaseChatAgent,
    MessageFilterAgent,
    MessageFilterConfig,
    PerSourceFilter,
    SocietyOfMindAgent,
)
from autogen_agentchat.base import Response
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination, TextMessageTermination
from autogen_agentchat.messages import StructuredMessage, TextMessage
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, MagenticOneGroupChat, RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import CancellationToken
from autogen_core.memory import ListMemory, MemoryContent
from autogen_core.tools import FunctionTool
from autogen_support import Model, ainvoke, asks, cashier, script
from pydantic import BaseModel

import surefoot
from surefoot import Guard

_GENERATED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|call_[0-9a-f]{8}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")


class Total(BaseModel):
    """A structured answer."""

    amount: int


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


async def fail(what: str) -> str:
    """Raise."""
    raise ConnectionError(what)


def loop(name: str = "loop", **options: Any) -> AssistantAgent:
    """Return an agent that calls tools in parallel and one after the other."""
    replies = [[asks("add", a=1), asks("add", a=1, b=5), asks("fail", what="x")], [asks("add", a=3), asks("nothing")], "all done TERMINATE"]
    return cashier(script(*replies), add, fail, name=name, **options)


def streamed() -> AssistantAgent:
    """Return one whose model streams, with a memory."""
    return loop(model_client_stream=True, memory=[ListMemory(memory_contents=[MemoryContent(content="Be brief.", mime_type="text/plain")])])


def summarised() -> AssistantAgent:
    """Return one that says what its tools said."""
    return loop(max_tool_iterations=1, tool_call_summary_format="{tool_name}: {result}")


def reflecting() -> AssistantAgent:
    """Return one that reflects on its tools, and answers in a structure."""
    replies = [[asks("add", a=5)], '{"amount": 7}']
    return cashier(script(*replies), add, output_content_type=Total, max_tool_iterations=1)


def nested() -> AssistantAgent:
    """Return an agent that has another one as a tool."""
    return cashier(script([asks("loop", task="go")], "outer done"), AgentTool(loop()), name="outer")


def team_as_tool() -> AssistantAgent:
    """Return an agent that has a team as a tool."""
    tool = TeamTool(round_robin(), name="desk", description="Serve.", return_value_as_last_message=True)
    return cashier(script([asks("desk", task="go")], "outer done"), tool, name="outer")


class Echo(BaseChatAgent):
    """An agent of somebody's own, with nothing but ``on_messages``."""

    produced_message_types = (TextMessage,)

    async def on_messages(self, messages: Any, cancellation_token: Any) -> Response:
        """Say it again."""
        return Response(chat_message=TextMessage(content=f"echo {messages[-1].content if messages else None}", source=self.name))

    async def on_reset(self, cancellation_token: Any) -> None:
        """Do nothing."""


def own() -> Echo:
    """Return one."""
    return Echo("echo", "Says it again.")


def society() -> SocietyOfMindAgent:
    """Return an agent that is a team."""
    return SocietyOfMindAgent("society", round_robin(), Model(lambda *_: "in short"))


def filtered() -> MessageFilterAgent:
    """Return an agent around another one."""
    return MessageFilterAgent(
        "filtered", loop(), MessageFilterConfig(per_source=[PerSourceFilter(source="user", position="last", count=1)])
    )


def round_robin(**options: Any) -> RoundRobinGroupChat:
    """Return a team that takes turns."""
    return RoundRobinGroupChat([loop(), own()], termination_condition=MaxMessageTermination(6), **options)


def selector() -> SelectorGroupChat:
    """Return a team whose model selects."""
    picks = Model(lambda _answered, messages: "echo" if "all done" in str(messages) else "loop")
    ends = MaxMessageTermination(4)
    return SelectorGroupChat([loop(), own(), cashier(script("x"), name="x")], picks, termination_condition=ends)


def swarm() -> Swarm:
    """Return a team that hands over."""
    first = cashier(script([asks("add", a=1), asks("transfer_to_second")]), add, name="first", handoffs=["second"])
    return Swarm([first, cashier(script("bye"), name="second")], termination_condition=TextMessageTermination("second"))


def graph() -> GraphFlow:
    """Return a team in which two agents are at work at the same time."""
    names = ["start", "left", "right", "end"]
    agents = [cashier(script([asks("add", a=1)], f"{name} done"), add, name=name) for name in names]
    builder = DiGraphBuilder()
    for agent in agents:
        builder.add_node(agent)
    builder.add_edge(agents[0], agents[1]).add_edge(agents[0], agents[2]).add_edge(agents[1], agents[3]).add_edge(agents[2], agents[3])
    return GraphFlow(builder.get_participants(), graph=builder.build())


def magentic() -> MagenticOneGroupChat:
    """Return a team with an orchestrator."""
    answer = {"reason": "r", "answer": True}
    ledger = dict.fromkeys(("is_request_satisfied", "is_in_loop", "is_progress_being_made"), answer)
    progress = json.dumps(
        {**ledger, "next_speaker": {"reason": "r", "answer": "loop"}, "instruction_or_question": {"reason": "r", "answer": "go"}}
    )
    said = Model(lambda _answered, messages: progress if "is_request_satisfied" in str(messages[-1].content) else "a plan")
    return MagenticOneGroupChat([loop()], said)


AGENTS = [loop, streamed, summarised, reflecting, nested, team_as_tool, own, society, filtered]
TEAMS = [round_robin, selector, swarm, graph, magentic]


def shown(item: Any) -> str:
    """Return what can be seen of an item of a stream or of a result, without what is new each time."""
    if isinstance(item, Response):
        return repr([shown(item.chat_message), [shown(one) for one in item.inner_messages or ()]])
    data = item.model_dump(mode="json")
    names: dict[str, str] = {}
    text = _GENERATED.sub(lambda found: names.setdefault(found[0], f"ID{len(names)}"), json.dumps(data, default=repr))
    return f"{type(item).__name__} {_TIME.sub('TIME', text)}"


def _time(value: Any) -> str:
    return str(value.isoformat().replace("+00:00", "Z"))


async def seen(target: Any, face: str) -> dict[str, Any]:
    """Run it on one face, twice, and return everything that a user can see."""
    found = []
    for words in ("go", "once more"):
        if face == "stream":
            found.append([shown(item) async for item in target.run_stream(task=words)])
        else:
            result = await ainvoke(target, words, face)
            found.append([shown(result), *map(shown, getattr(result, "messages", []))])
    state = await target.save_state()
    names: dict[str, str] = {}
    text = _GENERATED.sub(lambda one: names.setdefault(one[0], f"ID{len(names)}"), json.dumps(state, default=_time))
    return {"items": found, "state": _TIME.sub("TIME", text)}


def _sorted(items: list[str]) -> list[str]:
    return sorted(item for item in items if not item.startswith("TaskResult"))


def compared(make: Callable[[], Any], face: str, guard: Guard) -> None:
    """Check that it is the same wrapped and bare."""

    async def whole() -> None:
        bare = await seen(make(), face)
        with surefoot.run(thread="order-1"):
            wrapped = await seen(surefoot.wrap(make(), guard=guard), face)
        if make is graph:  # two are at work at the same time
            bare, wrapped = ({"items": [_sorted(items) for items in one["items"]]} for one in (bare, wrapped))
        assert wrapped == bare

    asyncio.run(whole())
    assert {run.status for run in guard.runs.list()} == {"completed"}


@pytest.mark.parametrize("face", ["run", "stream", "messages"])
@pytest.mark.parametrize("make", AGENTS, ids=lambda make: make.__name__)
def test_a_wrapped_agent_gives_what_the_bare_one_gives(guard: Guard, make: Callable[[], Any], face: str) -> None:
    """Messages, events, results and state are those of the bare agent, turn after turn."""
    compared(make, face, guard)


@pytest.mark.parametrize("face", ["run", "stream"])
@pytest.mark.parametrize("make", TEAMS, ids=lambda make: make.__name__)
def test_a_wrapped_team_gives_what_the_bare_one_gives(guard: Guard, make: Callable[[], Any], face: str) -> None:
    """Messages, events, stop reasons and state are those of the bare team, run after run."""
    compared(make, face, guard)


def broken(kind: str) -> Any:
    """Return an agent, or a team, whose model has no network."""

    def reply(*_args: Any) -> str:
        raise OSError("no network")

    agent = cashier(Model(reply), add)
    return agent if kind == "agent" else RoundRobinGroupChat([agent], max_turns=1)


@pytest.mark.parametrize("given", ["go", [], [1], 7])
@pytest.mark.parametrize("kind", ["agent", "team"])
def test_it_raises_what_the_bare_one_raises(guard: Guard, kind: str, given: Any) -> None:
    """Errors of models, and of tasks that the framework refuses, have the class and the text that they have bare."""

    async def failed(target: Any) -> tuple[type, str]:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, is the question
            await ainvoke(target, given)
        return type(caught.value), str(caught.value).partition("\n")[0]

    async def whole() -> None:
        bare = await failed(broken(kind))
        with surefoot.run("order-1"):
            assert await failed(surefoot.wrap(broken(kind), guard=guard)) == bare

    asyncio.run(whole())


@pytest.mark.parametrize("make", [loop, nested, round_robin, swarm], ids=lambda make: make.__name__)
def test_a_wrapped_one_looks_like_the_bare_one(guard: Guard, make: Callable[[], Any]) -> None:
    """Class and description are the bare one's."""

    def looks(target: Any) -> list[Any]:
        kinds = dict.fromkeys(f"{kind.__module__}.{kind.__qualname__}" for kind in type(target).__mro__)
        return [list(kinds), getattr(target, "description", None)]

    assert looks(surefoot.wrap(make(), guard=guard)) == looks(make())


def test_a_tool_keeps_its_schema_and_its_state(guard: Guard) -> None:
    """A guarded tool has the schema, the types and the words for its results that it had."""
    tool = FunctionTool(add, description="Add.")
    before = [tool.name, tool.schema, tool.args_type(), tool.return_type(), tool.return_value_as_string(3)]
    guard.tool(tool)
    assert [tool.name, tool.schema, tool.args_type(), tool.return_type(), tool.return_value_as_string(3)] == before
    assert asyncio.run(tool.run_json({"a": 1}, CancellationToken())) == 3


def test_a_structured_message_is_a_task(guard: Guard) -> None:
    """What a team is told in a structure of its own is passed on as it is."""
    team = RoundRobinGroupChat([own()], max_turns=1, custom_message_types=[StructuredMessage[Total]])
    task = StructuredMessage[Total](content=Total(amount=7), source="user")
    with surefoot.run("order-1"):
        result = asyncio.run(surefoot.wrap(team, guard=guard).run(task=task))
    assert result.messages[0] is task or result.messages[0] == task
    assert result.messages[-1].content == "echo amount=7"


def test_conditions_end_a_wrapped_team(guard: Guard) -> None:
    """A termination condition is looked at, and reset, as ever."""
    team = surefoot.wrap(RoundRobinGroupChat([loop(), own()], termination_condition=TextMentionTermination("TERMINATE")), guard=guard)

    async def whole() -> list[Any]:
        with surefoot.run(thread="t"):
            return [(await team.run(task=words)).stop_reason for words in ("go", "again")]

    assert asyncio.run(whole()) == ["Text 'TERMINATE' mentioned"] * 2
