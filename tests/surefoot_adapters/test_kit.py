"""Parts of the kit that adapters share: objects changed in place, generators that pass, plain bodies in threads."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

import surefoot
from surefoot import AdapterUnavailable, Guard, UsageError
from surefoot_adapters import (
    Answer,
    Asked,
    Copies,
    Do,
    Frame,
    Kinds,
    Program,
    Request,
    Stopped,
    become,
    defaults,
    digest_of,
    each_guard,
    here,
    identity,
    in_thread,
    input_digest,
    kinds_of,
    meant,
    plain,
    stops,
    storable,
    unnamed,
    without,
)
from surefoot_adapters.streams import Items, Passing, asynchronous, seeing


class Slotted:
    """Keeps its state in slots."""

    __slots__ = ("a",)


class Open:
    """Keeps its state where everybody does."""


class Point(BaseModel):
    """A model."""

    x: int


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


def test_a_run_without_a_name_is_said_once_and_refused_by_a_strict_guard(caplog: pytest.LogCaptureFixture) -> None:
    """What has no name is logged once for each guard and name, with how to name it; ``strict=True`` refuses it with the same words."""
    log, how = logging.getLogger("surefoot.test"), "run {} in a block"
    with Guard("memory://") as one, Guard("memory://") as two, Guard("memory://", strict=True) as strict:
        for guard, name in ((one, "a"), (one, "a"), (one, "b"), (two, "a")):
            unnamed(guard, name, log, how)
        said = [record.message.split(" runs ")[0] for record in caplog.records]
        assert said == ["a", "b", "a"]
        assert caplog.records[0].message.endswith("; run it in a block")
        with pytest.raises(UsageError, match="needs a name for the run: run a in a block"):
            unnamed(strict, "a", log, how)


def test_an_input_that_cannot_be_stored_is_like_no_other() -> None:
    """Equal inputs have one digest; what has none never looks like what came before, and has no digest as a step."""
    codec = Guard("memory://").codec
    assert input_digest(codec, [1, "a"]) == digest_of(codec, [1, "a"]) == input_digest(codec, [1, "a"])
    strange = object()
    assert digest_of(codec, strange) is None
    assert input_digest(codec, strange) != input_digest(codec, strange)


def test_plain_data_of_anything() -> None:
    """Models become their content, what JSON does not know its representation; generated keys are left out at any depth."""
    made = plain({"point": Point(x=1), "thing": Open, "text": "t"})
    assert made == {"point": {"x": 1}, "thing": repr(Open), "text": "t"}
    assert without([{"id": 1, "parts": [{"id": 2, "text": "a"}]}], {"id"}) == [{"parts": [{"text": "a"}]}]
    assert defaults({"properties": {"a": {"default": 1}, "b": {"type": "string"}, "c": True}}) == {"a": 1}
    assert defaults({}) == {}


def test_a_copy_lives_as_long_as_its_object() -> None:
    """An object has one copy; with the object it goes, and one that has the same id later gets its own."""
    copies, target, mine = Copies(), Open(), Open()
    assert copies.get(target) is None
    assert copies.put(target, mine) is mine
    assert copies.get(target) is mine
    key = id(target)
    del target
    gc.collect()
    assert key not in copies._made


def test_each_guard_has_its_own() -> None:
    """What is made for a guard is made once, and another guard has another one."""
    made: list[Guard] = []
    of = each_guard(lambda guard: [made.append(guard)])
    one, two = Guard("memory://"), Guard("memory://")
    assert of(one) is of(one)
    assert of(one) is not of(two)
    assert made == [one, two]


def test_a_stop_is_told_from_an_answer() -> None:
    """A stop carries its error past ``except Exception``; surefoot's errors stop a run, carried or not, and a tool's own does not."""
    error = UsageError("no")
    stop = Stopped(error)
    assert not isinstance(stop, Exception)
    assert (meant(stop), meant(error)) == (error, error)
    assert [stops(one) for one in (stop, error, ValueError("no"), Stopped(ValueError("no")))] == [True, True, False, False]


def test_names_of_classes_and_bodies() -> None:
    """An adapter knows objects by the names of their classes, and bodies by their own; an object that is called has its class's."""
    here = __name__
    assert kinds_of(Open()) == {f"{here}.Open", "builtins.object"}
    assert identity(Open) == identity(Open()) == f"{here}.Open"
    assert identity(test_names_of_classes_and_bodies) == f"{here}.test_names_of_classes_and_bodies"


class Kept(Answer):
    """What cannot be stored."""


@pytest.mark.parametrize("face", ["plain", "coro"])
def test_what_a_body_raises_is_its_answer(face: str) -> None:
    """An error that a claimed body raises is known as its own, and one that looks the same is not; what it returns comes out."""
    own = ValueError("own")

    async def whole() -> list[Any]:
        found: list[Any] = []
        for number, body in enumerate((lambda: Open, partial(_raise, own))):
            asked = _asked(number)
            try:
                found.append(await asked.coro(partial(in_thread, body)) if face == "coro" else asked.plain(body))
            except ValueError as exc:
                found += [exc, asked.is_answer(exc), asked.is_answer(ValueError("own"))]
        return found

    assert asyncio.run(surefoot.wrap(whole, guard=Guard("memory://"))()) == [Open, own, True, False]


def _asked(number: int) -> Asked:
    place = here()
    assert isinstance(place, Frame)
    codec = place.run.guard.codec
    return Asked(place.run.guard, place, Request("t", {"n": number}, Open), lambda value: storable(codec, value, Kept))


def _raise(error: Exception) -> None:
    raise error
