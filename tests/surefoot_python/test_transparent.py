"""A wrapped function behaves like the bare one where nothing fails."""

from __future__ import annotations

import asyncio
import inspect
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import surefoot
from surefoot import Guard, Retry, StepOutput, StepRule, UsageError, Verdict, VerificationFailed


def plain(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> tuple[Any, ...]:
    """Return what came."""
    return a, b, rest, c, more


async def coroutine(a: int, b: int = 2) -> int:
    """Add."""
    await asyncio.sleep(0)
    return a + b


def generator(count: int) -> Iterator[int]:
    """Count, and tell what was sent."""
    first = yield 0
    second = yield 1
    return [first, second][:count]


async def asynchronous(count: int) -> AsyncIterator[int]:
    """Count."""
    for n in range(count):
        yield n


def failing(a: int) -> int:
    """Raise."""
    raise LookupError("no", a)


class Shop:
    """Something with methods."""

    name = "shop"

    def order(self, n: int) -> str:
        """Order."""
        return f"{self.name} {n}"


FUNCTIONS: list[Callable[..., Any]] = [plain, coroutine, generator, asynchronous, failing, Shop().order]
IMPOSSIBLE = ("declared", FUNCTIONS[-1])  # a decorator in a class gets the function, not the method


def wrapped(guard: Guard, how: str, function: Any) -> Any:
    """Return the function guarded in one of three ways."""
    if how == "declared":
        return surefoot.tool()(function)
    return surefoot.wrap(function, guard=guard) if how == "run" else guard.tool(function)


@pytest.mark.parametrize(
    ("how", "function"), [(how, f) for how in ("run", "tool", "declared") for f in FUNCTIONS if (how, f) != IMPOSSIBLE]
)
def test_a_guarded_function_looks_like_the_bare_one(guard: Guard, how: str, function: Any) -> None:
    """Name, module, docstring, signature, annotations and kind are the function's own."""
    bare, made = function, wrapped(guard, how, function)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(made, name) == getattr(bare, name)
    assert inspect.signature(made) == inspect.signature(bare)
    for kind in ("iscoroutinefunction", "isgeneratorfunction", "isasyncgenfunction", "isfunction", "ismethod"):
        assert getattr(inspect, kind)(made) == getattr(inspect, kind)(bare), kind
    assert asyncio.iscoroutinefunction(made) == asyncio.iscoroutinefunction(bare)


@pytest.mark.parametrize("how", ["bare", "run", "tool"])
def test_results_and_errors_are_the_same(guard: Guard, how: str) -> None:
    """Results, items, sent values, return values and errors with their arguments are those of the bare functions."""
    p, co, gen, agen, fails, order = (f if how == "bare" else wrapped(guard, how, f) for f in FUNCTIONS)

    async def main() -> list[Any]:
        items = gen(2)
        found = [next(items), items.send("x")]
        with pytest.raises(StopIteration) as stop:
            items.send("y")
        with pytest.raises(LookupError) as caught:
            fails(7)
        with pytest.raises(TypeError, match=r"plain\(\) missing 1 required positional argument: 'a'"):
            p()
        return [p(1), p(1, 4, 5, c=6, d=7), await co(1), found, stop.value.value, caught.value.args, [n async for n in agen(2)], order(3)]

    program = main if how == "bare" else surefoot.wrap(main, guard=guard)
    assert asyncio.run(program()) == [(1, 2, (), 3, {}), (1, 4, (5,), 6, {"d": 7}), 3, [0, 1], ["x", "y"], ("no", 7), [0, 1], "shop 3"]


@pytest.mark.parametrize("guarded", [False, True])
def test_what_a_consumer_throws_reaches_the_body(guard: Guard, guarded: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """A generator handles what is thrown into it, and its clean-up runs when it is closed."""
    seen: list[str] = []

    def body() -> Iterator[int]:
        try:
            try:
                yield 1
            except KeyError:
                yield 2
            yield 3
        finally:
            seen.append("closed")

    items: Any = (surefoot.wrap(body, guard=guard) if guarded else body)()
    assert [next(items), items.throw(KeyError("k"))] == [1, 2]
    items.close()
    assert seen == ["closed"]


def test_a_declared_function_can_be_pickled() -> None:
    """A declared function at module level is found by its name, as the bare one is."""
    assert pickle.loads(pickle.dumps(declared)) is declared  # noqa: S301 - pickled a moment ago


@surefoot.tool()
def declared() -> None:
    """Do nothing."""


def test_a_plain_function_that_returns_something_to_await_is_refused(guard: Guard) -> None:
    """A run that would end before its work began is an error that says what to write."""

    def main() -> Any:
        return asyncio.Future(loop=loop)

    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(UsageError, match="make it 'async def'"):
            surefoot.wrap(main, guard=guard)()
    finally:
        loop.close()


@pytest.mark.parametrize("decorator", [staticmethod, classmethod])
def test_decorators_in_the_wrong_order_are_refused(decorator: Any) -> None:
    """@surefoot.tool above @staticmethod would guard nothing, and says where it belongs."""
    with pytest.raises(UsageError, match=f"put @{decorator.__name__} above"):
        surefoot.tool()(decorator(plain))


def test_static_and_class_methods_are_governed(guard: Guard) -> None:
    """In the right order both work."""

    class Bank:
        @staticmethod
        @surefoot.tool()
        def pay(amount: int) -> int:
            return amount

        @classmethod
        @surefoot.tool()
        def name(cls) -> str:
            return cls.__name__

    assert surefoot.wrap(lambda: [Bank.pay(3), Bank().name()], guard=guard)() == [3, "Bank"]
    assert sorted(call.tool for call in guard.calls.list()) == ["Bank.name", "Bank.pay"]


# --- verification


def reject_first(output: StepOutput) -> Verdict:
    """Reject the first attempt."""
    return Verdict.failed("INCOMPLETE", "Say more.") if output.attempt == 1 else Verdict.passed()


def test_as_52_the_hint_reaches_the_next_attempt(tmp_path: Any) -> None:
    """A rejected step runs again and finds the hint in current_step(); its call is not repeated, only the second output committed."""
    guard = Guard(f"sqlite:///{tmp_path}/v.db", steps={"answer": StepRule(verifier=reject_first)})
    heard: list[tuple[int, str]] = []
    charged: list[int] = []

    @surefoot.tool(effect="unsafe")
    def charge(amount: int) -> int:
        charged.append(amount)
        return amount

    def answer() -> str:
        step = surefoot.current_step()
        assert step is not None
        heard.append((step.attempt, step.hint))
        return f"try {step.attempt}, {charge(5)}"

    inner = surefoot.wrap(answer, guard=guard)
    assert surefoot.wrap(lambda: [inner()], guard=guard)() == ["try 2, 5"]
    assert (heard, charged) == ([(1, ""), (2, "Say more.")], [5])
    (run,) = guard.runs.list()
    committed = guard.runs.checkpoints(run.run_id)[0]
    assert (committed.path.split("[")[0], committed.attempt) == ("<lambda>#1/answer#1", 2)


async def test_a_stream_is_verified_at_its_end(tmp_path: Any) -> None:
    """Items are provisional: those of a rejected attempt have passed, the verifier judges the list, and what never passes is an error."""
    judged: list[Any] = []

    def verify(output: StepOutput) -> bool:
        judged.append(list(output.output))
        return False

    guard = Guard(f"sqlite:///{tmp_path}/v.db", steps={"asynchronous": StepRule(verifier=verify, retry=Retry(max_attempts=2))})
    seen = []
    with pytest.raises(VerificationFailed):
        async for item in surefoot.wrap(asynchronous, guard=guard)(2):
            seen.append(item)  # noqa: PERF401 - a comprehension would lose what came before the error
    assert (judged, seen) == ([[0, 1], [0, 1]], [0, 1, 0, 1])
