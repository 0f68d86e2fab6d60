"""What the tests of the OpenAI Agents adapter share: effects outside the process, and a model that says what it is told to."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from agents import Model, ModelResponse, Runner, Usage, function_tool
from agents.items import TResponseOutputItem
from crash import Effects
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from surefoot import Guard

__all__ = ["FACES", "Failing", "Script", "asks", "events", "invoke", "payer", "says", "script"]

FACES = ["sync", "async", "stream"]
"""Ways to run an agent: ``run_sync``, ``run``, ``run_streamed``."""


def asks(tool: str, _arguments: str | None = None, **given: Any) -> ResponseFunctionToolCall:
    """Return a request for a tool, with a fresh id, as real models give."""
    text = json.dumps(given) if _arguments is None else _arguments
    return ResponseFunctionToolCall(type="function_call", name=tool, arguments=text, call_id=f"call_{uuid.uuid4().hex[:8]}")


def says(text: str) -> ResponseOutputMessage:
    """Return words of the model."""
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(id=f"msg_{uuid.uuid4().hex[:8]}", type="message", role="assistant", status="completed", content=[content])


class Script(Model):
    """A model whose reply depends on the conversation alone, as a restarted process needs it.

    ``reply`` is given the texts that tools have answered to the newest words of the user, and the items. Every question is
    counted in the effects file, where there is one.
    """

    def __init__(
        self, reply: Callable[[list[str], list[Any]], Sequence[TResponseOutputItem]], effects: Effects | None = None, name: str = "model"
    ) -> None:
        self.model = name
        self.questions = 0
        self._reply = reply
        self._effects = effects

    def _answer(self, given: str | list[Any]) -> list[TResponseOutputItem]:
        self.questions += 1
        if self._effects is not None:
            self._effects.add("model", self.model)
        items: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        newest = max((i for i, item in enumerate(items) if item.get("role") == "user"), default=-1)
        answered = [str(item["output"]) for item in items[newest + 1 :] if item.get("type") == "function_call_output"]
        return list(self._reply(answered, items))

    async def get_response(self, system_instructions: Any, input: Any, *_args: Any, **_kwargs: Any) -> ModelResponse:  # noqa: A002 - the framework's name
        """Return the whole reply."""
        usage = Usage(requests=1, input_tokens=7, output_tokens=3, total_tokens=10)
        return ModelResponse(output=self._answer(input), usage=usage, response_id=f"resp_{uuid.uuid4().hex[:8]}")

    async def stream_response(self, system_instructions: Any, input: Any, *_args: Any, **_kwargs: Any) -> AsyncIterator[Any]:  # noqa: A002 - the framework's name
        """Yield the text piece by piece, then the whole reply."""
        output = self._answer(input)
        words = [part for item in output if isinstance(item, ResponseOutputMessage) for part in item.content]
        for number, part in enumerate(words):
            for word in part.text.split(" "):
                yield ResponseTextDeltaEvent(
                    type="response.output_text.delta",
                    item_id="m",
                    output_index=0,
                    content_index=0,
                    delta=word,
                    sequence_number=number,
                    logprobs=[],
                )
        whole = Response(
            id=f"resp_{uuid.uuid4().hex[:8]}",
            created_at=0,
            model=self.model,
            object="response",
            output=output,
            parallel_tool_calls=True,
            tool_choice="auto",
            tools=[],
            usage={
                "input_tokens": 7,
                "output_tokens": 3,
                "total_tokens": 10,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        )
        yield ResponseCompletedEvent(type="response.completed", response=whole, sequence_number=99)


class Failing(Script):
    """A model that fails where it is told to, once."""

    def __init__(self, at: int, *replies: list[Any], effects: Effects | None = None) -> None:
        inner = script(*replies, effects=effects)
        super().__init__(inner._reply, effects)
        self._at = at

    def _answer(self, given: Any) -> Any:
        if self.questions == self._at:
            self._at = -1
            raise RuntimeError("HTTP 500")
        return super()._answer(given)


def payer(effects: Effects, **options: Any) -> Any:
    """Return a tool that pays."""

    @function_tool(**options)
    async def pay(order: str, amount: int) -> str:
        effects.add("pay", order, amount)
        return f"paid {amount}"

    return pay


def script(*replies: list[Any], effects: Effects | None = None) -> Script:
    """Return a model that gives these replies, one for each number of answers of tools."""
    after: dict[int, list[Any]] = {}
    for number, reply in enumerate(replies):
        after[sum(item.type == "function_call" for earlier in replies[:number] for item in earlier)] = reply
    return Script(lambda answered, _items: after[max(n for n in after if n <= len(answered))], effects)


def invoke(agent: Any, given: Any = "order 7", face: str = "async", **options: Any) -> Any:
    """Run an agent on one face and return its result."""
    if face == "sync":
        try:
            return Runner.run_sync(agent, given, **options)
        finally:
            asyncio.get_event_loop_policy().get_event_loop().close()  # the framework leaves it open

    async def streamed() -> Any:
        result = Runner.run_streamed(agent, given, **options)
        async for _event in result.stream_events():
            pass
        return result

    async def whole() -> Any:
        return await Runner.run(agent, given, **options)

    return asyncio.run(streamed() if face == "stream" else whole())


def events(guard: Guard, kind: str) -> list[dict[str, Any]]:
    """Return what was evented under that name, over all runs."""
    return [dict(event.data) for run in guard.runs.list() for event in guard.runs.events(run.run_id) if event.type == kind]
