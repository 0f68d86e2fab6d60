"""Claims of a final answer against the receipts in the ledger: who says "I e-mailed Bob" has a committed call that did (P06)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from surefoot import CallRecord, CallState, Effect, ErrorClass, StepOutput, Verdict, Verifier
from surefoot.types import are_texts, expect
from surefoot_verifiers.grammar import VERBS, Claim, claims_in
from surefoot_verifiers.taxonomy import HINTS
from surefoot_verifiers.view import text_of

__all__ = ["claims", "receipts"]

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
Find: TypeAlias = Callable[[str], Iterable[Claim]]


def _words(tool: str) -> set[str]:
    """Return the words of a tool's name: ``gmail.sendMail`` has gmail, send, mail."""
    return {word.lower() for word in _WORD.findall(tool)}


@dataclass(frozen=True, slots=True)
class _Claims(Verifier):
    actions: Mapping[str, Sequence[str]]
    find: Find

    def verify(self, output: StepOutput) -> Verdict:
        """Return FAIL for the first claims that no committed call backs, UNVERIFIED for an output without text."""
        text = text_of(output.output)
        if text is None:
            return Verdict.unverified(f"the output is {type(output.output).__name__}, not a text in which something could be claimed")
        claimed = list(self.find(text))
        if not claimed:
            return Verdict.passed()
        done = [row for row in output.ledger or output.receipts if row.state is CallState.COMMITTED and row.effect is not Effect.READ]
        bare = [claim for claim in claimed if not any(self._backs(row, claim.action) for row in done)]
        if not bare:
            return Verdict.passed()
        said = "; ".join(f'"{claim.words}"' for claim in bare[:3])
        hint = f"{HINTS[ErrorClass.CLAIM_WITHOUT_RECEIPT]} It says: {said}."
        return Verdict.failed(ErrorClass.CLAIM_WITHOUT_RECEIPT, hint, reason=f"no committed call for {', '.join(c.action for c in bare)}")

    def _backs(self, row: CallRecord, action: str) -> bool:
        patterns = self.actions.get(action)
        if patterns is not None:
            return any(fnmatch.fnmatchcase(row.tool, pattern) for pattern in patterns)
        return not _words(row.tool).isdisjoint(VERBS.get(action, (action,)))


def claims(actions: Mapping[str, Sequence[str]] | None = None, *, find: Find | None = None) -> Verifier:
    """Return a verifier that rejects an answer which says that something was done, where no call in the ledger did it (AS-23).

    :param actions: tool names or patterns by action (a key of :data:`surefoot_verifiers.VERBS`, or what ``find`` returns):
        ``{"send": ["smtp_*"]}``. An action that is not named is backed by a tool with one of its verbs in its name.
    :param find: returns the :class:`Claim` objects in a text, in place of the built-in reader of English.

    Every committed call of the run is a receipt, whichever step and attempt made it, except declared reads. What is in
    doubt or raised is none. Instructions, offers, questions, plans, quotations and reports of what others did are no
    claims (AS-25). An output without text is UNVERIFIED.
    """
    for action, tools in (actions or {}).items():
        expect(f"actions[{action!r}]", tools, "a list of tool names or patterns", are_texts)
    return _Claims({action: tuple(tools) for action, tools in (actions or {}).items()}, find or claims_in)


@dataclass(frozen=True, slots=True)
class _Receipts(Verifier):
    required: tuple[str, ...]

    def verify(self, output: StepOutput) -> Verdict:
        """Return FAIL while a required call is not committed."""
        states: dict[str, list[Any]] = {tool: [] for tool in self.required}
        for row in output.ledger:
            for pattern in self.required:
                if fnmatch.fnmatchcase(row.tool, pattern):
                    states[pattern].append(row.state)
        missing = {tool: seen for tool, seen in states.items() if CallState.COMMITTED not in seen}
        if not missing:
            return Verdict.passed()
        told = ", ".join(f"{tool} ({seen[-1] if seen else 'not called'})" for tool, seen in missing.items())
        return Verdict.failed(ErrorClass.INCOMPLETE, f"The task needs a call that succeeded of each of these, and has none: {told}.")


def receipts(*required: str) -> Verifier:
    """Return a verifier that passes an output only when each of these tools has a committed call in the run (AS-30).

    :param required: tool names or patterns. A call that raised, is in doubt or was refused is no receipt.
    """
    expect("receipts()", required, "names of tools", lambda given: bool(given) and are_texts(given))
    return _Receipts(required)
