"""Measure the verifiers on the texts in ``tests/surefoot_verifiers/data`` and write ``docs/reference/verifier-rates.md``.

A test compares that page with what is measured, so that a rate that changes is seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from surefoot import StepOutput, Verdict, VerdictStatus, Verifier
from surefoot_verifiers import HEURISTICS, claims_in, rules

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "surefoot_verifiers" / "data"
PAGE = ROOT / "docs" / "reference" / "verifier-rates.md"


def rows(name: str) -> list[dict[str, Any]]:
    """Return the lines of a data file."""
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def rejects(verifier: Verifier, output: Any) -> bool:
    """Return whether a verifier of rules fails an output."""
    verdict = verifier.verify(StepOutput("run", "a#1", "a", "", 1, None, output))
    assert isinstance(verdict, Verdict)  # noqa: S101 - rules are synchronous
    return verdict.status is VerdictStatus.FAIL


def rejected(verifier: Verifier, outputs: Iterable[Any]) -> int:
    """Return how many of these outputs a verifier fails."""
    return sum(rejects(verifier, output) for output in outputs)


def rule_rows() -> list[tuple[str, int, int]]:
    """Return the rules that are measured: what is on, false alarms, defects found."""
    ordinary = [row["output"] for row in rows("ordinary")]
    defective = [row["output"] for row in rows("defective")]
    chosen: dict[str, list[str]] = {
        "the defaults": [],
        **{f"and `{name}`": [name] for name in HEURISTICS},
        "and all of them": [*HEURISTICS],
    }
    made = {name: rules(heuristics=names) for name, names in chosen.items()}
    return [(name, rejected(verifier, ordinary), rejected(verifier, defective)) for name, verifier in made.items()]


def claim_rows() -> list[tuple[str, int, int, int, int]]:
    """Return for each set of texts: false alarms, texts without a claim, claims found, texts with one."""
    measured = []
    for which in ("development", "held-out"):
        texts = [row for row in rows("claims") if row["set"] == which]
        bare = [row["text"] for row in texts if not row["claims"]]
        claimed = [row["text"] for row in texts if row["claims"]]
        measured.append((which, _claiming(bare), len(bare), _claiming(claimed), len(claimed)))
    return measured


def _claiming(texts: list[str]) -> int:
    return sum(any(True for _ in claims_in(text)) for text in texts)


def page() -> str:
    """Return the page."""
    ordinary, defective = len(rows("ordinary")), len(rows("defective"))
    lines = [
        "# How often the verifiers are right",
        "",
        "Written by `python scripts/verifier_rates.py` from the texts in `tests/surefoot_verifiers/data`, and held to it by a test.",
        "The texts were written for this purpose; yours will give other rates, so measure with yours before you trust a guess.",
        "",
        "## Rules",
        "",
        f"False alarms on {ordinary} ordinary outputs, defects found in {defective} defective ones. Among the defects are some",
        "that no rule of form can see (wrong facts, contradictions); they are for a schema of yours, for `llm` and for `claims`.",
        "",
        f"| on | false alarms of {ordinary} | found of {defective} | recall |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {wrong} | {found} | {found / defective:.0%} |" for name, wrong, found in rule_rows()]
    lines += ["", "Defects by kind, with all of them:", "", "| kind | found | of |", "|---|---|---|"]
    everything = rules(heuristics=[*HEURISTICS])
    for kind in dict.fromkeys(row["kind"] for row in rows("defective")):
        same = [row["output"] for row in rows("defective") if row["kind"] == kind]
        lines.append(f"| {kind} | {rejected(everything, same)} | {len(same)} |")
    lines += [
        "",
        "## Claims",
        "",
        "Texts that claim nothing (instructions, offers, questions, plans, quotations, reports of what others did) and texts that do.",
        "The rules were written with the first set in view; the held-out set was written afterwards, and nothing was changed for it.",
        "",
        "| set | false alarms | of | found | of | recall |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {which} | {wrong} | {bare} | {found} | {claimed} | {found / claimed:.0%} |"
        for which, wrong, bare, found, claimed in claim_rows()
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.name}")
