"""Plain Python: agents as functions that call their tools by themselves. No checkpoints: the same input resumes them."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import surefoot
from surefoot_conformance.harness import Agent, Ask, Harness, Site, Turn

__all__ = ["PythonHarness"]

_Tools: TypeAlias = Mapping[str, Callable[..., Any]]


class PythonHarness(Harness):
    """The agent's loop in a function of the face's kind; nested, it is a wrapped function that another one calls."""

    name = "python"
    packages = ("surefoot_python",)
    has_checkpoints = has_model = has_parallel_calls = False
    has_fan_out = True

    def build(self, agent: Agent, site: Site) -> Any:
        """Return the function of the agent's shape and the face's kind."""
        tools = {tool.name: site.tool(tool.function) for tool in agent.tools}
        if agent.shape == "fan_out":
            return site.wrap(_branches(agent, site, tools))
        worker = _KINDS[site.face](agent, tools)
        return site.wrap(_OUTER[site.face](site.wrap(worker)) if agent.shape == "nested" else worker)

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Call the function in its run."""
        with surefoot.run(turn.run, thread=turn.thread):
            return target(turn.input)

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Await the coroutine in its run."""
        with surefoot.run(turn.run, thread=turn.thread):
            return await target(turn.input)

    def stream(self, target: Any, turn: Turn) -> Iterator[Any]:
        """Iterate the generator in its run."""
        with surefoot.run(turn.run, thread=turn.thread):
            yield from target(turn.input)

    async def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Iterate the asynchronous generator in its run."""
        with surefoot.run(turn.run, thread=turn.thread):
            async for item in target(turn.input):
                yield item


def _asked(agent: Agent, words: str) -> Generator[Ask, str, None]:
    """Yield the calls that the model asks for; be sent the answers."""
    step = surefoot.current_step()
    said, given = (step.hint if step else "") or words, 0
    seen: list[str] = []
    while calls := agent.reply(given, seen, said).calls:
        for ask in calls:
            seen.append((yield ask))  # noqa: PERF401 - a comprehension cannot yield
        given += 1


def _plain(agent: Agent, tools: _Tools) -> Callable[[str], list[str]]:
    def worker(words: str) -> list[str]:
        return list(_generator(agent, tools)(words))

    return worker


def _generator(agent: Agent, tools: _Tools) -> Callable[[str], Iterator[str]]:
    def worker(words: str) -> Iterator[str]:
        asked = _asked(agent, words)
        ask = next(asked, None)
        while ask is not None:
            try:
                answer = tools[ask.tool](**ask.arguments)
            except Exception as exc:
                if not agent.shows_errors:
                    raise
                answer = f"error: {exc}"
            yield answer
            ask = _next(asked, answer)

    return worker


def _coroutine(agent: Agent, tools: _Tools) -> Callable[[str], Any]:
    async def worker(words: str) -> list[str]:
        return [item async for item in _agenerator(agent, tools)(words)]

    return worker


def _agenerator(agent: Agent, tools: _Tools) -> Callable[[str], AsyncIterator[str]]:
    async def worker(words: str) -> AsyncIterator[str]:
        asked = _asked(agent, words)
        ask = next(asked, None)
        while ask is not None:
            try:
                answer = await tools[ask.tool](**ask.arguments)
            except Exception as exc:
                if not agent.shows_errors:
                    raise
                answer = f"error: {exc}"
            yield answer
            ask = _next(asked, answer)

    return worker


def _next(asked: Generator[Ask, str, None], answer: str) -> Ask | None:
    try:
        return asked.send(answer)
    except StopIteration:
        return None


def _outer_plain(worker: Any) -> Any:
    def outer(words: str) -> Any:
        return worker(words)

    return outer


def _outer_coroutine(worker: Any) -> Any:
    async def outer(words: str) -> Any:
        return await worker(words)

    return outer


def _outer_generator(worker: Any) -> Any:
    def outer(words: str) -> Any:
        yield from worker(words)

    return outer


def _outer_agenerator(worker: Any) -> Any:
    async def outer(words: str) -> Any:
        async for item in worker(words):
            yield item

    return outer


def _branches(agent: Agent, site: Site, tools: _Tools) -> Any:
    charge = tools[agent.tools[0].name]

    def branch(amount: int) -> Any:
        return charge(amount=amount)

    async def abranch(amount: int) -> Any:
        return await charge(amount=amount)

    guarded = site.wrap(abranch if site.is_async else branch)

    def both(words: str) -> list[Any]:  # noqa: ARG001 - every agent is given the user's words
        with ThreadPoolExecutor(2) as pool:
            begun = [pool.submit(contextvars.copy_context().run, guarded, 5) for _ in range(2)]
        return [future.result() for future in begun]

    async def aboth(words: str) -> list[Any]:  # noqa: ARG001 - as above
        return [*await asyncio.gather(guarded(5), guarded(5))]

    def streamed(words: str) -> Iterator[Any]:
        yield from both(words)

    async def astreamed(words: str) -> AsyncIterator[Any]:
        for item in await aboth(words):
            yield item

    return {"sync": both, "async": aboth, "stream": streamed, "astream": astreamed}[site.face]


_KINDS: Mapping[str, Any] = {"sync": _plain, "async": _coroutine, "stream": _generator, "astream": _agenerator}
_OUTER: Mapping[str, Any] = {"sync": _outer_plain, "async": _outer_coroutine, "stream": _outer_generator, "astream": _outer_agenerator}
