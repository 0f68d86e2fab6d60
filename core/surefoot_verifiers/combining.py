"""Several verifiers as one. UNVERIFIED is neither yes nor no: it never helps an output to pass (P15, I13)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from surefoot import StepOutput, UsageError, Verdict, VerdictStatus, Verifier
from surefoot.engine.program import Program
from surefoot.engine.verify import judge
from surefoot.types import expect
from surefoot_verifiers.asking import ask, ask_all, named

__all__ = ["all_of", "any_of", "quorum", "tiered"]

_LEVELS = ("low", "medium", "high")


class _InTurn(Verifier):
    """Asks one after the other until one says ``decides``."""

    def __init__(self, verifiers: tuple[Any, ...], decides: VerdictStatus) -> None:
        if not verifiers:
            raise UsageError("nobody to ask: name at least one verifier")
        self._verifiers = [named(verifier) for verifier in verifiers]
        self._decides = decides

    def verify(self, output: StepOutput) -> Verdict | Awaitable[Verdict]:
        """Return the deciding verdict, else the first UNVERIFIED one, else what all of them say."""
        return ask(self._program(output))

    def _program(self, output: StepOutput) -> Program[Verdict]:
        verdicts: list[Verdict] = []
        for verifier in self._verifiers:
            verdict = yield from judge(verifier, output)
            if verdict.status is self._decides:
                return verdict
            verdicts.append(verdict)
        unsure = next((one for one in verdicts if one.status is VerdictStatus.UNVERIFIED), None)
        return unsure or min(verdicts, key=lambda verdict: 1.0 if verdict.confidence is None else verdict.confidence)


def all_of(*verifiers: Any) -> Verifier:
    """Return a verifier that passes what every one of these passes; cheap ones first, because the first FAIL decides.

    Where none fails and one could not judge, the verdict is UNVERIFIED.
    """
    return _InTurn(verifiers, VerdictStatus.FAIL)


def any_of(*verifiers: Any) -> Verifier:
    """Return a verifier that passes what one of these passes. Where none does and one could not judge: UNVERIFIED."""
    return _InTurn(verifiers, VerdictStatus.PASS)


class _Quorum(Verifier):
    def __init__(self, needed: int, judges: tuple[Any, ...]) -> None:
        fits = not isinstance(needed, bool) and needed in range(1, len(judges) + 1)
        expect("needed", needed, f"a number of judges from 1 to {len(judges)}, which is how many there are", lambda _given: fits)
        self._needed = needed
        self._judges = [named(one) for one in judges]

    def verify(self, output: StepOutput) -> Verdict | Awaitable[Verdict]:
        """Count the votes."""
        verdicts = ask_all(self._judges, output)
        return self._counted(verdicts) if isinstance(verdicts, list) else self._later(verdicts)

    async def _later(self, verdicts: Awaitable[list[Verdict]]) -> Verdict:
        return self._counted(await verdicts)

    def _counted(self, verdicts: list[Verdict]) -> Verdict:
        votes = Counter(verdict.status for verdict in verdicts)
        passes, unsure = votes[VerdictStatus.PASS], votes[VerdictStatus.UNVERIFIED]
        share = passes / len(verdicts)
        tally = f"{passes} of {len(verdicts)} judges pass it, {self._needed} needed, {unsure} could not judge"
        if passes >= self._needed:
            return Verdict(VerdictStatus.PASS, confidence=share, reason=tally)
        if passes + unsure >= self._needed:
            return Verdict.unverified(tally)
        against = [verdict for verdict in verdicts if verdict.status is VerdictStatus.FAIL]
        [(error_class, _)] = Counter(str(verdict.error_class) for verdict in against).most_common(1)
        hints = dict.fromkeys(verdict.hint for verdict in against if verdict.hint)
        return Verdict.failed(error_class, " ".join(hints), confidence=1 - share, reason=tally)


def quorum(needed: int, *judges: Any) -> Verifier:
    """Return a verifier that passes what ``needed`` of these judges pass; they are asked independently, and together.

    A judge who could not judge is no vote: where those who could not might have made the difference, the verdict is
    UNVERIFIED. Raises :class:`~surefoot.UsageError` for a number of judges that there are not.
    """
    return _Quorum(needed, judges)


class _Tiered(Verifier):
    def __init__(self, tiers: dict[str, Any], escalate_below: float) -> None:
        expect(
            "escalate_below", escalate_below, "a confidence from 0 to 1", lambda given: isinstance(given, float | int) and 0 <= given <= 1
        )
        self._tiers = {level: named(verifier) for level, verifier in tiers.items()}
        self._escalate_below = escalate_below

    def verify(self, output: StepOutput) -> Verdict | Awaitable[Verdict]:
        """Ask the tier of the step's criticality, and those above it while the answer is borderline."""
        return ask(self._program(output))

    def _program(self, output: StepOutput) -> Program[Verdict]:
        verdict = Verdict.unverified(f"criticality {output.criticality!r} is none of {', '.join(_LEVELS)}")
        if output.criticality not in _LEVELS:
            return verdict
        asked: list[str] = []
        before: Verifier | None = None
        for level in _LEVELS[_LEVELS.index(output.criticality) :]:
            verifier = self._tiers[level]
            if verifier is before:
                continue
            before = verifier
            verdict = yield from judge(verifier, output)
            asked.append(f"{level}: {verdict.status}" + ("" if verdict.confidence is None else f" ({verdict.confidence:.2f})"))
            if not self._is_borderline(verdict):
                break
        return verdict if len(asked) == 1 else replace(verdict, reason=f"{verdict.reason} [{', then '.join(asked)}]".strip())

    def _is_borderline(self, verdict: Verdict) -> bool:
        if verdict.status is VerdictStatus.UNVERIFIED:
            return True
        return verdict.confidence is not None and verdict.confidence < self._escalate_below


def tiered(low: Any, medium: Any, high: Any, *, escalate_below: float = 0.7) -> Verifier:
    """Return a verifier that asks ``low``, ``medium`` or ``high``, by ``StepRule(criticality=…)``, and never a lower one.

    A verdict whose confidence is under ``escalate_below`` (0 to 1), or UNVERIFIED, is put to the next tier, whose verdict counts.
    Give the same object twice, and it is asked once.
    """
    made: dict[Any, Verifier] = {}
    tiers = {level: made.setdefault(id(given), named(given)) for level, given in zip(_LEVELS, (low, medium, high), strict=True)}
    return _Tiered(tiers, escalate_below)
