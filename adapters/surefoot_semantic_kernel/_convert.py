"""Objects of the framework as plain data: arguments, results, inputs, questions to a model and its replies."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Final

from semantic_kernel.connectors.ai.completion_usage import CompletionUsage
from semantic_kernel.contents import (
    ChatMessageContent,
    FunctionCallContent,
    FunctionResultContent,
    StreamingChatMessageContent,
    StreamingTextContent,
    TextContent,
)
from semantic_kernel.contents.utils.author_role import AuthorRole
from semantic_kernel.functions.function_result import FunctionResult
from semantic_kernel.functions.kernel_function_metadata import KernelFunctionMetadata

from surefoot_adapters import Answer, Codec, plain
from surefoot_journal import Form, Question

if TYPE_CHECKING:
    from surefoot_semantic_kernel._invocation import Invocation

__all__ = [
    "INJECTED",
    "REPLY",
    "STREAM",
    "Shown",
    "agent_name",
    "arguments",
    "definition",
    "final_arguments",
    "given",
    "input_data",
    "is_reply",
    "joined",
    "name_of",
    "newest",
    "output",
    "prompt_name",
    "question",
    "register",
    "requests",
    "shown",
    "unanswered",
]

INJECTED: Final = frozenset({"kernel", "service", "execution_settings", "arguments"})
"""Parameters that the framework fills in by their names."""
_CONTEXT: Final = "KernelProcessStepContext"
_LETTERS: Final = re.compile("[A-Za-z]{16}")
_GENERATED: Final = re.compile("agent_" + _LETTERS.pattern)
"""Names of agents that were given none: others in every process."""
_RAW: Final[Any] = {"inner_content": True, "items": {"__all__": {"inner_content"}}}
"""The provider's own objects, which no other process has."""


# --- functions


class Shown(Answer):
    """What a function returned, stored as data."""


def register(codec: Codec) -> None:
    """Teach the codec what functions of this framework return."""
    codec.register("semantic_kernel.shown", Shown, lambda answer: plain(answer.value), Shown)
    for kind in (ChatMessageContent, StreamingChatMessageContent):
        codec.register(f"semantic_kernel.{kind.__name__}", kind, _dump, partial(_load, kind))
    codec.register("semantic_kernel.FunctionResult", FunctionResult, _dump_result, _load_result)


def _dump_result(result: FunctionResult) -> list[Any]:
    return [plain(result.function.model_dump(mode="json")), plain(result.value)]


def _load_result(found: Any) -> FunctionResult:
    return FunctionResult(function=KernelFunctionMetadata.model_validate(found[0]), value=found[1])


def definition(metadata: KernelFunctionMetadata) -> list[Any]:
    """Return what a model is told of a function."""
    offered = [one for one in metadata.parameters if one.include_in_function_choices]
    return [metadata.fully_qualified_name, metadata.description, [[one.name, plain(one.schema_data), one.is_required] for one in offered]]


def final_arguments(metadata: KernelFunctionMetadata, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments with the static defaults of its function filled in, and without what the framework injects."""
    static = {one.name or "": one.default_value for one in metadata.parameters if not one.is_required}
    every = {**static, **found}
    return {name: plain(value) for name, value in every.items() if name not in INJECTED and type(value).__name__ != _CONTEXT}


def name_of(content: FunctionCallContent) -> str:
    """Return the qualified name of the function that a request is for."""
    return str(content.name or content.function_name)


def arguments(content: FunctionCallContent) -> Mapping[str, Any] | None:
    """Return what a request asks for, ``None`` where that is no JSON object: it comes to no function."""
    try:
        found = content.parse_arguments() or {}
    except Exception:  # noqa: BLE001 - the framework says so to the model
        return None
    return found if isinstance(found, Mapping) else None


# --- conversations


def agent_name(name: str | None, otherwise: str) -> str:
    """Return an agent's name, unless it is one that the framework made up."""
    return name if name and not _GENERATED.fullmatch(name) else otherwise


def prompt_name(function: Any) -> str:
    """Return the name of a prompt function, unless the framework made it up for a prompt that is invoked by itself."""
    made_up = not function.plugin_name and _LETTERS.fullmatch(function.name)
    return "prompt" if made_up else str(function.fully_qualified_name)


def requests(message: ChatMessageContent) -> list[FunctionCallContent]:
    """Return what a message asks for."""
    return [item for item in message.items if isinstance(item, FunctionCallContent)]


def is_reply(message: ChatMessageContent) -> bool:
    """Return whether a message is the model's."""
    return bool(message.role == AuthorRole.ASSISTANT)


def newest(messages: Sequence[ChatMessageContent]) -> int:
    """Return the index of the user's newest words; -1: there are none."""
    return next((index for index in range(len(messages) - 1, -1, -1) if messages[index].role == AuthorRole.USER), -1)


def unanswered(messages: Iterable[ChatMessageContent]) -> set[str]:
    """Return the ids of the requests that have no answer."""
    items = [item for message in messages for item in message.items]
    asked = {item.id or "" for item in items if isinstance(item, FunctionCallContent)}
    return asked - {item.id for item in items if isinstance(item, FunctionResultContent)}


def input_data(messages: Any) -> Any:
    """Return what is asked for, as it can be stored."""
    if messages is None or isinstance(messages, str):
        return messages
    found = messages if isinstance(messages, Sequence) else [messages]
    return [one if isinstance(one, str) else [one.role.value, one.name, [shown_item(item) for item in one.items]] for one in found]


def given(found: Any) -> Any:
    """Return messages of a stored input."""
    if found is None or isinstance(found, str):
        return found
    texts = [one if isinstance(one, str) else _again(one) for one in found]
    return texts[0] if len(texts) == 1 else texts


def _again(found: Any) -> ChatMessageContent:
    role, name, items = found
    return ChatMessageContent(role=AuthorRole(role), name=name, content="".join(item[1] for item in items if item[0] == "text"))


def output(found: Any) -> Any:
    """Return what verifiers see of messages: the text of the last one."""
    messages = found if isinstance(found, list) else [found]
    return str(messages[-1]) if messages else None


# --- questions


def shown(message: ChatMessageContent) -> list[Any]:
    """Return what is said in a message, without what is new each time."""
    return [message.role.value, [shown_item(item) for item in message.items]]


def shown_item(item: Any) -> list[Any]:
    """Return what is said in a part of a message."""
    if isinstance(item, FunctionCallContent):
        return ["call", item.id, name_of(item), plain(item.arguments)]
    if isinstance(item, FunctionResultContent):
        return ["result", item.id, plain(item.result)]
    if isinstance(item, TextContent):
        return ["text", item.text]
    return [type(item).__name__, plain(item.model_dump(mode="json", exclude={"inner_content"}))]


def question(current: Invocation, model: str, messages: Sequence[ChatMessageContent]) -> Question:
    """Return what a model is asked."""
    ordered = _ordered(messages)
    index = newest(ordered)
    said = [shown_item(item) for item in ordered[index].items] if index >= 0 else None
    results = [plain(item.result) for message in ordered[index + 1 :] for item in message.items if isinstance(item, FunctionResultContent)]
    return Question(
        agent=current.agent,
        model=model,
        tools=list(current.functions),
        said=said,
        results=results,
        prompt=[current.said.all(ordered), current.offered],
    )


def _ordered(messages: Sequence[ChatMessageContent]) -> list[ChatMessageContent]:
    """Return a conversation with the answers to each reply in the order of its requests: the framework has them as they ended."""
    found: list[ChatMessageContent] = []
    since, order = 0, {}
    for message in messages:
        found.append(message)
        if message.role != AuthorRole.TOOL:
            since, order = len(found), {content.id: rank for rank, content in enumerate(requests(message))}
        elif len(found) - since > 1:
            found[since:] = sorted(found[since:], key=lambda one: order.get(getattr(one.items[0], "id", None), len(order)))
    return found


# --- replies


def joined(chunks: Sequence[Sequence[StreamingChatMessageContent]]) -> StreamingChatMessageContent:
    """Return the message that a stream's chunks make."""
    return reduce(lambda one, other: one + other, [message for messages in chunks for message in messages])


def _dump(message: ChatMessageContent) -> dict[str, Any]:
    found: dict[str, Any] = plain(message.model_dump(exclude=_RAW, exclude_none=True))
    return found


def _load(kind: Any, found: dict[str, Any]) -> Any:
    message = kind(**{name: value for name, value in found.items() if name != "content_type"})
    if isinstance(message, StreamingChatMessageContent):  # a text alone does not say of which stream it is
        message.items = [_part(message.choice_index, item) for item in message.items]
    usage = message.metadata.get("usage")
    if isinstance(usage, dict):
        message.metadata["usage"] = CompletionUsage.model_validate(usage)
    return message


def _messages(found: dict[str, Any]) -> list[ChatMessageContent]:
    if "messages" in found:
        return [_load(ChatMessageContent, one) for one in found["messages"]]
    whole = joined(_chunks(found))
    items = [TextContent(text=item.text) if isinstance(item, StreamingTextContent) else item for item in whole.items]
    made: Any = ChatMessageContent
    return [made(role=whole.role, items=items, ai_model_id=whole.ai_model_id, finish_reason=whole.finish_reason, metadata=whole.metadata)]


def _chunks(found: dict[str, Any]) -> list[list[StreamingChatMessageContent]]:
    if "chunks" in found:
        return [[_load(StreamingChatMessageContent, one) for one in chunk] for chunk in found["chunks"]]
    made: Any = StreamingChatMessageContent
    return [[made(**_streamed(index, message)) for index, message in enumerate(_messages(found))]]


def _part(index: int, item: Any) -> Any:
    return StreamingTextContent(choice_index=index, text=item.text or "", metadata=item.metadata) if isinstance(item, TextContent) else item


def _streamed(index: int, message: ChatMessageContent) -> dict[str, Any]:
    items = [_part(index, item) for item in message.items]
    kept = {"ai_model_id": message.ai_model_id, "finish_reason": message.finish_reason, "metadata": message.metadata}
    return {"choice_index": index, "role": message.role, "items": items, **kept}


def _usage(messages: Iterable[ChatMessageContent]) -> dict[str, int]:
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    used = [message.metadata["usage"] for message in messages if message.metadata.get("usage")]
    found = {ours: [getattr(one, theirs, None) for one in used] for theirs, ours in names.items()}
    return {name: sum(counts) for name, values in found.items() if (counts := [count for count in values if isinstance(count, int)])}


REPLY: Final = Form(lambda messages: {"messages": [_dump(message) for message in messages]}, _messages, _usage)
STREAM: Final = Form(
    lambda chunks: {"chunks": [[_dump(message) for message in messages] for messages in chunks]},
    _chunks,
    lambda chunks: _usage(message for messages in chunks for message in messages),
)
