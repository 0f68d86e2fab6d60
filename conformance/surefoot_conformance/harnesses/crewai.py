"""CrewAI: agents as crews of one agent and one task, with a scripted model. No checkpoints: the same input resumes them."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_TESTING": "true"}
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="surefoot-crewai-")  # where CrewAI keeps what it remembers of its last kickoff

import crewai
from crewai.tools import tool
from crewai.tools.base_tool import Tool

import surefoot
from surefoot_conformance.harness import Agent, Harness, Site, Turn

__all__ = ["CrewAIHarness"]


class CrewAIHarness(Harness):
    """A crew whose only task an agent works on with its tools; the task is named where it has to be a step.

    CrewAI shows every error of a tool to the model. Where one has to end the run, the model's client raises it on.
    """

    name = "crewai"
    distribution = "crewai"
    packages = ("surefoot_crewai",)
    has_checkpoints = False
    has_copies = False  # changed in place
    has_cancellation = False  # it runs tools in threads, coroutine functions too
    has_pausing_streams = False  # a thread goes on to the end, read or not

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the crew; where a stream is looked at, one that streams."""
        errors: list[Exception] = []
        tools = [_made(entry, errors) for entry in agent.tools]
        options: dict[str, Any] = {"llm": _Model(agent, errors), "tools": tools, "max_retry_limit": 0}
        worker = crewai.Agent(role="clerk", goal="serve", backstory="b", verbose=False, **options)
        task = crewai.Task(
            description="{words}", expected_output="done", agent=worker, name=agent.step if agent.shape == "nested" else None
        )
        return site.wrap(crewai.Crew(agents=[worker], tasks=[task], verbose=False, stream=site.face.endswith("stream")))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Kick off a copy: one crew has one kickoff at a time, and several threads may come with the same one."""
        with surefoot.run(turn.run, thread=turn.thread):
            return target.copy().kickoff(inputs={"words": turn.input})

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Kick off natively asynchronously."""
        with surefoot.run(turn.run, thread=turn.thread):
            return await target.akickoff(inputs={"words": turn.input})

    def stream(self, target: Any, turn: Turn) -> Iterator[Any]:
        """Read the chunks of a kickoff, and its result."""
        with surefoot.run(turn.run, thread=turn.thread):
            streaming = target.kickoff(inputs={"words": turn.input})
        yield from streaming
        yield streaming.result

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Read them asynchronously."""
        with surefoot.run(turn.run, thread=turn.thread):
            streaming = await target.akickoff(inputs={"words": turn.input})
        async for chunk in streaming:
            yield chunk
        yield streaming.result

    def outline(self, target: Any) -> Any:
        """Return what a crew consists of."""
        agents = [[type(agent).__qualname__, agent.role, [_tool(entry) for entry in agent.tools]] for agent in target.agents]
        tasks = [[type(task).__qualname__, task.name, task.description] for task in target.tasks]
        return [*super().outline(target), target.key, agents, tasks]

    def move_hook_point(self) -> None:
        """Have tools called past the function that they hand out."""
        Tool.run = lambda self, *args, **kwargs: self.__dict__["func"](*args, **kwargs)


def _tool(entry: Any) -> list[Any]:
    return [type(entry).__qualname__, entry.name, entry.description, entry.args_schema.model_json_schema()]


def _words(prompt: str) -> str:
    """Return the words that a prompt was made of: the hint in its context, or the task."""
    hint = re.search(r"This is the context you're working with:\n(.*?)(?:\n\n|$)", prompt, re.DOTALL)
    task = re.search(r"Current Task: (.*?)\n", prompt)
    return (hint or task or [prompt, prompt])[1]


class _Tool(Tool):  # type: ignore[misc] # CrewAI is not there for the type checker
    """A tool that keeps what a call of it raises."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the tool."""
        try:
            return super().run(*args, **kwargs)
        except Exception as exc:
            vars(self)["errors"].append(exc)
            raise


def _made(entry: Any, errors: list[Exception]) -> Any:
    """Return the tool of a function. Each request has to come to it: CrewAI's cache would answer some."""
    made = tool(entry.name)(entry.function)
    made.__class__ = _Tool
    made.cache_function = lambda *_: False
    vars(made)["errors"] = errors
    return made


class _Model(crewai.BaseLLM):  # type: ignore[misc]
    """The scripted model, with native tool calls."""

    def __init__(self, agent: Agent, errors: list[Exception]) -> None:
        super().__init__(model="scripted")
        self._agent = agent
        self._errors = errors

    def call(self, messages: Any, *_args: Any, **_options: Any) -> Any:
        """Answer by the script."""
        prompt = max(
            index for index, message in enumerate(messages) if message["role"] == "user" and "Current Task" in str(message["content"])
        )
        since = messages[prompt + 1 :]
        seen = [str(message["content"]) for message in since if message["role"] == "tool"]
        given = sum(message["role"] == "assistant" for message in since)
        if not self._agent.shows_errors and self._errors:
            raise self._errors.pop()
        reply = self._agent.reply(given, seen, _words(str(messages[prompt]["content"])))
        calls = [
            {"id": ask.call_id, "type": "function", "function": {"name": ask.tool, "arguments": json.dumps(dict(ask.arguments))}}
            for ask in reply.calls
        ]
        return calls or reply.text

    async def acall(self, messages: Any, *args: Any, **options: Any) -> Any:
        """Answer by the script."""
        return self.call(messages, *args, **options)

    def supports_function_calling(self) -> bool:
        """Say that it calls tools by itself."""
        return True

    def get_context_window_size(self) -> int:
        """Return a size that nothing here reaches."""
        return 1_000_000
