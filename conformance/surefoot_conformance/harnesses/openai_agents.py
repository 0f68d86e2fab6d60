"""OpenAI Agents: agents of the framework with a scripted model behind its own Model interface. No checkpoints: the same input resumes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from agents import Agent as Bare
from agents import Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from agents.exceptions import UserError
from openai.types.responses import Response, ResponseCompletedEvent, ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

import surefoot
from surefoot_conformance.harness import Agent, Harness, Reply, Site, Turn

__all__ = ["OpenAIAgentsHarness"]

_BACK = "transfer_to_a"
_SPENT: Any = {
    "input_tokens": 2,
    "output_tokens": 1,
    "total_tokens": 3,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


class OpenAIAgentsHarness(Harness):
    """One agent with function tools; nested, it is another agent's tool; handing over, it is one of two."""

    name = "openai-agents"
    distribution = "openai-agents"
    packages = ("surefoot_openai_agents", "surefoot_journal")
    has_checkpoints = False
    has_hand_off = has_worker_threads = True

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the agent of the shape."""
        set_tracing_disabled(disabled=True)
        return site.wrap(getattr(self, f"_{agent.shape}")(agent))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run it on the synchronous face, which leaves the thread's event loop open."""
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            with surefoot.run(turn.run, thread=turn.thread), _own_errors():
                return Runner.run_sync(target, turn.input or "")
        finally:
            asyncio.set_event_loop(None)
            loop.close()

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Run it asynchronously."""
        with surefoot.run(turn.run, thread=turn.thread), _own_errors():
            return await Runner.run(target, turn.input or "")

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Run it and yield its events."""
        with surefoot.run(turn.run, thread=turn.thread):
            streamed = Runner.run_streamed(target, turn.input or "")
        with _own_errors():
            async for event in streamed.stream_events():
                yield event

    def shown(self, raw: Any) -> str:
        """Return what can be seen of a result, or of an event."""
        if hasattr(raw, "new_items"):
            return repr([[_item(item) for item in raw.new_items], raw.final_output, raw.last_agent.name])
        found = getattr(raw, "item", None)
        data = getattr(raw, "data", None)
        shown = _item(found) if found is not None else data.model_dump(exclude_unset=True) if data is not None else raw.new_agent.name
        return repr([raw.type, getattr(raw, "name", None), shown])

    def outline(self, target: Any) -> Any:
        """Return type, name, instructions and the schemas of the tools."""
        tools = [[tool.name, tool.description, tool.params_json_schema] for tool in target.tools]
        return [*super().outline(target), target.name, target.instructions, json.dumps(tools)]

    def move_hook_point(self) -> None:
        """Have tools keep their bodies under another name."""
        from agents import tool

        def __init__(self: Any, body: Any, handled: Any, *, function_tool: Any = None) -> None:  # noqa: N807 - stands in for it
            self._body, self._on_handled_error, self._function_tool = body, handled, function_tool

        async def __call__(self: Any, ctx: Any, input: str) -> Any:  # noqa: N807 - the framework's names
            return await self._body(ctx, input)

        moved: Any = tool._FailureHandlingFunctionToolInvoker  # noqa: SLF001 - what a new release might change
        moved.__init__, moved.__call__ = __init__, __call__
        moved.__agents_bind_function_tool__ = lambda self, _tool: self
        moved._get_wrapped_callable = lambda self: self._body  # noqa: SLF001 - as above

    # --- shapes

    def _loop(self, agent: Agent, name: str = "agent") -> Bare[Any]:
        return Bare(name=name, model=_Scripted(agent), tools=_tools(agent))

    def _nested(self, agent: Agent) -> Bare[Any]:
        worker = self._loop(agent, agent.step).as_tool(agent.step, "Does the work.", failure_error_function=None)
        return Bare(name="outer", model=_Delegating(agent), tools=[worker])

    def _hand_off(self, agent: Agent) -> Bare[Any]:
        a: Bare[Any] = Bare(name="a", model=_Leaving(agent), tools=_tools(agent))
        b: Bare[Any] = Bare(name="b", model=_Back(agent), handoffs=[a])
        a.handoffs = [b]
        return a


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """Let out what a tool raised: the framework tells it in an error of its own."""
    try:
        yield
    except UserError as exc:
        raise exc.__cause__ or exc from None


def _tools(agent: Agent) -> list[Any]:
    shown: Any = (lambda _context, error: f"error: {error}") if agent.shows_errors else None
    return [function_tool(tool.function, name_override=tool.name, failure_error_function=shown) for tool in agent.tools]


def _item(item: Any) -> Any:
    return [item.type, item.agent.name, item.to_input_item()]


def _request(name: str, arguments: Mapping[str, Any], call_id: str) -> ResponseFunctionToolCall:
    return ResponseFunctionToolCall(type="function_call", name=name, arguments=json.dumps(arguments), call_id=call_id)


def _words(text: str) -> ResponseOutputMessage:
    content = ResponseOutputText(type="output_text", text=text, annotations=[])
    return ResponseOutputMessage(id="message", type="message", role="assistant", status="completed", content=[content])


class _Scripted(Model):
    """The suite's scripted model."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def asked(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the reply to a conversation."""
        newest = max(index for index, item in enumerate(items) if item.get("role") == "user")
        return self.output(self.reply(items[newest + 1 :], str(items[newest]["content"])))

    def reply(self, since: Sequence[Mapping[str, Any]], said: str) -> Reply:
        """Return what the script says to these items since the newest words."""
        kinds = [item.get("type") == "function_call_output" for item in since]
        given = sum(not here and (index == 0 or kinds[index - 1]) for index, here in enumerate(kinds))
        return self._agent.reply(given, [str(item["output"]) for item, here in zip(since, kinds, strict=True) if here], said)

    def output(self, reply: Reply) -> list[Any]:
        """Return a reply in the framework's terms."""
        calls = [_request(ask.tool, ask.arguments, ask.call_id) for ask in reply.calls]
        return calls or [_words(reply.text)]

    async def get_response(self, system_instructions: Any, input: Any, *_args: Any, **_kwargs: Any) -> ModelResponse:  # noqa: ARG002 - their names
        """Return the reply."""
        return ModelResponse(output=self._answer(input), usage=Usage(requests=1), response_id=None)

    async def stream_response(self, system_instructions: Any, input: Any, *_args: Any, **_kwargs: Any) -> AsyncIterator[Any]:  # noqa: ARG002 - as above
        """Yield the reply."""
        whole = Response(
            id="response",
            created_at=0,
            model="scripted",
            object="response",
            output=self._answer(input),
            parallel_tool_calls=True,
            tool_choice="auto",
            tools=[],
            usage=_SPENT,
        )
        yield ResponseCompletedEvent(type="response.completed", response=whole, sequence_number=0)

    def _answer(self, given: Any) -> list[Any]:
        return self.asked([{"role": "user", "content": given}] if isinstance(given, str) else given)


class _Delegating(_Scripted):
    """Has its only tool do what it was asked, and then is done."""

    def asked(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the request, or the words at the end."""
        if items[-1].get("type") == "function_call_output":
            return [_words(str(items[-1]["output"]))]
        return [_request(self._agent.step, {"input": items[-1]["content"]}, "call_delegate")]


class _Leaving(_Scripted):
    """Runs the loop on both visits and hands over after the first."""

    def asked(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return the reply of the loop since the visit began, or the hand-off."""
        back = max((index for index, item in enumerate(items) if item.get("name") == _BACK), default=None)
        since, said = (items[1:], str(items[0]["content"])) if back is None else (items[back + 2 :], "back")
        reply = self.reply(since, said)
        return self.output(reply) if reply.calls or back is not None else [_request("transfer_to_b", {}, "call_to_b")]


class _Back(_Scripted):
    """Hands back."""

    def asked(self, items: Sequence[Mapping[str, Any]]) -> list[Any]:  # noqa: ARG002 - as the others
        """Return the hand-off."""
        return [_request(_BACK, {}, "call_to_a")]
