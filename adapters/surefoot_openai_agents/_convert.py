"""Objects of the framework as plain data: arguments, results, questions to a model and its replies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from agents import RunContextWrapper, RunResult
from agents.items import ModelResponse, TResponseStreamEvent
from agents.tool import ToolOutputFileContent, ToolOutputImage, ToolOutputText
from agents.usage import Usage
from openai.types.responses import Response, ResponseCompletedEvent
from pydantic import BaseModel, TypeAdapter

from surefoot_adapters import Answer, Codec
from surefoot_journal import Form, Question

__all__ = ["REPLY", "STREAM", "Shown", "arguments", "as_data", "final_arguments", "is_last", "part", "question", "register"]

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete"})


# --- tools


def arguments(text: Any) -> dict[str, Any] | None:
    """Return what the model asked for, or ``None`` where it is no JSON object: the framework refuses it before the body."""
    try:
        found = json.loads(text) if text else {}
    except (TypeError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def final_arguments(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments with the static defaults of its tool filled in."""
    return {**defaults, **given}


class Shown(Answer):
    """What a tool returned, where that is no plain data: stored as it is shown to the model if it cannot be stored as it is."""


def register(codec: Codec) -> None:
    """Teach the codec what tools of this framework return."""
    codec.register("openai_agents.shown", Shown, lambda answer: str(answer.value), Shown)
    for kind in (ToolOutputText, ToolOutputImage, ToolOutputFileContent):
        codec.register(f"openai_agents.{kind.__name__}", kind, _dump_model, kind.model_validate)


def _dump_model(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json", exclude_unset=True)


# --- questions


def as_data(item: Any) -> Mapping[str, Any]:
    """Return an item of a conversation as a mapping."""
    if type(item) is dict:
        return item
    return item.model_dump(exclude_unset=True) if isinstance(item, BaseModel) else item if isinstance(item, Mapping) else {}


def part(item: Any, name: str) -> Any:
    """Return one part of an item of a conversation, ``None`` where it has none; cheaper than the whole of it."""
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def question(agent: str, model: str, asked: Mapping[str, Any]) -> Question:
    """Return what a model is asked, by the parameters of the framework's ``Model``."""
    tools, handoffs = asked["tools"], asked["handoffs"]
    given = [{"role": "user", "content": asked["input"]}] if isinstance(asked["input"], str) else asked["input"]
    items = [item if type(item) is dict else as_data(item) for item in given]
    said, results = None, []
    for item in reversed(items):
        if item.get("role") == "user":
            said = item.get("content")
            break
        if "output" in item and str(item.get("type")).endswith("call_output"):
            results.append(item["output"])
    return Question(
        agent=agent,
        model=model,
        tools=[tool.name for tool in tools] + [handoff.tool_name for handoff in handoffs],
        said=said,
        results=results[::-1],
        prompt=[
            asked["system_instructions"],
            items,
            [[tool.name, getattr(tool, "description", None), getattr(tool, "params_json_schema", None)] for tool in tools],
            [[handoff.tool_name, handoff.tool_description, handoff.input_json_schema] for handoff in handoffs],
        ],
    )


# --- replies

# Unset fields stay unset: a field that came back as null would change the next question.


@cache
def _response() -> TypeAdapter[ModelResponse]:
    return TypeAdapter(ModelResponse)


@cache
def _events() -> TypeAdapter[list[TResponseStreamEvent]]:
    return TypeAdapter(list[TResponseStreamEvent])


def is_last(event: Any) -> bool:
    """Return whether a stream's event makes the reply whole."""
    return getattr(event, "type", None) in _TERMINAL


def _usage(found: Any) -> dict[str, Any]:
    names = ("input_tokens", "output_tokens", "total_tokens")
    return {name: getattr(found, name) for name in names if isinstance(getattr(found, name, None), int)}


def _load_response(data: Mapping[str, Any]) -> ModelResponse:
    if "response" in data:
        return _response().validate_python(data["response"])
    whole = _load_events(data)[-1].response
    used = whole.usage
    usage = Usage(requests=1, **_usage(used)) if used is not None else Usage()
    return ModelResponse(output=whole.output, usage=usage, response_id=whole.id)


def _load_events(data: Mapping[str, Any]) -> list[Any]:
    if "events" in data:
        return _events().validate_python(data["events"])
    given = _load_response(data)
    whole: dict[str, Any] = {
        "id": given.response_id or "surefoot",
        "created_at": 0,
        "model": "recorded",
        "object": "response",
        "output": given.output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            **_usage(given.usage),
            "input_tokens_details": given.usage.input_tokens_details,
            "output_tokens_details": given.usage.output_tokens_details,
        },
    }
    response = Response.model_construct(**whole)
    return [ResponseCompletedEvent.model_construct(type="response.completed", response=response, sequence_number=0)]


def _dump_response(response: ModelResponse) -> dict[str, Any]:
    return {"response": _response().dump_python(response, mode="json", exclude_unset=True)}


def _dump_events(events: Sequence[Any]) -> dict[str, Any]:
    return {"events": [event.model_dump(mode="json", exclude_unset=True) for event in events]}


REPLY: Final = Form(_dump_response, _load_response, lambda response: _usage(response.usage))
STREAM: Final = Form(_dump_events, _load_events, lambda events: _usage(events[-1].response.usage))


def result(agent: Any, given: Any, output: Any) -> RunResult:
    """Return the result of a run in which no model was asked: somebody else has said what it comes to."""
    names = ("new_items", "raw_responses", "input_guardrail_results", "output_guardrail_results")
    empty: dict[str, Any] = {name: [] for name in (*names, "tool_input_guardrail_results", "tool_output_guardrail_results")}
    return RunResult(**empty, input=given, final_output=output, context_wrapper=RunContextWrapper(None), _last_agent=agent)
