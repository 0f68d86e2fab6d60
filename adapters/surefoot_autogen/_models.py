"""Models, guarded in place: in a guarded run their replies are journalled, so that a resumed run asks nothing that was answered."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from typing import Any, Final

from autogen_core.models import CreateResult

from surefoot_adapters import Do, Kinds
from surefoot_adapters.streams import seeing
from surefoot_autogen import _convert
from surefoot_autogen._invocation import Invocation, invocation
from surefoot_journal import Question, astream, unrecorded

__all__ = ["MODELS"]


def _namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    @functools.wraps(bare.create)
    async def create(self: Any, messages: Any, **options: Any) -> Any:
        current = invocation.get()
        if current is None:
            unrecorded(self)
            return await bare.create(self, messages, **options)
        given, asked = await _asked(current, self, messages, options)

        async def live() -> Any:
            token = invocation.set(None)  # what it asks by itself to answer is no other question
            try:
                return await bare.create(self, given, **options)
            finally:
                invocation.reset(token)

        reply = await current.guard.adrive(current.recording.reply(asked, Do(lambda: None, live), _convert.REPLY))
        current.replied(_convert.requests(reply))
        return reply

    @functools.wraps(bare.create_stream)
    def create_stream(self: Any, messages: Any, **options: Any) -> Any:
        current = invocation.get()
        if current is None:
            unrecorded(self)
            return bare.create_stream(self, messages, **options)
        return _stream(current, self, messages, options, functools.partial(bare.create_stream, self))

    return {"create": create, "create_stream": create_stream}


async def _asked(current: Invocation, model: Any, messages: Any, options: dict[str, Any]) -> tuple[Any, Question]:
    """Return what a model is given, with the answers that it lacks, and the question that this is."""
    current.check()
    given = await current.conversation.whole(current.guard, current.frame, messages)
    return given, _convert.question(current.name, model, given, current.conversation.shown(given), options.get("tools") or ())


async def _stream(current: Invocation, model: Any, messages: Any, options: dict[str, Any], bare: Any) -> AsyncGenerator[Any, None]:
    given, asked = await _asked(current, model, messages, options)

    def live() -> AsyncGenerator[Any, None]:
        return seeing(invocation, None, bare(given, **options))

    async for item in astream(current.guard, current.recording, asked, live, _convert.STREAM, _is_whole):
        if _is_whole(item):
            current.replied(_convert.requests(item))
        yield item


def _is_whole(item: Any) -> bool:
    return isinstance(item, CreateResult)


MODELS: Final = Kinds(_namespace)
