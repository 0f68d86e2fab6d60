"""Asking a verifier. Whatever goes wrong in it is UNVERIFIED, which is never PASS (P15, I13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from surefoot.contracts import Verifier
from surefoot.engine.program import Do, Program
from surefoot.errors import UsageError
from surefoot.types import StepOutput, Verdict

__all__ = ["as_verifier", "judge"]


class _Function(Verifier):
    """A plain callable as a verifier: ``True`` passes, ``False`` fails as INCOMPLETE."""

    def __init__(self, function: Callable[[StepOutput], Any]) -> None:
        self._function = function

    def verify(self, output: StepOutput) -> Any:
        """Call the function."""
        return self._function(output)


def as_verifier(spec: Any, plugin: Callable[[str], Verifier]) -> Verifier | None:
    """Return the verifier that ``StepRule(verifier=…)`` names. Raises :class:`~surefoot.UsageError` for anything else."""
    if spec is None or isinstance(spec, Verifier):
        return spec
    if isinstance(spec, str):
        return plugin(spec)
    if callable(spec):
        return _Function(spec)
    raise UsageError(f"verifier={spec!r} is neither a Verifier, a callable, nor the name of a plugin")


def judge(verifier: Verifier, output: StepOutput) -> Program[Verdict]:
    """Ask for a verdict on ``output``."""
    try:
        answer: Any = yield Do(lambda: verifier.verify(output))
    except Exception as exc:  # noqa: BLE001 - an error is not a verdict
        return Verdict.unverified(f"{type(verifier).__name__} raised {type(exc).__name__}: {exc}")
    match answer:
        case Verdict():
            return answer
        case True:
            return Verdict.passed()
        case False:
            return Verdict.failed("INCOMPLETE", "The last output was rejected.")
    return Verdict.unverified(f"{type(verifier).__name__} returned {type(answer).__name__}, not a Verdict")
