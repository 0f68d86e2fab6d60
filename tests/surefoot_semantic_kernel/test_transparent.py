"""Where nothing fails, a wrapped agent and a wrapped kernel are the bare ones: results, streams, errors, and what people see of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from semantic_kernel.agents.chat_completion.chat_completion_agent import ChatHistoryAgentThread
from semantic_kernel.contents import ChatMessageContent, FunctionCallContent
from semantic_kernel.exceptions import KernelInvokeException
from semantic_kernel.filters.filter_types import FilterTypes
from semantic_kernel.functions import KernelArguments, kernel_function
from sk_support import cashier, kernel, model

import surefoot
from surefoot import Guard


class Order(BaseModel):
    """A structured argument and result."""

    id: str
    amount: int = 5


class Odd:
    """A result that is no data."""

    def __str__(self) -> str:
        """Return what the model is shown."""
        return "odd"


@kernel_function
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@kernel_function
async def fail(what: str) -> str:
    """Raise."""
    raise ConnectionError(what)


@kernel_function
def odd() -> Any:
    """Return something that is no data."""
    return Odd()


@kernel_function
async def bill(order: Order) -> Order:
    """Take and return an object."""
    return Order(id=order.id, amount=order.amount + 1)


@kernel_function
async def several() -> Any:
    """Yield."""
    for item in ("a", "b"):
        yield item


@kernel_function
def nothing() -> None:
    """Return nothing."""


@kernel_function
async def message() -> ChatMessageContent:
    """Return one of the framework's own."""
    made: Any = ChatMessageContent
    found: ChatMessageContent = made(role="assistant", content="said")
    return found


FUNCTIONS = (add, fail, odd, bill, several, nothing, message)
SCRIPTS: dict[str, list[tuple[str, Any]]] = {
    "text": [],
    "one": [("add", {"a": 1})],
    "parallel": [("add", {"a": 1}), ("add", {"a": 1, "b": 2}), ("bill", {"order": {"id": "7"}})],
    "raises": [("fail", {"what": "gone"})],
    "odd": [("odd", {})],
    "yields": [("several", {})],
    "nothing": [("nothing", {})],
    "message": [("message", {})],
    "unknown": [("missing", {})],
    "malformed": [("add", "{")],
    "missing an argument": [("add", {"b": 1})],
    "the wrong type": [("add", {"a": "x"})],
}


def said(name: str) -> Any:
    """Return a service that asks for what the script says, once, and then repeats what it was told."""

    def reply(answered: list[str], _messages: Any) -> Any:
        if answered or not SCRIPTS[name]:
            return f"done: {sorted(answered)}"
        return [
            FunctionCallContent(id=f"call_{number}", name=f"bank-{function}", arguments=given if isinstance(given, str) else dict(given))
            for number, (function, given) in enumerate(SCRIPTS[name])
        ]

    return model(reply)


def shown(content: Any) -> Any:
    """Return what can be seen of a message."""
    items = [[type(item).__qualname__, item.model_dump(exclude={"inner_content", "metadata"})] for item in content.items]
    return [type(content).__qualname__, content.role, content.name, content.finish_reason, content.ai_model_id, str(items)]


async def response(agent: Any) -> list[Any]:
    """Return what can be seen of a response."""
    item = await agent.get_response("go", thread=ChatHistoryAgentThread(thread_id="t"))
    conversation = [shown(one) async for one in item.thread.get_messages()]
    return [type(item).__qualname__, shown(item.message), conversation[:2], sorted(map(str, conversation[2:]))]


async def invoked(agent: Any) -> list[Any]:
    """Return what can be seen of an invocation and of its intermediate messages."""
    heard: list[str] = []

    async def hear(content: Any) -> None:
        heard.append(str(shown(content)))

    items = [shown(item.message) async for item in agent.invoke("go", on_intermediate_message=hear)]
    return [items, sorted(heard)]


async def streamed(agent: Any) -> list[Any]:
    """Return what can be seen of a stream and of its intermediate messages."""
    heard: list[str] = []

    async def hear(content: Any) -> None:
        heard.append(str(shown(content)))

    items = [shown(item.message) async for item in agent.invoke_stream("go", on_intermediate_message=hear)]
    return [items, sorted(heard)]


@pytest.mark.parametrize("face", [response, invoked, streamed])
@pytest.mark.parametrize("name", SCRIPTS)
def test_what_an_agent_says_is_what_it_says_bare(guard: Guard, name: str, face: Callable[..., Any]) -> None:
    """Responses, conversations, intermediate messages and chunks of a stream are equal, also where the model asks amiss."""
    bare = asyncio.run(face(cashier(said(name), *FUNCTIONS)))
    with surefoot.run("order-7"):
        assert asyncio.run(face(surefoot.wrap(cashier(said(name), *FUNCTIONS), guard=guard))) == bare


def outcome(made: Any, name: str, arguments: dict[str, Any]) -> list[Any]:
    """Return what becomes of a function that code invokes."""
    try:
        result = asyncio.run(made.invoke(plugin_name="bank", function_name=name, arguments=KernelArguments(**arguments)))
    except KernelInvokeException as exc:
        return [type(exc), str(exc), type(exc.__cause__), str(exc.__cause__)]
    value = result.value
    return [type(result), type(value), str(value), sorted(result.metadata), result.function == made.get_function("bank", name).metadata]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add", {"a": 1}),
        ("add", {"a": "3", "b": 4}),
        ("add", {"a": "x"}),
        ("add", {}),
        ("fail", {"what": "gone"}),
        ("odd", {}),
        ("bill", {"order": Order(id="7")}),
        ("several", {}),
        ("nothing", {}),
        ("message", {}),
    ],
)
def test_what_a_function_returns_or_raises_is_what_it_does_bare(guard: Guard, name: str, arguments: dict[str, Any]) -> None:
    """Results, their types and metadata, and errors with their causes are equal."""
    bare = outcome(kernel(said("text"), *FUNCTIONS), name, arguments)
    assert outcome(surefoot.wrap(kernel(said("text"), *FUNCTIONS), guard=guard), name, arguments) == bare


def test_a_filter_that_ends_the_turn_ends_it(guard: Guard) -> None:
    """``terminate`` of a filter, and its own result, are what they are bare."""

    def run(wrapped: bool) -> Any:  # noqa: FBT001 - called here only
        agent = cashier(said("one"), *FUNCTIONS)

        @agent.kernel.filter(FilterTypes.AUTO_FUNCTION_INVOCATION)
        async def ends(context: Any, next: Any) -> None:  # noqa: A002 - the framework's name
            await next(context)
            context.terminate = True

        item = asyncio.run((surefoot.wrap(agent, guard=guard) if wrapped else agent).get_response("go"))
        return shown(item.message)

    with surefoot.run("order-7"):
        assert run(wrapped=True) == run(wrapped=False)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the framework looks at every attribute of an agent that is a plugin
def test_what_people_see_is_the_same(guard: Guard) -> None:
    """Type, fields and schemas of a kernel and of an agent are the bare ones; the agent equals its copy and is a plugin like it."""
    agent = cashier(said("text"), *FUNCTIONS)
    wrapped = surefoot.wrap(agent, guard=guard)
    assert wrapped == agent
    assert repr(wrapped.kernel.get_full_list_of_function_metadata()) == repr(agent.kernel.get_full_list_of_function_metadata())
    assert type(wrapped).model_fields.keys() == type(agent).model_fields.keys()
    plugins = [kernel(said("text")) for _ in range(2)]
    for made, one in zip(plugins, (agent, wrapped), strict=True):
        made.add_plugin(one, "cashier")
    first, second = ([metadata.model_dump() for metadata in made.get_full_list_of_function_metadata()] for made in plugins)
    assert str(first) == str(second)
