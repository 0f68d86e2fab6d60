"""The capability that each run of a guarded agent is given: it guards the toolsets and journals the model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import AbstractToolset

from surefoot_adapters import Do, Kinds
from surefoot_journal import Question
from surefoot_pydantic_ai import _convert, _toolsets
from surefoot_pydantic_ai._invocation import Invocation

__all__ = ["Guarding"]


@dataclass(init=False)
class Guarding(AbstractCapability[Any]):
    """Guards one run."""

    def __init__(self, current: Invocation) -> None:
        super().__init__()
        self.current = current

    def get_ordering(self) -> CapabilityOrdering:
        """Stand innermost: what others change is changed before a call is claimed or a model asked."""
        return CapabilityOrdering(position="innermost")

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the run's toolset, guarded."""
        return _toolsets.guarded(toolset, self.current)

    def get_wrapper_model(self, model: Model) -> Model:
        """Return the model, journalled."""
        return _Journalled(model, self.current)


@dataclass(init=False)
class _Journalled(WrapperModel):
    """A model whose replies are recorded, so that a resumed run asks nothing that was answered."""

    def __init__(self, wrapped: Model, current: Invocation) -> None:
        super().__init__(wrapped)
        self._current = current

    async def request(
        self, messages: list[ModelMessage], model_settings: ModelSettings | None, model_request_parameters: ModelRequestParameters
    ) -> ModelResponse:
        """Return the recorded reply, or the model's."""
        current = self._current
        current.paused(now=False)
        asked = self._question(messages, model_request_parameters)
        ask = Do(lambda: None, lambda: self.wrapped.request(messages, model_settings, model_request_parameters))
        response: ModelResponse = await current.guard.adrive(current.recording.reply(asked, ask, _convert.REPLY))
        current.replied(response)
        return response

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """Yield the recorded reply as a stream, or the model's."""
        current = self._current
        current.paused(now=False)
        asked = self._question(messages, model_request_parameters)
        recorded = await current.guard.adrive(current.recording.find(asked))
        if recorded is not None:
            response = _convert.REPLY.load(recorded.data)
            current.replied(response)
            yield CompletedStreamedResponse(response, model_request_parameters=model_request_parameters, replay_events=True)
            return
        async with self.wrapped.request_stream(messages, model_settings, model_request_parameters, run_context) as live:
            live.__class__ = _STREAMS.of(type(live))
            vars(live)["surefoot_asked"] = (current, asked)
            yield live

    def _question(self, messages: list[ModelMessage], asked: ModelRequestParameters) -> Question:
        return _convert.question(self._current.agent, self.wrapped.model_name, messages, asked, self._current.said)


def _namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    def __aiter__(self: Any) -> AsyncIterator[Any]:  # noqa: N807 - overrides it
        if "surefoot_items" not in vars(self):
            vars(self)["surefoot_items"] = _recorded(self, bare.__aiter__(self))
        found: AsyncIterator[Any] = self.surefoot_items
        return found

    return {"__aiter__": __aiter__}


async def _recorded(live: Any, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield a stream's items. Its end is held back until the reply is durable; one that its consumer leaves is not recorded.

    A run that its caller drives is paused while the caller has an item, or the end: it gives way to a new invocation (I9).
    """
    current, asked = live.surefoot_asked
    async for item in items:
        current.paused(now=True)
        yield item
        current.paused(now=False)
    response = live.get()
    await current.guard.adrive(current.recording.keep(asked, _convert.REPLY.dump(response), _convert.REPLY.usage(response)))
    current.replied(response)
    current.paused(now=True)


_STREAMS = Kinds(_namespace)
