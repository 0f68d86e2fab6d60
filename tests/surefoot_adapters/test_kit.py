"""Parts of the kit that adapters share: objects changed in place, generators that pass, plain bodies in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any

import pytest

from surefoot import AdapterUnavailable, Guard
from surefoot_adapters import Do, Kinds, Program, become, in_thread
from surefoot_adapters.streams import Items, Passing, asynchronous, seeing


class Slotted:
    """Keeps its state in slots."""

    __slots__ = ("a",)


class Open:
    """Keeps its state where everybody does."""


def test_an_object_becomes_one_of_a_kind_and_stays_itself() -> None:
    """What is changed in place is the same object, of a class that looks like its own, once; one with slots is refused."""
    kinds = Kinds(lambda _kind: {"said": lambda _self: "guarded"})
    target: Any = Open()
    assert become(target, kinds) is target
    kind = type(become(target, kinds))
    assert (kind.__qualname__, kind.__mro__[1], target.said()) == ("Open", Open, "guarded")
    with pytest.raises(AdapterUnavailable, match="slots"):
        become(Slotted(), kinds)


def test_a_plain_body_brings_home_its_very_error() -> None:
    """A ``TimeoutError`` that a plain body raises in its thread is that object; what begun is told is its future."""
    raised, begun = TimeoutError("late"), []

    def body() -> None:
        assert threading.current_thread() is not threading.main_thread()
        raise raised

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(in_thread(body, begun.append))
    assert caught.value is raised
    assert len(begun) == 1


def test_a_generator_sees_what_its_consumer_does_not() -> None:
    """The variable is set while the generator runs, and never while its consumer does; it is closed when its consumer leaves."""
    variable: ContextVar[str] = ContextVar("variable", default="")
    closed: list[bool] = []

    async def items() -> AsyncGenerator[str, None]:
        try:
            while True:
                yield variable.get()
        finally:
            closed.append(True)

    async def whole() -> list[str]:
        found, passed = [], seeing(variable, "inside", items())
        async for item in passed:
            found += [item, variable.get()]
            if len(found) > 2:
                await passed.aclose()
        return found

    assert asyncio.run(whole()) == ["inside", "", "inside", ""]
    assert closed == [True]


def test_items_that_pass_are_not_what_is_recorded() -> None:
    """A generator whose items pass comes to what it is said to have come to, and its items go through as they are."""
    came_to: list[Any] = []
    item = object()

    async def items() -> AsyncGenerator[Any, None]:
        yield item

    def program() -> Program[Items]:
        came_to.append((yield Do(lambda: Passing(items(), lambda: "the end"))))
        return Items()

    async def whole() -> list[Any]:
        with Guard("memory://") as guard:
            return [one async for one in asynchronous(lambda: (guard, program()))()]

    assert asyncio.run(whole()) == [item]
    assert came_to == ["the end"]
