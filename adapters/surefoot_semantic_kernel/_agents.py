"""Agents: a guarded copy, of the same type, whose invocations are runs and whose kernel is guarded."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from semantic_kernel.contents import ChatMessageContent
from semantic_kernel.contents.utils.author_role import AuthorRole

from surefoot import Guard
from surefoot_adapters import Frame, Kinds, each_guard, is_guarded
from surefoot_semantic_kernel import _convert, _kernels
from surefoot_semantic_kernel._invocation import invocation_at
from surefoot_semantic_kernel._runs import Door

__all__ = ["guarded", "name_of"]


def name_of(agent: Any) -> str:
    """Return the name of an agent, as its step has it."""
    return _convert.agent_name(agent.name, "agent")


def guarded(agent: Any, guard: Guard) -> Any:
    """Return the guarded copy of an agent; of a guarded one, itself."""
    if is_guarded(getattr(type(agent), "surefoot_guard", None), guard, f"agent {agent.name!r}"):
        return agent
    mine = agent.model_copy()
    object.__setattr__(mine, "__class__", _kinds(guard).of(type(agent)))
    vars(mine)["kernel"] = _kernels.guarded(agent.kernel, guard)
    mine.model_post_init(None)  # what it is as a function of a plugin
    return mine


@each_guard
def _kinds(guard: Guard) -> Kinds:
    return Kinds(functools.partial(_namespace, guard=guard))


class _Turn:
    """One invocation of an agent."""

    def __init__(self, guard: Guard, agent: Any, messages: Any, kwargs: dict[str, Any]) -> None:
        self._guard = guard
        self._agent = agent
        self._messages = messages
        self._kwargs = kwargs
        if kwargs.get("kernel") is not None:
            kwargs["kernel"] = _kernels.guarded(kwargs["kernel"], guard)

    async def door(self) -> Door:
        """Return its door: its input is what the agent is told, or what its thread ends with."""
        thread = self._kwargs.get("thread")
        said = self._messages
        if not said and thread is not None:
            before = [message async for message in thread.get_messages()]
            said = before[: _convert.newest(before) + 1]
        self._begun = _length(thread)
        return Door(self._guard, name_of(self._agent), _convert.input_data(said), None if thread is None else thread.id)

    def attempted(self, frame: Frame, bare: Callable[..., Any]) -> Any:
        """Begin an attempt and return what the framework does in it: what a rejected one has said is taken back."""
        invocation_at(frame, self._guard, name_of(self._agent))
        history = _history(self._kwargs.get("thread"))
        if history is not None:
            del history.messages[self._begun :]
        return bare(self._agent, self._hinted(frame.hint), **self._kwargs)

    def _hinted(self, hint: str) -> Any:
        """Return the messages with the verifier's hint as the newest words of the user."""
        if not hint:
            return self._messages
        before = self._messages if isinstance(self._messages, list) else [self._messages] if self._messages is not None else []
        return [*before, ChatMessageContent(role=AuthorRole.USER, content=hint)]


def _history(thread: Any) -> Any:
    """Return the conversation that a thread keeps itself; ``None`` where the provider keeps it."""
    return getattr(thread, "_chat_history", None)  # owner: test_private_names


def _length(thread: Any) -> int:
    history = _history(thread)
    return 0 if history is None else len(history.messages)


def _namespace(kind: type, guard: Guard) -> dict[str, Any]:
    """Return what a guarded agent does otherwise than the framework's own."""
    bare: Any = kind

    @functools.wraps(bare.get_response)
    async def get_response(self: Any, messages: Any = None, **kwargs: Any) -> Any:
        turn = _Turn(guard, self, messages, kwargs)
        door = await turn.door()
        return await door.run(lambda frame: turn.attempted(frame, bare.get_response), lambda item: _convert.output(item.message))

    @functools.wraps(bare.invoke)
    async def invoke(self: Any, messages: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield what the agent says once it is committed: the framework itself has it all before it yields."""
        turn = _Turn(guard, self, messages, kwargs)

        async def once(frame: Frame) -> list[Any]:
            return [item async for item in turn.attempted(frame, bare.invoke)]

        door = await turn.door()
        for item in await door.run(once, lambda items: _convert.output([item.message for item in items])):
            yield item

    @functools.wraps(bare.invoke_stream)
    async def invoke_stream(self: Any, messages: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        turn = _Turn(guard, self, messages, kwargs)
        door = await turn.door()
        found = door.stream(lambda frame: turn.attempted(frame, bare.invoke_stream), lambda item: str(item.message))
        async with aclosing(found):
            async for item in found:
                yield item

    return {"surefoot_guard": guard, "get_response": get_response, "invoke": invoke, "invoke_stream": invoke_stream}
