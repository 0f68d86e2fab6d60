"""Objects of the framework as plain data: arguments, results, events, questions to a model and its replies."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final

from llama_index.core.agent.workflow.workflow_events import AgentOutput
from llama_index.core.base.llms import types
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.tools.types import ToolOutput
from workflows.events import Event, StopEvent

from surefoot import UsageError
from surefoot_adapters import Codec, words
from surefoot_journal import Form, Question

__all__ = ["REPLY", "STREAM", "arguments", "data", "event", "fields", "fields_of", "message", "question", "register", "shown", "stop_event"]

_BLOCKS: Final = ("TextBlock", "ImageBlock", "AudioBlock", "VideoBlock", "DocumentBlock", "CitableBlock", "CitationBlock")
_ANSWERS: Final = frozenset({"tool", "function"})
_USAGE: Final = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"} | {
    name: name for name in ("input_tokens", "output_tokens", "total_tokens")
}


def data(value: Any) -> Any:
    """Return a value as plain data: models become their content, equal in every process for equal values."""
    if isinstance(value, BaseModel):
        return data(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return str(value.value) if hasattr(value, "value") and hasattr(value, "name") else value


def arguments(signature: inspect.Signature, injected: frozenset[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments by name, static defaults filled in and injected ones left out.

    Raises ``TypeError`` for arguments that the function does not take.
    """
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return {name: data(value) for name, value in found.items() if name not in injected}


def register(codec: Codec) -> None:
    """Teach the codec what tools of this framework return."""
    for name in _BLOCKS:
        if (kind := getattr(types, name, None)) is not None:
            codec.register(f"llama_index.{name}", kind, lambda block: block.model_dump(mode="json"), kind.model_validate)
    codec.register("llama_index.ToolOutput", ToolOutput, _dump_output, lambda fields: ToolOutput(**fields))


def _dump_output(output: ToolOutput) -> dict[str, Any]:
    """Return what is kept of a tool's output: what the model is shown, and the raw result where that is plain data."""
    raw = output.raw_output
    return {
        "tool_name": output.tool_name,
        "blocks": list(output.blocks),
        "raw_input": data(output.raw_input),
        "raw_output": raw if _is_plain(raw) else str(raw),
        "is_error": output.is_error,
    }


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


# --- events


def fields_of(event: Any) -> dict[str, Any]:
    """Return what an event was made of."""
    return {**{name: getattr(event, name) for name in type(event).model_fields}, **dict(event.items())}


def fields(event: Any) -> dict[str, Any]:
    """Return what an event was made of as plain data, without the memory: that is the user's own, and goes on by itself."""
    return {name: data(value) for name, value in fields_of(event).items() if name != "memory" and value is not None}


def shown(event: Any) -> Any:
    """Return an event as a verifier sees it: the result where it has one, of an agent what it said."""
    result = event.result if hasattr(event, "result") else fields(event)
    response = getattr(result, "response", None)
    if isinstance(response, ChatMessage):
        structured = getattr(result, "structured_response", None)
        return response.content if structured is None else data(structured)
    return data(result)


def message(role: str, said: Any) -> ChatMessage:
    """Return words as a message; what is no text as its JSON."""
    return ChatMessage(role=role, content=words(said))


def stop_event(said: Any, name: str) -> StopEvent:
    """Return the end of an agent's run where somebody else has said what it comes to: words, data, or what the framework itself makes."""
    if isinstance(said, StopEvent):
        return said
    if not isinstance(said, AgentOutput):
        structured = dict(said) if isinstance(said, Mapping) else None
        said = AgentOutput(
            response=message("assistant", said), structured_response=structured, current_agent_name=name, tool_calls=[], raw=None
        )
    return StopEvent(result=said)


def event(said: Any, kinds: Sequence[Any], step: str) -> Event | None:
    """Return what somebody said in a step's place as its event: an event or nothing as it is, data as the one kind that the step returns.

    Raises :class:`~surefoot.UsageError` for data where the step returns several kinds, or that make no event of its kind.
    """
    if said is None or isinstance(said, Event):
        return said
    possible = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Event)]
    if len(possible) != 1:
        raise UsageError(f"what is said in the place of step {step} must be an event, because it returns {len(possible)} kinds of them")
    kind = possible[0]
    try:
        return kind(result=said) if kind is StopEvent else kind(**said)
    except (TypeError, ValueError) as exc:
        raise UsageError(f"what is said in the place of step {step} makes no {kind.__name__}: {exc}") from exc


# --- questions and replies


def question(agent: str, model: str, messages: Sequence[ChatMessage], tools: Sequence[Any]) -> Question:
    """Return what a model is asked. Answers to one reply stand in the order in which they came, which is no part of the question."""
    said = _in_order([(str(getattr(message.role, "value", message.role)), message.content or "") for message in messages])
    newest = max((index for index, (role, _) in enumerate(said) if role == "user"), default=-1)
    known = [tool.metadata for tool in tools if hasattr(tool, "metadata")]
    return Question(
        agent=agent,
        model=model,
        tools=[str(tool.name) for tool in known],
        said=said[newest][1] if newest >= 0 else None,
        results=[text for role, text in said[newest + 1 :] if role in _ANSWERS],
        prompt=[said, [[tool.name, tool.description] for tool in known]],
    )


def _in_order(said: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a conversation in which answers that follow one another are sorted."""
    found: list[tuple[str, str]] = []
    for answers, group in groupby(said, key=lambda one: one[0] in _ANSWERS):
        together = list(group)
        found += sorted(together) if answers else together
    return found


def _dump_reply(reply: ChatResponse) -> dict[str, Any]:
    raw = reply.raw.model_dump(mode="json") if isinstance(reply.raw, BaseModel) else reply.raw
    extra = {name: value for name, value in reply.additional_kwargs.items() if _is_plain(value)}
    return {
        "message": reply.message.model_dump(mode="json"),
        "raw": raw if _is_plain(raw) else None,
        "delta": reply.delta,
        "additional_kwargs": extra,
    }


def _load_reply(found: Mapping[str, Any]) -> ChatResponse:
    return ChatResponse(**{**found, "message": ChatMessage.model_validate(found["message"])})


def _load_stream(found: Mapping[str, Any]) -> list[ChatResponse]:
    """Return a recorded reply as a stream: it comes in one piece."""
    whole = _load_reply(found)
    whole.delta = whole.message.content
    return [whole]


def _usage(reply: ChatResponse) -> dict[str, int]:
    """Return the tokens that a provider's reply says it cost."""
    raw = reply.raw
    used = raw.get("usage") if isinstance(raw, Mapping) else getattr(raw, "usage", None)
    found: dict[Any, Any] = {}
    with suppress(TypeError, ValueError):
        found = dict(used or ())
    return {_USAGE[name]: count for name, count in found.items() if name in _USAGE and isinstance(count, int)}


REPLY: Final = Form(_dump_reply, _load_reply, _usage)
STREAM: Final = Form(lambda items: _dump_reply(items[-1]), _load_stream, lambda items: _usage(items[-1]))
