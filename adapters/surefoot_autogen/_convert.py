"""Objects of the framework as plain data: arguments, results, messages, questions to a model and its replies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import BaseAgentEvent, BaseChatMessage, MessageFactory, TextMessage
from autogen_core.model_context import ChatCompletionContext
from autogen_core.models import AssistantMessage, CreateResult, FunctionExecutionResultMessage, UserMessage
from autogen_core.tools import ToolResult
from pydantic import BaseModel

from surefoot_adapters import Answer, Codec, answers, words
from surefoot_journal import Form, Question

__all__ = [
    "GENERATED",
    "REPLY",
    "STREAM",
    "Shown",
    "arguments",
    "data",
    "filled",
    "final_arguments",
    "given",
    "message",
    "messages",
    "output",
    "question",
    "register",
    "remember",
    "requests",
    "shown",
    "storable",
]

GENERATED: Final = frozenset({"id", "created_at", "models_usage"})
"""What is new in a message each time it is made."""
_factory: Final = MessageFactory()


# --- tools


def arguments(args: BaseModel) -> dict[str, Any]:
    """Return the final arguments of a tool, defaults filled in, as its body gets them."""
    return args.model_dump()


def given(text: str) -> Any:
    """Return what a model wrote as the arguments of a call, ``None`` where it is no JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def filled(defaults: Mapping[str, Any], text: str) -> dict[str, Any] | None:
    """Return what a model wrote, with the defaults that a tool's schema names; ``None`` where it is no JSON object."""
    found = given(text)
    return None if found is None else {**defaults, **found}


def final_arguments(tool: Any, text: str) -> dict[str, Any] | None:
    """Return what a model asked a tool for as its body will get it; ``None`` where it never comes there."""
    try:
        return arguments(tool.args_type().model_validate(json.loads(text)))
    except ValueError:
        return None


class Shown(str):
    """What a tool returned that cannot be stored as it is: the words for the model that its tool made of it."""

    __slots__ = ()


class _Kept(Answer):
    """A result on its way into the store, and the words for it."""

    def __init__(self, value: Any, tool: Any = None) -> None:
        super().__init__(value)
        self.text = str(value) if tool is None else tool.return_value_as_string(value)


def storable(codec: Codec, tool: Any, value: Any) -> Any:
    """Return a tool's result as one that can always be stored."""
    return answers.storable(codec, value, partial(_Kept, tool=tool))


def register(codec: Codec) -> None:
    """Teach the codec what tools of this framework return."""
    codec.register("autogen.shown", _Kept, lambda kept: kept.text, lambda text: _Kept(Shown(text)))
    codec.register("autogen.ToolResult", ToolResult, lambda result: result.model_dump(mode="json"), ToolResult.model_validate)
    codec.register("autogen.TaskResult", TaskResult, _dump_task, _load_task)


def _dump_task(result: TaskResult) -> list[Any]:
    return [[data(message) for message in result.messages], result.stop_reason]


def _load_task(found: Any) -> TaskResult:
    return TaskResult(messages=messages(found[0]), stop_reason=found[1])


# --- messages


def data(message: BaseChatMessage | BaseAgentEvent) -> dict[str, Any]:
    """Return a message as plain data. Of a kind that only its own team knows the words are kept."""
    if _factory.is_registered(type(message)):
        return dict(message.dump())
    text = message.to_model_text() if isinstance(message, BaseChatMessage) else message.to_text()
    return dict(TextMessage(id=message.id, source=message.source, content=text).dump())


def messages(found: Sequence[Mapping[str, Any]] | None) -> list[Any]:
    """Return messages of their data."""
    return [_factory.create(one) for one in found or ()]


def message(said: Any, source: str) -> BaseChatMessage:
    """Return what somebody said in the place of an agent or a team as a message of it; a message as it is."""
    if isinstance(said, BaseChatMessage):
        return said
    return TextMessage(content=words(said), source=source)


async def remember(agent: Any, said: Sequence[BaseChatMessage]) -> None:
    """Have an agent that keeps a conversation know what was said to it, and, last, in its name."""
    context = getattr(agent, "model_context", None)
    if isinstance(context, ChatCompletionContext):
        *told, answer = said
        for one in told:
            await context.add_message(one.to_model_message())
        await context.add_message(AssistantMessage(content=answer.to_model_text(), source=answer.source))


def output(message: Any) -> Any:
    """Return what a message says, as a verifier sees it."""
    content = message.content
    if isinstance(content, BaseModel):
        return content.model_dump(mode="json")
    return content if isinstance(content, str) else message.to_text()


# --- questions and replies


def question(agent: str, model: Any, asked: Sequence[Any], so_far: Sequence[Any], tools: Sequence[Any]) -> Question:
    """Return what a model is asked, by the parameters of the framework's ``ChatCompletionClient``; ``so_far``: what it is, as data."""
    newest = next((index for index in range(len(asked) - 1, -1, -1) if isinstance(asked[index], UserMessage)), -1)
    since = [message for message in asked[newest + 1 :] if isinstance(message, FunctionExecutionResultMessage)]
    schemas = [tool if isinstance(tool, Mapping) else tool.schema for tool in tools]
    return Question(
        agent=agent,
        model=str(model.model_info["family"]),
        tools=[schema["name"] for schema in schemas],
        said=_said(asked[newest]) if newest >= 0 else None,
        results=[result.content for message in since for result in message.content],
        prompt=[so_far, schemas],
    )


def _said(message: UserMessage) -> Any:
    content = message.content
    return content if isinstance(content, str) else [part if isinstance(part, str) else part.to_base64() for part in content]


def shown(message: Any) -> list[Any]:
    """Return what a message of a conversation says, as plain data."""
    content = message.content
    if isinstance(message, UserMessage):
        return [message.type, message.source, _said(message)]
    if isinstance(content, list):
        content = [list(vars(part).values()) for part in content]
    return [message.type, message.source, message.thought, content] if isinstance(message, AssistantMessage) else [message.type, content]


def requests(reply: CreateResult) -> Sequence[Any]:
    """Return what a reply asks for."""
    return [] if isinstance(reply.content, str) else reply.content


def _usage(reply: CreateResult) -> dict[str, int]:
    return {"input_tokens": reply.usage.prompt_tokens, "output_tokens": reply.usage.completion_tokens}


def _dump_stream(items: Sequence[Any]) -> list[Any]:
    return [item if isinstance(item, str) else REPLY.dump(item) for item in items]


def _load_stream(found: Sequence[Any]) -> list[Any]:
    return [item if isinstance(item, str) else REPLY.load(item) for item in found]


REPLY: Final = Form(lambda reply: reply.model_dump(mode="json"), CreateResult.model_validate, _usage)
STREAM: Final = Form(_dump_stream, _load_stream, lambda items: _usage(items[-1]))
