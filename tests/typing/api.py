"""Never run, only type-checked: the programs that users and authors write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

from agent_framework import Agent as FrameworkAgent
from agent_framework import AgentResponseUpdate
from agents import Agent, Runner, function_tool
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.teams import RoundRobinGroupChat
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.graph import MessagesState, StateGraph
from pydantic_ai import Agent as PydanticAgent
from semantic_kernel import Kernel  # pyright: ignore[reportMissingImports]

import surefoot
import surefoot_journal
from surefoot.contracts import Adapter, Allow, Capabilities, Decision, Deny, Gate, Store, Transaction, Verifier
from surefoot.types import ProbeAnswer


def langgraph_app(builder: StateGraph[MessagesState, None, MessagesState, MessagesState]) -> None:
    """Wrap a graph in one line and keep its type."""
    graph = builder.compile()
    wrapped = surefoot.wrap(graph, store="sqlite:///app.db", reads=["search*"])
    with surefoot.run("invoice-7", tenant="acme"):
        wrapped.invoke({"messages": []})


@tool
@surefoot.tool(effect="unsafe", key=["order_id"])
def charge(order_id: str, amount: int) -> str:
    """Declare a tool, hand the key to the payment provider, and prove what did not happen."""
    call = surefoot.current_call()
    if call is None or amount <= 0:
        raise surefoot.NotCommitted("nothing was sent")
    return f"{order_id} {call.idempotency_key}"


@surefoot.tool(effect="idempotent")
async def look_up(customer: str) -> list[str]:
    """Declare a plain coroutine function and keep its type."""
    return [customer]


async def python_app(guard: surefoot.Guard) -> None:
    """Wrap plain functions and keep their types."""

    def bill(order: int) -> str:
        step = surefoot.current_step()
        return f"{order} {step.hint if step else ''}"

    async def main(customer: str) -> list[str]:
        return [*await look_up(customer), surefoot.wrap(bill, guard=guard)(7)]

    assert_type(surefoot.wrap(bill, guard=guard)(7), str)
    with surefoot.run("invoice-7", tenant="acme"):
        assert_type(await surefoot.wrap(main, guard=guard)("maria"), list[str])


def langchain_agent(model: BaseChatModel) -> None:
    """Wrap what ``create_agent`` makes: it is a compiled graph, and stays one."""
    agent = surefoot.wrap(create_agent(model, [charge], system_prompt="Help."), reads=["search*"])
    for chunk in agent.stream({"messages": [HumanMessage("Charge order 7.")]}, {"configurable": {"thread_id": "customer-7"}}):
        print(chunk)


async def openai_agents_app(guard: surefoot.Guard) -> None:
    """Wrap an agent and a tool in one line each, and keep their types."""
    refund = function_tool(look_up)
    agent: Agent[None] = Agent(name="cashier", tools=[refund])
    wrapped = surefoot.wrap(agent, guard=guard)
    assert_type(wrapped, Agent[None])
    with surefoot.run("invoice-7"):
        result = await Runner.run(wrapped, "Charge order 7.")
    with surefoot_journal.offline(guard, "run_7") as replay:
        Runner.run_streamed(wrapped, result.to_input_list())
    assert_type(replay.calls, list[str])


async def pydantic_ai_app(agent: PydanticAgent[None, str], guard: surefoot.Guard) -> None:
    """Wrap a Pydantic AI agent in one line, and keep its type."""
    wrapped = surefoot.wrap(agent, guard=guard)
    assert_type(wrapped, PydanticAgent[None, str])
    with surefoot.run("invoice-7"):
        assert_type((await wrapped.run("Charge order 7.")).output, str)


async def agent_framework_app(agent: FrameworkAgent, guard: surefoot.Guard) -> None:
    """Wrap a Microsoft Agent Framework agent in one line, and keep its type."""
    wrapped = assert_type(surefoot.wrap(agent, guard=guard), FrameworkAgent)
    with surefoot.run("invoice-7"):
        assert_type((await wrapped.run("Charge order 7.")).text, str)
        async for update in wrapped.run("Charge order 7.", stream=True):
            assert_type(update, AgentResponseUpdate)


async def autogen_app(agent: AssistantAgent, guard: surefoot.Guard) -> None:
    """Wrap an AutoGen agent and a team in one line each, and keep their types."""
    assert_type(surefoot.wrap(agent, guard=guard), AssistantAgent)
    team = assert_type(surefoot.wrap(RoundRobinGroupChat([agent]), guard=guard), RoundRobinGroupChat)
    with surefoot.run("invoice-7"):
        assert_type(await team.run(task="Charge order 7."), TaskResult)


async def semantic_kernel_app(kernel: Kernel, guard: surefoot.Guard) -> None:
    """Wrap a Semantic Kernel kernel in one line, and keep its type."""
    wrapped = surefoot.wrap(kernel, guard=guard)
    assert_type(wrapped, Kernel)
    with surefoot.run("invoice-7"):
        await wrapped.invoke(plugin_name="bank", function_name="charge", order_id="7")


def probe(call: surefoot.Call) -> ProbeAnswer:
    """Look whether a call in doubt happened."""
    return surefoot.happened({"receipt": call.arguments["order_id"]}) if call.entry else surefoot.not_seen()


class NotEmpty(Verifier):
    """A verifier author's class."""

    def verify(self, output: surefoot.StepOutput) -> surefoot.Verdict:
        """Judge."""
        if output.output:
            return surefoot.Verdict.passed()
        return surefoot.Verdict.failed(surefoot.ErrorClass.INCOMPLETE, "The answer was empty.")


class OfficeHours(Gate):
    """A gate author's class."""

    def check(self, call: surefoot.Call) -> Decision:
        """Decide."""
        return Allow() if call.effect is surefoot.Effect.READ else Deny("the office is closed")


def governed(target: Any) -> None:
    """Use every option of wrap."""
    surefoot.wrap(
        target,
        tools={"charge": surefoot.ToolRule(effect="unsafe", probe=probe), "get_*": surefoot.ToolRule(effect=surefoot.Effect.READ)},
        steps={"answer": surefoot.StepRule(goal="answer", verifier=NotEmpty(), retry=surefoot.Retry(max_attempts=2))},
        budget=surefoot.Budget(calls=20, per="thread"),
        on_event=lambda event: print(event.seq, event.type),
        wait=30,
        strict=True,
    )


class MyAdapter(Adapter):
    """An adapter author's class."""

    name = "mine"
    capabilities = Capabilities(copies=False)

    def matches(self, target: object) -> bool:
        """Match by module name."""
        return any(kind.__module__ == "my_framework" for kind in type(target).__mro__)

    def wrap(self, target: Any, guard: surefoot.Guard) -> Any:
        """Wrap."""
        guard.announce("mine")
        return target


@surefoot.hookimpl
def surefoot_adapter() -> Adapter:
    """Register it."""
    return MyAdapter()


def store_user(store: Store) -> int:
    """A store author's contract from the other side."""

    def work(tx: Transaction) -> int:
        tx.records.put("mine", "k", {"a": 1}, version=0)
        return tx.counters.value("n")

    return assert_type(store.run(work), int)


def operator() -> None:
    """Settle what is in doubt."""
    with surefoot.Guard("sqlite:///app.db", gates=[OfficeHours()]) as guard:
        doubts = assert_type(guard.calls.list(state="in_doubt"), Sequence[surefoot.CallRecord])
        for call in doubts:
            guard.calls.settle(call.call_id, committed={"receipt": 1}, by="maria")
        try:
            guard.runs.show("run_1")
        except surefoot.NotFound as exc:
            print(exc.code, exc.exit_code, exc.run_id)
