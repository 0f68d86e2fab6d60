"""Objects of the framework as plain data: arguments, results, inputs, questions to a model and its replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from agent_framework import ChatResponse, Content, FunctionTool, Message, normalize_messages
from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from surefoot_adapters import Answer, Codec, answers
from surefoot_journal import Form, Question

__all__ = [
    "Parsed",
    "Words",
    "arguments",
    "data",
    "filled",
    "final_arguments",
    "given",
    "input_data",
    "question",
    "recognised",
    "register",
    "reply",
    "requests",
    "shown",
    "storable",
    "waiting",
]

_GENERATED: Final = frozenset({"message_id"})
_SPENT: Final = {"input_token_count": "input_tokens", "output_token_count": "output_tokens"}
_ANSWERS: Final = frozenset({"function_approval_response", "function_result"})


def data(value: Any) -> Any:
    """Return a value as JSON data; what has no such form becomes its representation."""
    if type(value) is str or value is None:
        return value
    return to_jsonable_python(value, fallback=repr, bytes_mode="base64")


# --- tools


class Words(str):
    """Words for the model in the place of a tool's result."""

    __slots__ = ()


class Parsed(list[Content]):
    """What a tool's result became for the model; it is not parsed again."""


class _Shown(Answer):
    """A result that cannot be stored as it is, on its way into the store and back."""

    def __init__(self, value: Any, tool: Any = None) -> None:
        super().__init__(value)
        self.tool = tool

    def contents(self) -> list[dict[str, Any]]:
        """Return what the model is shown of it."""
        parser = getattr(self.tool, "result_parser", None)
        found: Any = parser(self.value) if callable(parser) else FunctionTool.parse_result(self.value)
        return [one.to_dict() for one in ([Content.from_text(found)] if isinstance(found, str) else found)]


def storable(codec: Codec, tool: Any, value: Any) -> Any:
    """Return a tool's result as one that can always be stored."""
    return answers.storable(codec, value, partial(_Shown, tool=tool))


def register(codec: Codec) -> None:
    """Teach the codec what tools of this framework return."""
    codec.register("agent_framework.shown", _Shown, _Shown.contents, lambda found: _Shown(Parsed(map(Content.from_dict, found))))


def arguments(request: Content) -> dict[str, Any]:
    """Return what a request asks for. What is no JSON object is there as text, by a name that no tool has."""
    return dict(request.parse_arguments() or {})


def filled(tool: FunctionTool, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as data, with the defaults that the tool's schema names. An argument that is null is none: releases differ."""
    properties = tool.parameters().get("properties", {})
    static = {name: spec["default"] for name, spec in properties.items() if isinstance(spec, Mapping) and "default" in spec}
    return {name: data(value) for name, value in {**static, **found}.items() if value is not None}


def final_arguments(tool: FunctionTool, found: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a model asked a tool for as its body will get it; ``None`` where it never comes there."""
    if tool.input_model is None:
        return filled(tool, found)
    try:
        return filled(tool, tool.input_model.model_validate(found).model_dump(exclude_unset=True))
    except ValidationError:
        return None


# --- messages


def requests(messages: Sequence[Message]) -> list[Content]:
    """Return what messages of a model ask for, in order; not what runs at the provider."""
    contents = (content for message in messages for content in message.contents)
    return [one for one in contents if one.type == "function_call" and one.call_id and not _elsewhere(one)]


def _elsewhere(content: Content) -> bool:
    return bool(getattr(content, "hosted", None) or getattr(content, "informational_only", False))


def waiting(messages: Any) -> list[Content] | None:
    """Return the requests that these messages have a person's answer to; ``None``: they are new words."""
    every: list[Any] = normalize_messages(messages)
    found = [content for one in every if isinstance(one, Message) for content in one.contents]
    if found and not any(content.type in _ANSWERS for content in found):
        return None
    return [content.function_call for content in found if content.type == "function_approval_response" and content.function_call]


def input_data(messages: Any) -> list[dict[str, Any]]:
    """Return what a run is given, as it can be stored, also what the framework will refuse."""
    every: list[Any] = normalize_messages(messages)
    found: list[dict[str, Any]] = data([one.to_dict() if isinstance(one, Message) else {"refused": repr(one)} for one in every])
    return found


def recognised(found: Any) -> Any:
    """Return an input without what is new each time it is given."""
    if isinstance(found, Mapping):
        return {key: recognised(item) for key, item in found.items() if key not in _GENERATED}
    return [recognised(item) for item in found] if isinstance(found, list) else found


def given(found: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the messages of a stored input."""
    return [Message.from_dict(dict(one)) for one in found]


def shown(message: Message) -> list[Any]:
    """Return what a message of a conversation says, as plain data."""
    return [str(message.role), message.author_name, [_shown_content(content) for content in message.contents]]


def _shown_content(content: Content) -> list[Any]:
    if content.type == "text":
        return ["text", content.text]
    if content.type == "function_call":
        return ["function_call", content.name, content.arguments]
    if content.type == "function_result":
        return ["function_result", _result(content)]
    return [content.type, content.to_dict()]


def _result(content: Content) -> Any:
    return content.result if isinstance(content.result, str) else data(content.result)


# --- questions and replies


def question(agent: str, context: Any, so_far: Sequence[Any]) -> Question:
    """Return what a model is asked in a ``ChatContext`` of the framework; ``so_far``: its messages as data."""
    messages, options = context.messages, context.options or {}
    newest = next((index for index in range(len(messages) - 1, -1, -1) if messages[index].role == "user"), -1)
    results = [content for message in messages[newest + 1 :] for content in message.contents if content.type == "function_result"]
    tools = [tool for tool in options.get("tools") or () if isinstance(tool, FunctionTool)]
    return Question(
        agent=agent,
        model=str(options.get("model") or getattr(context.client, "model", None) or type(context.client).__name__),
        tools=[tool.name for tool in tools],
        said=so_far[newest][-1] if newest >= 0 else None,
        results=[_result(content) for content in results],
        prompt=[so_far, options.get("instructions"), [[tool.name, tool.description, tool.parameters()] for tool in tools]],
    )


def reply(response_format: Any) -> Form:
    """Return the form of a model's reply; ``response_format`` is what its text is to be parsed as."""
    return Form(lambda response: response.to_dict(), partial(_load, response_format), _usage)


def _load(response_format: Any, found: Mapping[str, Any]) -> ChatResponse[Any]:
    fields = {name: value for name, value in found.items() if name != "type"}
    return ChatResponse(**fields, response_format=response_format)


def _usage(response: ChatResponse[Any]) -> dict[str, int]:
    spent: Mapping[str, Any] = response.usage_details or {}
    return {ours: spent[theirs] for theirs, ours in _SPENT.items() if spent.get(theirs) is not None}
