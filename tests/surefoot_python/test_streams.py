"""Generators as tools and as programs: items pass live, are replayed, and may be left early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from crash import Effects
from python_support import Once, resumed

import surefoot
from surefoot import Guard, InDoubt, LeaseLost, ResultUnavailable, StepRule


def test_generator_tools_pass_items_live_and_replay_them(guard: Guard, effects: Effects) -> None:
    """Items come as they are made; the recording is a list, and gives the same items and the same return value again."""
    once = Once()
    seen: list[list[Any]] = []

    @surefoot.tool()
    def pages(count: int) -> Iterator[list[int]]:
        for n in range(count):
            effects.add("page", n)
            yield [n]
        return "end"

    def main() -> Any:
        items = []

        def walk() -> Iterator[Any]:
            items.append((yield from pages(3)))

        for item in walk():
            items.append((list(item), effects.count("page")))
            item.append("the consumer's own")
        seen.append(items)
        once()
        return items

    assert resumed(guard, main) == [([0], 3), ([1], 3), ([2], 3), "end"]
    assert seen[0] == [([0], 1), ([1], 2), ([2], 3), "end"]
    assert effects.count("page") == 3


def test_a_generator_tool_that_its_consumer_leaves_is_not_in_doubt(guard: Guard, effects: Effects) -> None:
    """Breaking out of a tool's items is how that call ended: replayed, it gives as many, and has no more to give."""
    once, wants = Once(), [2, 2, 2, 3]

    @surefoot.tool(effect="unsafe")
    def pages() -> Iterator[int]:
        effects.add("pages")
        yield from range(10)

    def main() -> list[int]:
        items = pages()
        found = [next(items) for _ in range(wants.pop(0))]
        items.close()
        once()
        return found

    assert resumed(guard, main) == [0, 1]
    once.again()
    with pytest.raises(ResultUnavailable, match="only 2 items"):
        resumed(guard, main)
    assert effects.count("pages") == 2


def test_as_49_a_superseded_stream_may_claim_nothing_more(guard: Guard, effects: Effects) -> None:
    """A stream that nobody reads gives way to a new call of its run; when its consumer comes back, its next call is refused."""

    @surefoot.tool()
    def charge(amount: int) -> int:
        effects.add("charge", amount)
        return amount

    def main() -> Iterator[int]:
        yield charge(1)
        yield charge(2)

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        stale = wrapped()
        assert next(stale) == 1
        assert list(wrapped()) == [1, 2]
        with pytest.raises(LeaseLost):
            next(stale)
    assert effects.count("charge") == 2


def test_a_stream_closed_early_can_be_resumed(guard: Guard, effects: Effects) -> None:
    """A run whose consumer stopped is open: called again under its name, it replays and goes on."""

    @surefoot.tool()
    def charge(amount: int) -> int:
        effects.add("charge", amount)
        return amount

    def main() -> Iterator[int]:
        yield charge(1)
        yield charge(2)

    wrapped = surefoot.wrap(main, guard=guard)
    with surefoot.run("r"):
        items = wrapped()
        next(items)
        items.close()
        assert [str(run.status) for run in guard.runs.list()] == ["open"]
        assert list(wrapped()) == [1, 2]
    assert effects.count("charge") == 2


def falling(kind: str, fails: Exception | None, fallback: Any, **rule: Any) -> tuple[Any, Guard]:
    """Return a stream that yields one item and then fails, or never goes on, guarded with a fallback, and its guard."""
    made = Guard("memory://", steps={"pages": StepRule(fallback=[fallback], **rule)})

    if kind == "plain":

        def pages(about: str) -> Iterator[str]:
            yield f"one of {about}"
            raise fails or AssertionError("a plain stream cannot be left")

        return surefoot.wrap(pages, guard=made), made

    async def apages(about: str) -> AsyncIterator[str]:
        yield f"one of {about}"
        if fails is not None:
            raise fails
        await asyncio.Event().wait()

    apages.__qualname__ = "pages"
    return surefoot.wrap(apages, guard=made), made


async def read(items: Any) -> list[str]:
    """Return all items of either kind of stream."""
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.parametrize("answer", ["list", "items"])
async def test_a_stream_that_fails_goes_on_with_its_fallbacks_items(kind: str, answer: str) -> None:
    """What was given out is provisional, as that of a rejected attempt; the fallback's items follow, and they alone are recorded."""

    def listed(about: str) -> list[str]:
        return [f"short {about}", "end"]

    def yielded(about: str) -> Iterator[str]:
        yield from listed(about)

    wrapped, guard = falling(kind, ConnectionError("down"), listed if answer == "list" else yielded)
    with surefoot.run("r"):
        assert await read(wrapped("rain")) == ["one of rain", "short rain", "end"]
    (run,) = guard.runs.list()
    assert str(run.status) == "completed"
    assert [event.type for event in guard.runs.events(run.run_id)].count("step.degraded") == 1


async def test_a_stream_that_no_mode_gives_is_a_persons() -> None:
    """The run is held; a list that a person gives is the stream's items."""

    async def fails(_about: str) -> list[str]:
        raise ConnectionError("down too")

    wrapped, guard = falling("async", ConnectionError("down"), fails)
    with surefoot.run("r"), pytest.raises(InDoubt, match="in any of its 2 modes") as held:
        await read(wrapped("rain"))
    guard.calls.settle(held.value.call_id or "", committed=["by", "hand"], by="maria")
    with surefoot.run("r"):
        assert await read(wrapped("rain")) == ["by", "hand"]


async def test_a_stream_that_takes_too_long_is_left() -> None:
    """An asynchronous stream is left at its step's deadline, wherever it waits, and its fallback's items follow."""
    wrapped, _ = falling("async", None, lambda about: [f"short {about}"], timeout=0.05)
    with surefoot.run("r"):
        assert (await read(wrapped("rain")))[-1] == "short rain"


def test_the_time_that_its_consumer_takes_is_not_the_streams() -> None:
    """While its consumer has an item a stream's time stands still; what it takes itself counts, and a late item is not given out."""
    now = [100.0]

    def pages() -> Iterator[str]:
        yield "one"
        yield "two"
        now[0] += 60
        yield "late"

    guard = Guard("memory://", steps={"pages": StepRule(timeout=50.0)})
    guard.clock = lambda: now[0]
    found = []
    with surefoot.run("r"), pytest.raises(TimeoutError, match="pages#1 took longer than it had"):
        for item in surefoot.wrap(pages, guard=guard)():
            found.append(item)
            now[0] += 1000
    assert found == ["one", "two"]
