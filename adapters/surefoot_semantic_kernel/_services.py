"""Chat services: a view whose loop of replies and calls is a run, or a part of one, and whose replies are kept."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
from semantic_kernel.contents import ChatHistory, ChatMessageContent
from semantic_kernel.contents.utils.author_role import AuthorRole

from surefoot import Guard
from surefoot_adapters import Do, Frame, Kinds, each_guard, view
from surefoot_journal import unrecorded
from surefoot_semantic_kernel import _convert, _history
from surefoot_semantic_kernel._invocation import Invocation, asked_here, invocation_at
from surefoot_semantic_kernel._runs import Door

__all__ = ["guarded"]

_CHAT = "chat"
"""The name of a step that asks a model for nobody in particular."""


def guarded(service: Any, guard: Guard) -> Any:
    """Return the view of a chat service; other services as they are."""
    if not isinstance(service, ChatCompletionClientBase) or hasattr(type(service), "surefoot_guard"):
        return service
    return view(service, _kinds(guard))


@each_guard
def _kinds(guard: Guard) -> Kinds:
    return Kinds(functools.partial(_namespace, guard=guard))


class _Loop:
    """One loop of replies and calls."""

    def __init__(self, guard: Guard, history: ChatHistory, settings: Any, kwargs: dict[str, Any]) -> None:
        from surefoot_semantic_kernel import _kernels

        self.guard = guard
        self.history = history
        self.functions: dict[str, Any] = {}
        self._begun = len(history.messages)
        if (kernel := kwargs.get("kernel")) is not None:
            kwargs["kernel"] = kernel = _kernels.guarded(kernel, guard)
            behaviour = getattr(settings, "function_choice_behavior", None)
            offered = behaviour.get_config(kernel).available_functions if behaviour is not None else None
            self.functions = {metadata.fully_qualified_name: metadata for metadata in offered or ()}

    def inside(self) -> bool:
        """Return whether this is a step's own loop, and begin in it."""
        current = asked_here()
        if current is not None:
            self.begin(current)
        return current is not None

    def begin(self, current: Invocation) -> None:
        """Begin in a step; a verifier's hint is the newest words of the user."""
        current.offer(self.functions)
        if current.hint:
            self.history.add_user_message(current.hint)
            current.hint = ""

    def door(self) -> Door:
        """Return the door of a loop that is nobody's: what was said up to the user's newest words is its input."""
        said = self.history.messages[: _convert.newest(self.history.messages) + 1]
        return Door(self.guard, self.name(), _convert.input_data(said))

    def name(self) -> str:
        """Return the name of the agent whose instructions the conversation begins with."""
        first = self.history.messages[0] if self.history.messages else None
        return _convert.agent_name(first.name if first is not None and first.role == AuthorRole.SYSTEM else None, _CHAT)

    def attempted(self, frame: Frame, live: Callable[[], Any]) -> Any:
        """Begin an attempt, and return what the framework does in it: what a rejected one has said is taken back."""
        del self.history.messages[self._begun :]
        current = invocation_at(frame, self.guard, self.name())
        current.hint = frame.hint
        self.begin(current)
        return live()


def _text(messages: Sequence[ChatMessageContent]) -> str:
    return "".join(message.content for message in messages)


def _namespace(kind: type, guard: Guard) -> dict[str, Any]:
    """Return what a guarded chat service does otherwise than the framework's own."""
    bare: Any = kind
    made = (*_looping(bare, guard), *_answering(bare, guard))
    return {"surefoot_guard": guard, **{one.__name__: functools.wraps(getattr(bare, one.__name__))(one) for one in made}}


def _looping(bare: Any, guard: Guard) -> tuple[Callable[..., Any], ...]:
    """Return the loops of a service: a run each, or a part of the step that they are in."""

    async def get_chat_message_contents(self: Any, chat_history: ChatHistory, settings: Any, **kwargs: Any) -> Any:
        loop = _Loop(guard, chat_history, settings, kwargs)
        live = functools.partial(bare.get_chat_message_contents, self, chat_history, settings, **kwargs)
        if loop.inside():
            return await live()
        return await loop.door().run(lambda frame: loop.attempted(frame, live), _convert.output)

    async def get_streaming_chat_message_contents(self: Any, chat_history: ChatHistory, settings: Any, **kwargs: Any) -> Any:
        loop = _Loop(guard, chat_history, settings, kwargs)
        live = functools.partial(bare.get_streaming_chat_message_contents, self, chat_history, settings, **kwargs)
        found = live() if loop.inside() else loop.door().stream(lambda frame: loop.attempted(frame, live), _text)
        async with aclosing(found):
            async for messages in found:
                yield messages

    return get_chat_message_contents, get_streaming_chat_message_contents


def _answering(bare: Any, guard: Guard) -> tuple[Callable[..., Any], ...]:
    """Return what asks the model, and keeps what it answers."""

    async def _inner_get_chat_message_contents(self: Any, chat_history: ChatHistory, settings: Any, **kwargs: Any) -> Any:
        current = asked_here()
        if current is None:
            unrecorded(self)
            return await bare._inner_get_chat_message_contents(self, chat_history, settings, **kwargs)  # noqa: SLF001 - owner: test_private_names
        recording = await current.listen(chat_history.messages)
        history = await _history.whole(current, chat_history)
        asked = _convert.question(current, self.ai_model_id, history.messages)
        ask = Do(lambda: None, lambda: bare._inner_get_chat_message_contents(self, history, settings, **kwargs))  # noqa: SLF001 - as above
        found: list[ChatMessageContent] = await guard.adrive(recording.reply(asked, ask, _convert.REPLY))
        current.replied(found[0])
        return found

    async def _inner_get_streaming_chat_message_contents(self: Any, chat_history: Any, settings: Any, *args: Any, **kwargs: Any) -> Any:
        live = functools.partial(bare._inner_get_streaming_chat_message_contents, self)  # noqa: SLF001 - as above
        current = asked_here()
        if current is None:
            unrecorded(self)
            async for messages in live(chat_history, settings, *args, **kwargs):
                yield messages
            return
        recording = await current.listen(chat_history.messages)
        history = await _history.whole(current, chat_history)
        asked = _convert.question(current, self.ai_model_id, history.messages)
        recorded = await guard.adrive(recording.find(asked))
        if recorded is not None:
            chunks = _convert.STREAM.load(recorded.data)
            for messages in chunks:
                yield messages
        else:
            chunks = []
            async for messages in live(history, settings, *args, **kwargs):
                chunks.append([message.model_copy() for message in messages])
                yield messages
            await guard.adrive(recording.keep(asked, _convert.STREAM.dump(chunks), _convert.STREAM.usage(chunks)))
        if chunks:
            current.replied(_convert.joined(chunks))

    return _inner_get_chat_message_contents, _inner_get_streaming_chat_message_contents
