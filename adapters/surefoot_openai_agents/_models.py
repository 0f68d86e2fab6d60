"""Models: a view whose replies are journalled, so that a resumed run asks the model nothing that it has answered."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

from agents.models.interface import Model, ModelProvider

from surefoot_adapters import Do, Kinds, view
from surefoot_journal import astream, unrecorded
from surefoot_openai_agents import _convert
from surefoot_openai_agents._invocation import Invocation, invocation
from surefoot_openai_agents._repair import whole

__all__ = ["Provider", "guarded"]


def guarded(model: Model) -> Model:
    """Return a view of a model, which is the model outside of any run."""
    return view(model, _MODELS)


def _namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    async def get_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        current = invocation.get()
        if current is None:
            unrecorded(self)
            return await bare.get_response(self, *args, **kwargs)
        await current.frame()
        args, kwargs = await _whole(current, args, kwargs)
        asked = _question(current, self, args, kwargs)
        ask = Do(lambda: None, lambda: bare.get_response(self, *args, **kwargs))
        response = await current.guard.adrive(current.recording.reply(asked, ask, _convert.REPLY))
        current.replied(response.output)
        return response

    async def stream_response(self: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        current = invocation.get()
        if current is None:
            unrecorded(self)
            async for event in bare.stream_response(self, *args, **kwargs):
                yield event
            return
        await current.frame()
        args, kwargs = await _whole(current, args, kwargs)
        asked = _question(current, self, args, kwargs)
        live = lambda: bare.stream_response(self, *args, **kwargs)  # noqa: E731 - a thunk
        async for event in astream(current.guard, current.recording, asked, live, _convert.STREAM, _convert.is_last):
            if _convert.is_last(event):
                current.replied(event.response.output)
            yield event

    return {"get_response": get_response, "stream_response": stream_response}


_MODELS = Kinds(_namespace)
_NAMES = tuple(inspect.signature(Model.get_response).parameters)[1:]


async def _whole(current: Invocation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return what a model is asked; where the conversation that the run was given lacks answers, with them."""
    if not current.listed:
        return args, kwargs
    asked = _by_name(args, kwargs)
    return (), {**asked, "input": await whole(current, asked["input"])}


def _by_name(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what a model is asked by the parameters' names: at every turn, so without ``inspect``."""
    return {**dict(zip(_NAMES, args, strict=False)), **kwargs}


def _question(current: Invocation, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    asked = _by_name(args, kwargs)
    name = getattr(model, "model", None)
    return _convert.question(current.agent, name if isinstance(name, str) else type(model).__qualname__, asked)


class Provider(ModelProvider):
    """A provider that hands out guarded models."""

    def __init__(self, given: ModelProvider) -> None:
        self.given = given

    def get_model(self, model_name: str | None) -> Model:
        """Return the given provider's model, guarded."""
        return guarded(self.given.get_model(model_name))

    async def aclose(self) -> None:
        """Close the given provider."""
        if hasattr(self.given, "aclose"):
            await self.given.aclose()

    def __getattr__(self, name: str) -> Any:
        """Return what else the given provider has."""
        return getattr(self.given, name)
