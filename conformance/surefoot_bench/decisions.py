"""What a policy costs: one decision of a file with 200 entries, without I/O."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from surefoot import UsageError
from surefoot_bench.plan import Plan, Side, interleaved
from surefoot_bench.results import Result, Skip, Target, costs
from surefoot_policy.load import parse
from surefoot_policy.policy import FilePolicy
from surefoot_policy.rules import Question

__all__ = ["policy"]

_ENTRIES: Final = 200
_MATCHING: Final = 10
"""So many of them are about the tool that is asked about, each with a condition."""
_BURST: Final = 10


def policy(plan: Plan) -> Iterator[Result]:
    """Measure a decision by 200 entries, beside one by a file that has none."""
    try:
        sides = {"empty": (_decisions({}), plan.calls * _BURST), "full": (_decisions(_file()), plan.calls * _BURST)}
    except UsageError as exc:
        raise Skip(str(exc)) from exc
    found = interleaved(plan, sides)
    yield costs("policy", found["full"], "a file without entries", found["empty"], Target("measured", "<", 50))


def _file() -> dict[str, Any]:
    others = [{"tool": f"tool_{n}_*", "when": f"args.amount > {n}", "decision": "deny"} for n in range(_ENTRIES - _MATCHING)]
    mine = [{"tool": "pay*", "when": f"args.amount > {1000 + n} && tenant != 'x'", "decision": "approve"} for n in range(_MATCHING)]
    return {"tools": [*others, *mine]}


def _decisions(data: Mapping[str, Any]) -> Side:
    rules = FilePolicy(parse(data, "bench"), "bench").rules
    questions = [Question("pay_invoice", "unsafe", {"amount": n, "to": "somebody"}, run="run_1", step="agent#1") for n in range(100)]

    def decide(number: int) -> float:
        begun = time.thread_time()  # it waits for nothing: what another process does meanwhile is not its cost
        for n in range(number):
            rules.decide(questions[n % len(questions)])
        return (time.thread_time() - begun) / number

    return decide
