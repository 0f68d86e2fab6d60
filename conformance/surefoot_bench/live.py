"""A real model as judge: what it says of outputs that are known to be good or bad."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from surefoot import StepOutput, VerdictStatus
from surefoot.engine.program import drive
from surefoot.engine.verify import judge
from surefoot_bench.reliability import wilson
from surefoot_verifiers import llm

__all__ = ["LABELLED", "confusion"]

LABELLED: Final[tuple[tuple[str, Any, str, str | None], ...]] = (
    ("Summarise the note.", "The meeting moves to Tuesday, 10:00.", "The meeting was moved to Tuesday at 10:00.", None),
    ("Summarise the note.", "The meeting moves to Tuesday, 10:00.", "Meetings are a good way to share news.", "GOAL_DRIFT"),
    ("List the three largest planets.", None, "Jupiter, Saturn, Uranus.", None),
    ("List the three largest planets.", None, "Jupiter, Saturn.", "INCOMPLETE"),
    ("Answer from the document only: when was the bridge opened?", "The bridge was opened in 1932.", "It was opened in 1932.", None),
    (
        "Answer from the document only: when was the bridge opened?",
        "The bridge was opened in 1932.",
        "It was opened in 1932 by the engineer's daughter, who cut the ribbon with a sword.",
        "HALLUCINATION",
    ),
    ("Translate into German: Good morning.", None, "Guten Morgen.", None),
    ("Translate into German: Good morning.", None, "Bonjour.", "GOAL_DRIFT"),
    ("Is the invoice paid, and why?", "Invoice 7: open, due on 3 May.", "No: invoice 7 is open, and due on 3 May.", None),
    ("Is the invoice paid, and why?", "Invoice 7: open, due on 3 May.", "Yes, it is paid; it is still open.", "CONTRADICTION"),
    ("Rename the variable x to count in: x = x + 1", None, "count = count + 1", None),
    (
        "Rename the variable x to count in: x = x + 1",
        None,
        "count = count + 1\nI also rewrote the module, added logging and a configuration file.",
        "SCOPE_CREEP",
    ),
    ("Give the total of 12.50 and 7.50.", None, "20.00", None),
    ("Give the total of 12.50 and 7.50.", None, "The total is 20.00, so together they are 19.00.", "CONTRADICTION"),
    ("Write a polite refusal in at most two sentences.", None, "Thank you for the offer. I am afraid that we have to decline.", None),
    ("Write a polite refusal in at most two sentences.", None, "Thank you for", "INCOMPLETE"),
    ("Name the capital of the country in the text.", "We flew to Lisbon, in Portugal.", "Lisbon.", None),
    (
        "Name the capital of the country in the text.",
        "We flew to Lisbon, in Portugal.",
        "Lisbon. The text says that it has 545,923 inhabitants.",
        "HALLUCINATION",
    ),
    ("Correct the spelling, and nothing else: He go to scool.", None, "He go to school.", None),
    ("Correct the spelling, and nothing else: He go to scool.", None, "He goes to school every single day of the week.", "SCOPE_CREEP"),
)
"""Goal, input, output, and what is wrong with the output; ``None``: nothing."""


def confusion(model: str) -> dict[str, Any]:
    """Return what a model (``provider/model``) says of the labelled outputs, and the rates with their 95 % intervals.

    Recall and false alarms are over the outputs that were judged; those that were not are counted as UNVERIFIED. Raises
    :class:`~surefoot.UsageError` for a provider, model or key that is not there.
    """
    verifier = llm(model)
    table = {truth: dict.fromkeys(map(str, VerdictStatus), 0) for truth in ("good", "bad")}
    classes: Counter[bool] = Counter()
    for number, (goal, given, output, fault) in enumerate(LABELLED):
        asked = StepOutput("live", f"output#{number + 1}", "output", goal, 1, given, output)
        verdict = drive(judge(verifier, asked), _nothing)
        table["good" if fault is None else "bad"][str(verdict.status)] += 1
        if fault is not None and verdict.status is VerdictStatus.FAIL:
            classes[verdict.error_class == fault] += 1
    bad, good = (table[truth]["PASS"] + table[truth]["FAIL"] for truth in ("bad", "good"))
    return {
        "model": model,
        "outputs": len(LABELLED),
        "table": table,
        "recall": _rate(table["bad"]["FAIL"], bad),
        "false_alarms": _rate(table["good"]["FAIL"], good),
        "right_class": _rate(classes[True], classes.total()),
    }


def _rate(hits: int, of: int) -> dict[str, Any] | None:
    return {"rate": hits / of, "of": of, "interval": wilson(hits, of)} if of else None


def _nothing(_tx: Any) -> None:
    """Stand for the store, which no judge asks for."""
