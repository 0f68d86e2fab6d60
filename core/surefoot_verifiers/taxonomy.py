"""What kinds of error there are, and what the next attempt is told about each; every hint can be replaced."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from surefoot import ErrorClass, StepOutput, Verdict, VerdictStatus, Verifier
from surefoot.engine.program import Program
from surefoot.engine.verify import judge
from surefoot.types import expect
from surefoot_verifiers.asking import ask, named

__all__ = ["DRIFT", "HINTS", "Hint", "hinted"]

DRIFT: Final = "DRIFT"
"""A tool said that it did something, and nothing of it can be read back (AS-24)."""
HINTS: Final[Mapping[str, str]] = {
    ErrorClass.GOAL_DRIFT: "The last output did not serve the goal. Go back to the goal and answer that, and only that.",
    ErrorClass.CONTRADICTION: "The last output contradicts what earlier steps established. Keep to their results.",
    ErrorClass.HALLUCINATION: "The last output states things that nothing supports. Say only what the input and the tools' results show.",
    ErrorClass.INCOMPLETE: "The last output was incomplete. Answer in full.",
    ErrorClass.SCOPE_CREEP: "The last output did more than was asked. Leave out what was not asked for.",
    ErrorClass.SCHEMA: "The last output did not have the required form. Answer in exactly that form.",
    ErrorClass.CLAIM_WITHOUT_RECEIPT: "The last output says that something was done, and no tool did it. Do it, or say it is not done.",
    DRIFT: "A tool reported success, but what it should have changed is not there. Check it with a tool before going on.",
}
"""What is said about each class where a verifier gives no hint of its own."""
Hint: TypeAlias = str | Callable[[StepOutput, Verdict], str]


class _Hinted(Verifier):
    def __init__(self, verifier: Verifier, hints: Mapping[str, Hint]) -> None:
        self._verifier = verifier
        self._hints = hints

    def verify(self, output: StepOutput) -> Verdict | Awaitable[Verdict]:
        """Return the verdict, with the hint of its class."""
        return ask(self._program(output))

    def _program(self, output: StepOutput) -> Program[Verdict]:
        verdict = yield from judge(self._verifier, output)
        if verdict.status is not VerdictStatus.FAIL:
            return verdict
        own = self._hints.get(verdict.error_class or "")
        hint = own(output, verdict) if callable(own) else own or verdict.hint or HINTS.get(verdict.error_class or "", "")
        return replace(verdict, hint=hint)


def hinted(verifier: Any, hints: Mapping[str, Hint] | None = None) -> Verifier:
    """Return the verifier with the hints replaced that the next attempt gets.

    :param verifier: a Verifier, a callable or a plugin's name, as in ``StepRule(verifier=…)``.
    :param hints: text by class of error (:class:`~surefoot.ErrorClass`, or a plugin's own word), or a function of the
        output and the verdict that returns it. A class that is not named keeps the verifier's hint, else that of :data:`HINTS`.

    Raises :class:`~surefoot.UsageError` for a hint that is neither.
    """
    found = {str(kind): hint for kind, hint in (hints or {}).items()}
    for kind, hint in found.items():
        expect(
            f"hints[{kind!r}]", hint, "a text or a function of (output, verdict)", lambda given: isinstance(given, str) or callable(given)
        )
    return _Hinted(named(verifier), found)
