"""Is this openai-agents one that can be guarded? A proof by a call."""

from __future__ import annotations

import asyncio
from typing import Any

from surefoot import Guard
from surefoot_adapters import CANARY, Framework

__all__ = ["framework"]


def _canary(guard: Guard) -> None:
    from agents import Agent, RunConfig, Runner, function_tool

    from surefoot_openai_agents import _runner, _tools
    from surefoot_openai_agents._agents import bound

    @function_tool(name_override=CANARY)
    def seen() -> str:
        """Prove that the guard sees a call."""
        return "seen"

    _tools.check_body(seen)
    agent: Any = Agent(name="canary", model=_scripted(), tools=[seen])
    _runner.install()
    run: Any = Runner.run(bound(guard).agent(agent), "go", run_config=RunConfig(tracing_disabled=True))
    asyncio.run(run)


def _scripted() -> Any:
    """Return a model that asks for the canary and then is done."""
    from agents import Model, ModelResponse, Usage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    call = ResponseFunctionToolCall(type="function_call", name=CANARY, arguments="{}", call_id="canary")
    text = ResponseOutputText(type="output_text", text="done", annotations=[])
    done = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[text])
    replies: list[Any] = [call, done]

    class Scripted(Model):
        """Asks for the canary and then is done."""

        async def get_response(self, *_args: Any, **_kwargs: Any) -> Any:
            """Return the next reply."""
            return ModelResponse(output=[replies.pop(0)], usage=Usage(), response_id=None)

        def stream_response(self, *_args: Any, **_kwargs: Any) -> Any:
            """Not needed here."""
            raise NotImplementedError

    return Scripted()


framework = Framework("openai-agents", _canary)
