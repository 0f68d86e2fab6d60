"""A CrewAI crew, guarded: run it, kill it anywhere, run it again under the same name. No key: put a real model in place of the script."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_TESTING": "true"}
os.environ.setdefault("XDG_DATA_HOME", tempfile.mkdtemp())

from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import tool

import surefoot


@tool("charge")
@surefoot.tool(effect="unsafe", key=["order_id"])
def charge(order_id: str, amount: int) -> str:
    """Charge an order, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called in a run
    print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
    raise TimeoutError("the provider did not answer in time")


class Script(BaseLLM):
    """Stands for a model: asks for a charge, and says what it heard. Without native tool calls, CrewAI would run the tool six times."""

    def call(self, messages: Any, *_args: Any, **_options: Any) -> str:
        """Answer."""
        if "Observation:" not in str(messages):
            return "Thought: charge\nAction: charge\nAction Input: " + json.dumps({"order_id": "7", "amount": 42})
        return "Thought: done\nFinal Answer: The charge of order 7 timed out; I have not repeated it."

    def supports_function_calling(self) -> bool:
        """Say that it writes its requests as text."""
        return False

    def get_context_window_size(self) -> int:
        """Return a size that nothing here reaches."""
        return 100_000


clerk = Agent(role="clerk", goal="bill customers", backstory="careful", llm=Script(model="script"), tools=[charge], verbose=False)
bill = Task(name="bill", description="Charge order 7 of {customer}.", expected_output="what happened", agent=clerk)
crew = surefoot.wrap(Crew(agents=[clerk], tasks=[bill], verbose=False), store="memory://")

if __name__ == "__main__":
    with surefoot.run("invoice-7"):
        print(crew.kickoff(inputs={"customer": "maria"}).raw)
