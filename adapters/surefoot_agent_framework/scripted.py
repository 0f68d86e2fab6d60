"""A chat client without a model: for the proof that the guard is there, and for tests and measurements of agents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from agent_framework import (
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
)

__all__ = ["Scripted"]


class Scripted(FunctionInvocationLayer[Any], ChatMiddlewareLayer[Any], BaseChatClient[Any]):
    """Says what a function makes of the messages: words, or contents that ask for tools."""

    def __init__(self, reply: Callable[[Sequence[Message]], str | Sequence[Content]], **options: Any) -> None:
        super().__init__(**options)
        self._reply = reply
        self.usage: Any = {"input_token_count": 2, "output_token_count": 1}
        """What one answer costs."""

    def _inner_get_response(
        self,
        *,
        messages: Sequence[Message],
        stream: bool,
        options: Mapping[str, Any],  # noqa: ARG002 - the framework's signature
        **_given: Any,
    ) -> Awaitable[ChatResponse[Any]] | ResponseStream[ChatResponseUpdate, ChatResponse[Any]]:
        """Answer, word by word where it is streamed."""

        def contents() -> list[Content]:
            said = self._reply(messages)
            return [Content.from_text(said)] if isinstance(said, str) else list(said)

        async def whole() -> ChatResponse[Any]:
            return ChatResponse(messages=Message("assistant", contents()), usage_details=self.usage)

        async def items() -> AsyncIterator[ChatResponseUpdate]:
            for content in contents():
                words = content.text.split(" ") if content.type == "text" and content.text else [None]
                for number, word in enumerate(words):
                    part = content if word is None else Content.from_text(f" {word}" if number else word)
                    yield ChatResponseUpdate(contents=[part], role="assistant")

        return ResponseStream(items(), finalizer=ChatResponse.from_updates) if stream else whole()
