"""Models: a view whose replies are journalled, so that a resumed run asks the model nothing that it has answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Final

from surefoot_adapters import Do, Kinds, here, view
from surefoot_journal import astream, unrecorded
from surefoot_llama_index import _convert
from surefoot_llama_index._runs import Invocation, invocation

__all__ = ["guarded"]

_asking: ContextVar[bool] = ContextVar("surefoot_llama_index_asking", default=False)
"""Whether a recorded question is on its way to the model: what its class asks by itself to answer it is no other one."""


def guarded(model: Any) -> Any:
    """Return a view of a model, which is the model outside of an agent's run."""
    return view(model, _MODELS)


def _namespace(kind: type) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, asks in {"achat": _whole, "achat_with_tools": _whole, "astream_chat": _stream, "astream_chat_with_tools": _stream}.items():
        if (original := getattr(kind, name, None)) is not None:
            made[name] = _method(original, asks)
    return made


def _method(original: Callable[..., Awaitable[Any]], asks: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(original)  # with the mark that it has a span: else the framework would give it a second one
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        current, bare = invocation.get(), partial(original, self, *args, **kwargs)
        if _asking.get():
            return await bare()
        if current is None or current.recording is None or current.frame is not here():
            unrecorded(self)
            return await bare()
        asked = _question(current, self, args, kwargs)
        return await asks(current, asked, bare)

    return method


def _question(current: Invocation, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    messages = kwargs.get("chat_history", kwargs.get("messages"))
    if messages is None:
        messages = next((given for given in args if isinstance(given, list)), [])
    return _convert.question(current.agent, str(model.metadata.model_name), messages, kwargs.get("tools") or [])


async def _whole(current: Invocation, asked: Any, bare: Callable[[], Awaitable[Any]]) -> Any:
    recording = current.recording
    assert recording is not None  # noqa: S101 - looked at before
    return await current.guard.adrive(recording.reply(asked, Do(lambda: None, partial(_asked, bare)), _convert.REPLY))


async def _asked(bare: Callable[[], Awaitable[Any]]) -> Any:
    token = _asking.set(True)
    try:
        return await bare()
    finally:
        _asking.reset(token)


async def _stream(current: Invocation, asked: Any, bare: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
    """Return the stream of a reply. The framework acts on it when it has ended, so its last item waits until it is kept."""
    recording, last = current.recording, []
    assert recording is not None  # noqa: S101 - looked at before

    async def live() -> AsyncIterator[Any]:
        held: list[Any] = []
        async for item in await _asked(bare):
            if held:
                yield held.pop()
            held.append(item)
        last.extend(held)
        for item in held:
            yield item

    return astream(current.guard, recording, asked, live, _convert.STREAM, lambda item: bool(last) and item is last[0])


_MODELS: Final = Kinds(_namespace)
