"""Verifiers that come with surefoot, registered through the hook that anybody's verifier uses.

As ``StepRule(verifier=…)`` by name: ``rules``, ``rules:HEURISTIC,…``, ``claims``, ``llm``, ``llm:PROVIDER/MODEL``; the others, and
options, by calling them: ``StepRule(verifier=all_of(rules(min_length=20), claims()))``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from surefoot import UsageError, Verifier, hookimpl

if TYPE_CHECKING:
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

_HOME: Final = {
    "DRIFT": "taxonomy",
    "HEURISTICS": "heuristics",
    "HINTS": "taxonomy",
    "VERBS": "grammar",
    "Claim": "grammar",
    "all_of": "combining",
    "any_of": "combining",
    "barrier": "reading_back",
    "claims": "claiming",
    "claims_in": "grammar",
    "hinted": "taxonomy",
    "llm": "asking_models",
    "probe": "reading_back",
    "quorum": "combining",
    "receipts": "claiming",
    "rules": "ruling",
    "schema": "form",
    "tiered": "combining",
}


def __getattr__(name: str) -> Any:
    """Return a public name from its module, which is imported when it is first asked for: every process loads this plugin."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"surefoot_verifiers.{_HOME[name]}"), name)


@hookimpl
def surefoot_verifier(spec: str) -> Verifier | None:
    """Answer for ``rules``, ``claims`` and ``llm``, with what stands after a colon."""
    name, colon, rest = spec.partition(":")
    if colon and not rest:
        raise UsageError(f"the verifier {spec!r} has nothing after its colon; leave the colon out")
    if name == "rules":
        from surefoot_verifiers.ruling import rules

        return rules(heuristics=[one.strip() for one in rest.split(",")] if rest else ())
    if name == "claims" and not rest:
        from surefoot_verifiers.claiming import claims

        return claims()
    if name == "llm":
        from surefoot_verifiers.asking_models import llm

        return llm(rest or None)
    return None
