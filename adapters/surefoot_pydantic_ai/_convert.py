"""Objects of the framework as plain data: arguments, results, inputs, questions to a model and its replies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic_ai import AgentRunResult
from pydantic_ai._agent_graph import GraphAgentState
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    TextPart,
    ToolReturn,
    ToolReturnPart,
    UserPromptPart,
)

from surefoot_adapters import Answer, Codec, Said, plain, words
from surefoot_journal import Form, Question

__all__ = ["GENERATED", "REPLY", "Shown", "given", "input_data", "newest", "question", "register", "requests", "result", "shown"]

GENERATED: Final = frozenset({"timestamp", "run_id", "conversation_id"})
"""What is new in an input each time it is given."""


# --- tools


class Shown(Answer):
    """What a tool returned, stored as it is shown to the model."""


def register(codec: Codec) -> None:
    """Teach the codec what tools of this framework return."""
    codec.register("pydantic_ai.shown", Shown, lambda answer: plain(answer.value), Shown)
    codec.register("pydantic_ai.ToolReturn", ToolReturn, lambda value: _returned().dump_python(value, mode="json"), _load_return)


@cache
def _returned() -> TypeAdapter[Any]:
    return TypeAdapter(ToolReturn[Any])


def _load_return(found: Any) -> Any:
    return _returned().validate_python(found)


def requests(response: ModelResponse) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield id, tool and arguments of what a reply asks for; not those whose arguments are no JSON object: they come to no tool."""
    for part in response.tool_calls:
        try:
            yield part.tool_call_id, part.tool_name, part.args_as_dict(raise_if_invalid=True)
        except (ValueError, AssertionError):
            continue


# --- inputs


def input_data(prompt: Any, history: Sequence[ModelMessage] | None) -> Any:
    """Return what a run is given, as it can be stored: the messages of its history, and one with the prompt."""
    asked = [] if prompt is None else [ModelRequest([UserPromptPart(prompt)])]
    return ModelMessagesTypeAdapter.dump_python([*(history or ()), *asked], mode="json")


def given(found: Any) -> tuple[Any, list[ModelMessage]]:
    """Return prompt and history of a stored input."""
    *history, last = ModelMessagesTypeAdapter.validate_python(found)
    return next((part.content for part in last.parts if isinstance(part, UserPromptPart)), None), history


def newest(messages: Sequence[ModelMessage]) -> int:
    """Return the index of the message with the newest words of the user; -1: there is none."""
    found = (index for index in range(len(messages) - 1, -1, -1) if any(isinstance(part, UserPromptPart) for part in messages[index].parts))
    return next(found, -1)


# --- questions and replies


def result(history: Sequence[ModelMessage], prompt: Any, output: Any) -> AgentRunResult[Any]:
    """Return the result of a run in which no model was asked: the conversation goes on with what somebody else has said."""
    asked = [] if prompt is None else [ModelRequest([UserPromptPart(prompt)])]
    state = GraphAgentState(message_history=[*history, *asked, ModelResponse([TextPart(words(output))])])
    return AgentRunResult(output, _state=state, _new_message_index=len(history))  # owner: test_private_names


def question(agent: str, model: str, messages: Sequence[ModelMessage], asked: Any, so_far: Said) -> Question:
    """Return what a model is asked; ``asked`` are the framework's ``ModelRequestParameters``."""
    index = newest(messages)
    said = [part.content for part in messages[index].parts if isinstance(part, UserPromptPart)] if index >= 0 else []
    since = [part for message in messages[max(index, 0) :] for part in message.parts]
    tools = [*asked.function_tools, *asked.output_tools]
    return Question(
        agent=agent,
        model=model,
        tools=[tool.name for tool in tools],
        said=plain(said),
        results=[plain(part.content) for part in since if isinstance(part, ToolReturnPart | RetryPromptPart)],
        prompt=[so_far.all(messages), [[tool.name, tool.description, tool.parameters_json_schema] for tool in tools]],
    )


def shown(message: ModelMessage) -> list[Any]:
    """Return what is said in a message, without what is new each time."""
    parts = [
        [part.part_kind, getattr(part, "tool_name", None), getattr(part, "args", None), getattr(part, "content", None)]
        for part in message.parts
    ]
    return [message.kind, getattr(message, "instructions", None), parts]


def _load(found: str) -> ModelResponse:
    (response,) = ModelMessagesTypeAdapter.validate_json(found)
    assert isinstance(response, ModelResponse)  # noqa: S101 - it was one
    return response


def _usage(response: ModelResponse) -> dict[str, int]:
    return {"input_tokens": response.usage.input_tokens, "output_tokens": response.usage.output_tokens}


REPLY: Final = Form(lambda response: ModelMessagesTypeAdapter.dump_json([response]).decode(), _load, _usage)
