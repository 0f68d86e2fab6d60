"""A model client without a model: for the proof that the guard is there, and for tests and measurements of agents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final

from autogen_core import FunctionCall
from autogen_core.models import ChatCompletionClient, CreateResult, ModelInfo, RequestUsage

__all__ = ["Scripted"]

_SPENT: Final = RequestUsage(prompt_tokens=2, completion_tokens=1)


class Scripted(ChatCompletionClient):
    """Says what a function makes of the messages: words, or requests for tools."""

    def __init__(self, reply: Callable[[Sequence[Any]], str | list[FunctionCall]]) -> None:
        self._reply = reply

    async def create(self, messages: Sequence[Any], **_options: Any) -> CreateResult:
        """Answer."""
        content = self._reply(messages)
        reason: Any = "stop" if isinstance(content, str) else "function_calls"
        return CreateResult(finish_reason=reason, content=content, usage=_SPENT, cached=False)

    async def create_stream(self, messages: Sequence[Any], **options: Any) -> AsyncGenerator[str | CreateResult, None]:
        """Answer word by word."""
        whole = await self.create(messages, **options)
        if isinstance(whole.content, str):
            for word in whole.content.split(" "):
                yield word
        yield whole

    async def close(self) -> None:
        """Have nothing to close."""

    def actual_usage(self) -> RequestUsage:
        """Return what one answer costs."""
        return _SPENT

    total_usage = actual_usage

    def count_tokens(self, messages: Sequence[Any], **_options: Any) -> int:
        """Count messages."""
        return len(messages)

    remaining_tokens = count_tokens

    @property
    def model_info(self) -> ModelInfo:
        """Say that it calls tools."""
        return ModelInfo(vision=True, function_calling=True, json_output=True, family="scripted", structured_output=True)

    @property
    def capabilities(self) -> Any:
        """Say the same as AutoGen used to ask."""
        return self.model_info
