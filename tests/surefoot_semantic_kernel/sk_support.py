"""What the tests of the Semantic Kernel adapter share: a chat service that says what it is told to, and ways to run an agent."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from crash import Effects
from pydantic import PrivateAttr
from semantic_kernel import Kernel
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase
from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.prompt_execution_settings import PromptExecutionSettings
from semantic_kernel.contents import (
    ChatHistory,
    ChatMessageContent,
    FunctionCallContent,
    FunctionResultContent,
    StreamingChatMessageContent,
    StreamingTextContent,
)
from semantic_kernel.contents.utils.author_role import AuthorRole
from semantic_kernel.functions import kernel_function

from surefoot import Guard

__all__ = ["FACES", "Scripted", "asks", "cashier", "chat", "events", "invoke", "kernel", "model", "script"]

FACES = ["response", "invoke", "stream"]
"""Ways to run an agent: ``get_response``, ``invoke``, ``invoke_stream``."""

Reply = Callable[[list[str], Sequence[ChatMessageContent]], "list[Any] | str"]


def asks(function: str, **given: Any) -> FunctionCallContent:
    """Return a request for a function of the plugin ``bank``, with a fresh id, as real models give."""
    return FunctionCallContent(id=f"call_{uuid.uuid4().hex[:8]}", name=f"bank-{function}", arguments=json.dumps(given))


class Scripted(ChatCompletionClientBase):
    """A service whose reply depends on the conversation alone, as a restarted process needs it."""

    SUPPORTS_FUNCTION_CALLING = True
    _reply: Reply = PrivateAttr()
    _effects: Effects | None = PrivateAttr(default=None)

    def answer(self, messages: Sequence[ChatMessageContent]) -> list[Any] | str:
        """Return what is said after what functions have answered to the newest words of the user."""
        if self._effects is not None:
            self._effects.add("model", self.ai_model_id)
        newest = max((index for index, message in enumerate(messages) if message.role == AuthorRole.USER), default=0)
        results = [item for message in messages[newest:] for item in message.items if isinstance(item, FunctionResultContent)]
        return self._reply([str(item.result) for item in results], messages)

    async def _inner_get_chat_message_contents(self, chat_history: Any, settings: Any) -> list[ChatMessageContent]:
        found = self.answer(chat_history.messages)
        made: Any = ChatMessageContent
        return [made(role="assistant", content=found) if isinstance(found, str) else made(role="assistant", items=found)]

    async def _inner_get_streaming_chat_message_contents(
        self, chat_history: Any, settings: Any, function_invoke_attempt: int = 0
    ) -> AsyncIterator[list[StreamingChatMessageContent]]:
        found = self.answer(chat_history.messages)
        words = found.split(" ") if isinstance(found, str) else []
        parts = [[StreamingTextContent(choice_index=0, text=word if not n else f" {word}")] for n, word in enumerate(words)]
        made: Any = StreamingChatMessageContent
        for items in parts if isinstance(found, str) else [found]:
            yield [made(role="assistant", choice_index=0, items=items, function_invoke_attempt=function_invoke_attempt)]


def model(reply: Reply, effects: Effects | None = None, name: str = "model") -> Any:
    """Return a service that replies so; every question is counted in the effects file, where there is one."""
    made = Scripted(ai_model_id=name, service_id=name)
    made._reply, made._effects = reply, effects
    return made


def script(*replies: list[Any] | str, effects: Effects | None = None, name: str = "model") -> Any:
    """Return a service that gives these replies, one for each number of answers of functions."""
    after: dict[int, list[Any] | str] = {}
    for number, reply in enumerate(replies):
        after[sum(len(earlier) for earlier in replies[:number] if isinstance(earlier, list))] = reply
    return model(lambda answered, _messages: after[max(n for n in after if n <= len(answered))], effects, name)


def kernel(said: Any, *functions: Callable[..., Any]) -> Kernel:
    """Return a kernel with these functions in the plugin ``bank``."""
    made = Kernel(services=said)
    for function in functions:
        made.add_function("bank", function if hasattr(function, "__kernel_function__") else kernel_function(function))
    return made


def cashier(said: Any, *functions: Callable[..., Any], **options: Any) -> Any:
    """Return an agent with these functions."""
    return ChatCompletionAgent(kernel=kernel(said, *functions), name="cashier", **options)


async def ainvoke(agent: Any, given: Any, face: str, **options: Any) -> str:
    """Run an agent on one face and return what it says."""
    if face == "response":
        return str((await agent.get_response(given, **options)).message)
    items = agent.invoke(given, **options) if face == "invoke" else agent.invoke_stream(given, **options)
    return "".join([str(item.message) async for item in items])


def invoke(agent: Any, given: Any = "order 7", face: str = "response", **options: Any) -> str:
    """Run an agent in a loop of its own."""
    return asyncio.run(ainvoke(agent, given, face, **options))


def chat(made: Any, given: str = "order 7", *, streamed: bool = False, history: ChatHistory | None = None) -> str:
    """Ask a kernel's chat service, which calls the kernel's functions, without any agent."""
    settings = PromptExecutionSettings(function_choice_behavior=FunctionChoiceBehavior.Auto())
    service, _ = made.select_ai_service(type=ChatCompletionClientBase)
    said = history if history is not None else ChatHistory()
    if given:
        said.add_user_message(given)

    async def whole() -> str:
        if not streamed:
            return str(await service.get_chat_message_content(said, settings, kernel=made))
        items = service.get_streaming_chat_message_content(said, settings, kernel=made)
        return "".join([str(item.content) async for item in items if item.role == AuthorRole.ASSISTANT])

    return asyncio.run(whole())


def events(guard: Guard, kind: str) -> list[dict[str, Any]]:
    """Return what was evented under that name, over all runs."""
    return [dict(event.data) for run in guard.runs.list() for event in guard.runs.events(run.run_id) if event.type == kind]
