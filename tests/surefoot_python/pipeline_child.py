"""One process of a pipeline that is killed: ``python pipeline_child.py JSON``; it prints what became of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import Death, Effects, store_of

import surefoot
from surefoot import Guard, Verdict
from surefoot_python import Context, Pipeline, Task


def main(told: dict[str, Any]) -> None:
    """Run three steps, the second of which charges and is rejected once."""
    effects = Effects(Path(told["folder"]) / "effects")
    death = Death(told)

    @surefoot.tool(effect="unsafe")
    def charge(amount: int) -> str:
        effects.add("charge", amount)
        death.at("effect")
        return f"charged {amount}"

    def plan(ctx: Context) -> dict[str, Any]:
        effects.add("plan", ctx.attempt)
        return {"amount": ctx.task.inputs["amount"]}

    def pay(ctx: Context) -> str:
        effects.add("pay", ctx.attempt)
        return f"{charge(ctx.outputs['plan']['amount'])}{ctx.hint}"

    def report(ctx: Context) -> str:
        effects.add("report", ctx.attempt)
        return f"done: {ctx.outputs['pay']}"

    def judge(output: Any) -> Verdict:
        if output.name == "pay" and output.attempt == 1:
            return Verdict.failed("INCOMPLETE", ", receipt follows")
        return Verdict.passed()

    def look(_call: Any) -> Any:
        return surefoot.happened("charged 5") if effects.count("charge") else surefoot.will_not_happen()

    tools = {"main.<locals>.charge": surefoot.ToolRule("unsafe", probe=look), "charge": surefoot.ToolRule("unsafe", probe=look)}
    guard = Guard(store_of(told["folder"]), tools=tools, gates=[death], on_event=death.event)
    result = surefoot.wrap(Pipeline([plan, pay, report], verifier=judge), guard=guard).run(Task("pay", {"amount": 5}, id="invoice-7"))
    print(json.dumps([result.success, dict(result.outputs), [[step.name, step.attempts] for step in result.steps]]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
