"""Verifiers that come with surefoot, registered through the hook that anybody's verifier uses.

As ``StepRule(verifier=…)`` by name: ``rules``, ``rules:HEURISTIC,…``, ``claims``, ``llm``, ``llm:PROVIDER/MODEL``; the others, and
options, by calling them: ``StepRule(verifier=all_of(rules(min_length=20), claims()))``.
"""

from __future__ import annotations

from surefoot import UsageError, Verifier, hookimpl
from surefoot_verifiers.asking_models import llm
from surefoot_verifiers.claiming import claims, receipts
from surefoot_verifiers.combining import all_of, any_of, quorum, tiered
from surefoot_verifiers.form import schema
from surefoot_verifiers.grammar import VERBS, Claim, claims_in
from surefoot_verifiers.heuristics import HEURISTICS
from surefoot_verifiers.reading_back import barrier, probe
from surefoot_verifiers.ruling import rules
from surefoot_verifiers.taxonomy import DRIFT, HINTS, hinted

__all__ = [
    "DRIFT",
    "HEURISTICS",
    "HINTS",
    "VERBS",
    "Claim",
    "all_of",
    "any_of",
    "barrier",
    "claims",
    "claims_in",
    "hinted",
    "llm",
    "probe",
    "quorum",
    "receipts",
    "rules",
    "schema",
    "surefoot_verifier",
    "tiered",
]


@hookimpl
def surefoot_verifier(spec: str) -> Verifier | None:
    """Answer for ``rules``, ``claims`` and ``llm``, with what stands after a colon."""
    name, colon, rest = spec.partition(":")
    if colon and not rest:
        raise UsageError(f"the verifier {spec!r} has nothing after its colon; leave the colon out")
    if name == "rules":
        return rules(heuristics=[one.strip() for one in rest.split(",")] if rest else ())
    if name == "claims" and not rest:
        return claims()
    return llm(rest or None) if name == "llm" else None
