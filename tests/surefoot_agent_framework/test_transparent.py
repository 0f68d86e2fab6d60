"""Where nothing fails, a wrapped agent is the bare one: responses, updates, sessions, errors, and what people see of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from agent_framework import (
    AgentMiddleware,
    AgentSession,
    ChatMiddleware,
    Content,
    FunctionMiddleware,
    FunctionTool,
    Message,
    MiddlewareTermination,
)
from maf_support import cashier, model, script
from pydantic import BaseModel

import surefoot
from surefoot import Guard

_GENERATED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")


class Order(BaseModel):
    """A structured argument and result."""

    id: str
    amount: int = 5


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


async def fail(what: str) -> str:
    """Raise."""
    raise ConnectionError(what)


async def bill(order: Order) -> Order:
    """Take and return an object."""
    return Order(id=str(order), amount=6)


def picture() -> list[Any]:
    """Return words and a picture."""
    return ["look:", Content.from_data(b"png", "image/png")]


def nothing() -> None:
    """Return nothing."""


class Desk:
    """An object whose methods are tools."""

    name = "desk"

    def serve(self, who: str) -> str:
        """Serve."""
        return f"{self.name} serves {who}"


def limited() -> FunctionTool:
    """Return a tool that may be called once."""
    return FunctionTool(name="limited", func=lambda: "once", max_invocations=1)


SCRIPTS: dict[str, list[tuple[str, Any]]] = {
    "text": [],
    "one": [("add", {"a": 1})],
    "parallel": [("add", {"a": 1}), ("add", {"a": 1, "b": 2}), ("bill", {"order": {"id": "7"}})],
    "raises": [("fail", {"what": "gone"})],
    "picture": [("picture", {})],
    "method": [("serve", {"who": "Ann"})],
    "limited": [("limited", {}), ("limited", {})],
    "nothing": [("nothing", {})],
    "unknown": [("missing", {})],
    "malformed": [("add", "{")],
    "missing an argument": [("add", {"b": 1})],
    "the wrong type": [("add", {"a": "x"})],
    "asks a person": [("approved", {})],
    "is for the caller": [("elsewhere", {"a": 1})],
}


def loop(plan: str, **options: Any) -> Any:
    """Return an agent whose model asks for what the script says, once, and then repeats what it was told."""

    def reply(answered: list[str], messages: Any) -> Any:
        if answered or not SCRIPTS[plan]:
            return f"done: {answered}"
        return [
            Content.from_function_call(call_id=f"call_{number}", name=tool, arguments=given if isinstance(given, str) else dict(given))
            for number, (tool, given) in enumerate(SCRIPTS[plan])
        ]

    tools = [
        add,
        fail,
        bill,
        picture,
        nothing,
        Desk().serve,
        limited(),
        FunctionTool(name="approved", func=nothing, approval_mode="always_require"),
        FunctionTool(name="elsewhere", func=None, input_model=Order),
    ]
    return cashier(model(reply), *tools, **options)


def shown(found: Any) -> str:
    """Return what can be seen of something of the framework, without what is new each time."""
    names: dict[str, str] = {}
    text = json.dumps(found.to_dict(), default=repr, sort_keys=True)
    return f"{type(found).__qualname__} {_GENERATED.sub(lambda one: names.setdefault(one[0], f'ID{len(names)}'), text)}"


async def ran(agent: Any, given: Any, session: Any) -> list[str]:
    """Return what can be seen of a response."""
    response = await agent.run(given, session=session)
    return [shown(response), response.text, str(response.usage_details), str(len(response.user_input_requests))]


async def streamed(agent: Any, given: Any, session: Any) -> list[str]:
    """Return what can be seen of a stream and of its response."""
    stream = agent.run(given, stream=True, session=session)
    return [*[shown(update) async for update in stream], shown(await stream.get_final_response())]


async def turns(agent: Any, face: Callable[..., Any], *, session: bool) -> list[Any]:
    """Return what can be seen of two turns, and of the session they were said in."""
    kept = AgentSession(session_id="s") if session else None
    found = [await face(agent, given, kept) for given in ("go", [Message("user", ["once"]), "more"])]
    return [found, None if kept is None else shown(kept)]


def compared(guard: Guard, make: Callable[[], Any], face: Callable[..., Any], *, session: bool) -> None:
    """Check that it is the same wrapped and bare."""

    async def whole() -> None:
        bare = await turns(make(), face, session=session)
        with surefoot.run(thread="order-7"):
            assert await turns(surefoot.wrap(make(), guard=guard), face, session=session) == bare

    asyncio.run(whole())


@pytest.mark.parametrize("session", [True, False])
@pytest.mark.parametrize("face", [ran, streamed])
@pytest.mark.parametrize("name", SCRIPTS)
def test_what_an_agent_says_is_what_it_says_bare(guard: Guard, name: str, face: Callable[..., Any], *, session: bool) -> None:
    """Responses, updates, usage and sessions are equal, turn after turn, also where the model asks amiss."""
    compared(guard, lambda: loop(name), face, session=session)


class Ends(FunctionMiddleware):
    """Ends the loop with a result of its own."""

    async def process(self, context: Any, call_next: Any) -> None:
        """End it."""
        context.result = "ended"
        raise MiddlewareTermination


class Answers(ChatMiddleware):
    """Answers in the model's place, and changes what it is asked."""

    async def process(self, context: Any, call_next: Any) -> None:
        """Change it."""
        context.messages.insert(0, Message("system", ["be brief"]))
        await call_next()


class Loud(AgentMiddleware):
    """Changes what an agent says."""

    async def process(self, context: Any, call_next: Any) -> None:
        """Change it."""
        await call_next()
        if not context.stream:
            context.result.messages[-1].contents.append(Content.from_text("LOUD"))


@pytest.mark.parametrize("face", [ran, streamed])
@pytest.mark.parametrize("kind", [Ends, Answers, Loud])
def test_middleware_of_the_users_does_what_it_does_bare(guard: Guard, kind: type, face: Callable[..., Any]) -> None:
    """Middleware of every kind, on the agent, sees and changes what it does bare."""
    compared(guard, lambda: loop("one", middleware=[kind()]), face, session=True)


@pytest.mark.parametrize("face", [ran, streamed])
def test_an_agent_as_a_tool_is_what_it_is_bare(guard: Guard, face: Callable[..., Any]) -> None:
    """An agent that is another one's tool answers what it answers bare, and is given its session where it is to be."""

    def make() -> Any:
        heard: list[str] = []
        tool = loop("one", name="inner").as_tool(propagate_session=True, stream_callback=lambda update: heard.append(update.text))
        asked = Content.from_function_call(call_id="call_inner", name="inner", arguments={"task": "go"})
        return cashier(model(lambda told, _: f"{told} {heard}" if told else [asked]), tool, name="outer")

    compared(guard, make, face, session=True)


def test_a_response_format_is_what_it_is_bare(guard: Guard) -> None:
    """A structured answer is parsed as it is bare, and what is none raises the same."""

    async def value(text: str, *, wrapped: bool) -> Any:
        agent = cashier(script(text))
        made = surefoot.wrap(agent, guard=guard) if wrapped else agent
        options: Any = {"response_format": Order}
        try:
            return (await made.run("go", options=options)).value
        except ValueError as exc:
            return type(exc)

    for text in ('{"id": "7"}', "no structure"):
        with surefoot.run():
            assert asyncio.run(value(text, wrapped=True)) == asyncio.run(value(text, wrapped=False))


@pytest.mark.parametrize("face", [ran, streamed])
def test_it_raises_what_the_bare_one_raises(guard: Guard, face: Callable[..., Any]) -> None:
    """Errors of models, of middleware and of what the framework refuses have the class and the text that they have bare."""

    def broken(*_: Any) -> str:
        raise OSError("no network")

    async def failed(agent: Any, given: Any) -> tuple[type, str]:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one it is, is the question
            await face(agent, given, None)
        return type(caught.value), str(caught.value)

    async def whole() -> None:
        for given in ("go", 7, [7]):
            bare = await failed(cashier(model(broken)), given)
            with surefoot.run(f"order {given}"):
                assert await failed(surefoot.wrap(cashier(model(broken)), guard=guard), given) == bare

    asyncio.run(whole())


def test_a_wrapped_one_looks_like_the_bare_one(guard: Guard) -> None:
    """Class, fields, signature of ``run``, and as a tool its schema, are the bare one's."""
    import inspect

    agent = loop("one", description="Serves.")
    wrapped = surefoot.wrap(agent, guard=guard)
    assert inspect.signature(wrapped.run) == inspect.signature(agent.run)
    assert vars(wrapped).keys() == vars(agent).keys()
    assert wrapped.as_tool().to_json_schema_spec() == agent.as_tool().to_json_schema_spec()
    assert wrapped.as_tool().to_dict() == agent.as_tool().to_dict()
