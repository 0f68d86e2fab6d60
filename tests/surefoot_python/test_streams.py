"""Generators as tools and as programs: items pass live, are replayed, and may be left early."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from crash import Effects
from python_support import Once, resumed

import surefoot
from surefoot import Guard, LeaseLost, ResultUnavailable


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
