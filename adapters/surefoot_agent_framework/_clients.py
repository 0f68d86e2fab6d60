"""Chat clients: a view that guards the tools of a request, and the chat middleware that keeps what the model replies."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from agent_framework import ChatContext, ChatMiddleware, ChatMiddlewareLayer, ChatResponse, ChatResponseUpdate, ResponseStream

from surefoot_adapters import Do, Kinds, view
from surefoot_adapters.streams import seeing
from surefoot_agent_framework import _convert, _tools
from surefoot_agent_framework._invocation import Invocation, invocation
from surefoot_journal import Form, Question, unrecorded

__all__ = ["guarded", "keeps"]


def keeps(client: Any) -> bool:
    """Return whether a client's replies can be kept: it has chat middleware."""
    return isinstance(client, ChatMiddlewareLayer)


def guarded(client: Any) -> Any:
    """Return the view of a client: in a guarded run it is guarded, outside of one it is the client."""
    return view(client, _CLIENTS)


def _namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    @functools.wraps(bare.get_response)
    def get_response(self: Any, messages: Any, *, options: Any = None, client_kwargs: Any = None, **given: Any) -> Any:
        current = invocation.get()
        if current is not None:
            options, client_kwargs = {**(options or {})}, {**(client_kwargs or {})}
            if options.get("tools"):
                options["tools"] = _tools.guarded(options["tools"], current)
            if keeps(self):
                client_kwargs["middleware"] = [*(client_kwargs.get("middleware") or ()), _KEEPING]
        return bare.get_response(self, messages, options=options, client_kwargs=client_kwargs, **given)

    return {"get_response": get_response}


_CLIENTS: Final = Kinds(_namespace)


class _Keeping(ChatMiddleware):
    """Keeps what a model replies, so that a resumed run asks nothing that was answered. It stands innermost."""

    async def process(self, context: ChatContext, call_next: Callable[[], Awaitable[None]]) -> None:
        """Give the recorded reply, or the model's."""
        current = invocation.get()
        if current is None:
            unrecorded(context.client)
            await call_next()
            return
        current.check()
        if isinstance(tools := (context.options or {}).get("tools"), list):
            tools[:] = _tools.guarded(tools, current)  # one that was added meanwhile; the framework calls what stands here
        context.messages = await current.conversation.whole(current.guard, current.frame, context.messages)
        asked = _convert.question(current.agent, context, current.conversation.shown(context.messages))
        form = _convert.reply((context.options or {}).get("response_format"))

        async def live() -> Any:
            token = invocation.set(None)  # what it asks by itself to answer is no other question
            try:
                await call_next()
            finally:
                invocation.reset(token)
            return context.result

        if context.stream:
            recorded = await current.guard.adrive(current.recording.find(asked))
            reply = None if recorded is None else form.load(recorded.data)
            context.result = _streamed(current, asked, form, await live()) if reply is None else _again(current, reply)
        else:
            reply = await current.guard.adrive(current.recording.reply(asked, Do(lambda: None, live), form))
            current.replied(_convert.requests(reply.messages))
            context.result = reply


_KEEPING: Final = _Keeping()


def _streamed(current: Invocation, asked: Question, form: Form, live: Any) -> Any:
    """Return a model's stream. Its end is held back until the reply is durable; one that its consumer leaves is not recorded."""
    found: list[ChatResponse[Any]] = []

    async def whole() -> AsyncIterator[ChatResponseUpdate]:
        async for update in live:
            yield update
        found[:] = [await live.get_final_response()]

    async def items() -> AsyncIterator[ChatResponseUpdate]:
        async for update in seeing(invocation, None, whole()):  # type: ignore[arg-type] # it is a generator
            yield update
        (reply,) = found
        await current.guard.adrive(current.recording.keep(asked, form.dump(reply), form.usage(reply)))
        current.replied(_convert.requests(reply.messages))

    return ResponseStream(items(), finalizer=lambda _updates: found[0])


def _again(current: Invocation, reply: ChatResponse[Any]) -> Any:
    """Return a recorded reply as a stream: one update for each message."""
    current.replied(_convert.requests(reply.messages))

    async def items() -> AsyncIterator[ChatResponseUpdate]:
        for message in reply.messages:
            role: Any = message.role
            yield ChatResponseUpdate(contents=message.contents, role=role, message_id=message.message_id)

    return ResponseStream(items(), finalizer=lambda _updates: reply)
