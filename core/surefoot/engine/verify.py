"""Asking a verifier. Whatever goes wrong in it is UNVERIFIED, which is never PASS (P15, I13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, TypeVar

from surefoot.contracts import Verifier
from surefoot.engine.deadline import Overdue, limited
from surefoot.engine.program import Program, Tx
from surefoot.errors import UsageError
from surefoot.types import StepOutput, Verdict

__all__ = ["OnDemand", "as_verifier", "judge"]

T = TypeVar("T")


class _Function(Verifier):
    """A plain callable as a verifier: ``True`` passes, ``False`` fails as INCOMPLETE."""

    def __init__(self, function: Callable[[StepOutput], Any]) -> None:
        self._function = function
        self.timeout = getattr(function, "timeout", self.timeout)

    def verify(self, output: StepOutput) -> Any:
        """Call the function."""
        return self._function(output)


class OnDemand(Sequence[T]):
    """What a verifier may look at, read from the store when it does: most judge by the output alone."""

    def __init__(self, transact: Callable[[Tx], Sequence[T]], look: Callable[[Any], Sequence[T]]) -> None:
        self._transact = transact
        self._look = look

    @cached_property
    def _items(self) -> Sequence[T]:
        return self._transact(Tx(self._look, write=False))

    def __getitem__(self, index: Any) -> Any:
        """Return an item, or a slice."""
        return self._items[index]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._items)


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
        answer: Any = yield limited(partial(verifier.verify, output), verifier.timeout)
    except (Exception, Overdue) as exc:  # noqa: BLE001 - an error is not a verdict, nor is silence
        return Verdict.unverified(f"{type(verifier).__name__} raised {type(exc).__name__}: {exc}")
    match answer:
        case Verdict():
            return answer
        case True:
            return Verdict.passed()
        case False:
            return Verdict.failed("INCOMPLETE", "The last output was rejected.")
    return Verdict.unverified(f"{type(verifier).__name__} returned {type(answer).__name__}, not a Verdict")
