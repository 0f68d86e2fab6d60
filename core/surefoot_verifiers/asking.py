"""Asking verifiers from within one, whether they answer at once or have to be awaited."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import Any

from surefoot import StepOutput, UsageError, Verdict, Verifier
from surefoot.engine.program import Do, Program, adrive
from surefoot.engine.verify import as_verifier, judge
from surefoot.plugins import Plugins

__all__ = ["ask", "ask_all", "named"]


def named(spec: Any) -> Verifier:
    """Return the verifier that a spec names, as ``StepRule(verifier=…)`` does. Raises :class:`~surefoot.UsageError`."""
    made = as_verifier(spec, lambda text: Plugins.default().verifier(text))
    if made is None:
        raise UsageError("verifier=None judges nothing; give a Verifier, a callable, or the name of a plugin")
    return made


def ask(program: Program[Verdict]) -> Verdict | Awaitable[Verdict]:
    """Run a program that asks verifiers: to its end, or, where one has to be awaited, as a coroutine."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            op = program.send(answer) if error is None else program.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        assert isinstance(op, Do)  # noqa: S101 - a verifier asks for nothing else
        answer, error = None, None
        try:
            answer = op.plain()
        except BaseException as exc:  # noqa: BLE001 - the program decides
            error = exc
        if inspect.isawaitable(answer):
            return adrive(_going_on(program, answer), _nothing)


def _going_on(program: Program[Verdict], answer: Awaitable[Any]) -> Program[Verdict]:
    """Continue a program that waits for an answer."""
    sent: Any = None
    error: BaseException | None = None
    op: Any = Do(lambda: answer)
    while True:
        try:
            sent, error = (yield op), None
        except BaseException as exc:  # noqa: BLE001 - as above
            error = exc
        try:
            op = program.send(sent) if error is None else program.throw(error)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


async def _nothing(_tx: Any) -> None:
    """Stand for the store, which no verifier asks for."""


def ask_all(verifiers: Sequence[Verifier], output: StepOutput) -> list[Verdict] | Awaitable[list[Verdict]]:
    """Return every verifier's verdict, in their order; those that have to be awaited are awaited together."""
    asked = [ask(judge(verifier, output)) for verifier in verifiers]
    if not any(map(inspect.isawaitable, asked)):
        return asked  # type: ignore[return-value]

    async def together() -> list[Verdict]:
        import asyncio

        return list(await asyncio.gather(*(_answer(one) for one in asked)))

    return together()


async def _answer(asked: Verdict | Awaitable[Verdict]) -> Verdict:
    return asked if isinstance(asked, Verdict) else await asked
