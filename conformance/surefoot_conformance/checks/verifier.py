"""A verifier that could not judge has not passed anything (P15, I13)."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any, Final

from surefoot_conformance.judges import VerifierBench
from surefoot_conformance.table import check, equal, expect

JUNK: Final[dict[str, Any]] = {
    "nothing": None,
    "empty": "",
    "refusal": "I am sorry, but I cannot help with that.",
    "words": "The answer is not supported by the evidence.",
    "yes in words": "PASS (I think)",
    "number": 1,
    "zero": 0,
    "list": [],
    "truthy": ["pass"],
    "object": {"verdict": "maybe"},
    "missing field": {"reason": "looks fine"},
    "broken json": '{"status": "PA',
    "class": object,
}


def _raises(kind: type[BaseException]) -> Callable[[], Any]:
    def judge() -> Any:
        raise kind("503 service unavailable")

    return judge


@check("verifier", "harness", variants=("pass", "fail"))
def the_judge_is_understood(bench: VerifierBench) -> None:
    """What means pass passes, what means fail fails with a hint for the next attempt."""
    verdict = bench.mean(bench.variant)  # type: ignore[arg-type]
    equal("the verdict", str(verdict.status), bench.variant.upper())


@check("verifier", "L1", capability="has_judge", variants=("error", "timeout", "connection", "lookup", "not implemented"))
def an_error_is_not_a_verdict(bench: VerifierBench) -> None:
    """AS-51: whatever the judge raises, the verdict is UNVERIFIED, and its text is not given to the model."""
    kinds = {
        "error": RuntimeError,
        "timeout": TimeoutError,
        "connection": ConnectionError,
        "lookup": KeyError,
        "not implemented": NotImplementedError,
    }
    verdict = bench.ask(_raises(kinds[bench.variant]))
    equal("the verdict", str(verdict.status), "UNVERIFIED")
    expect("503" not in verdict.hint, f"the judge's error reaches the model: {verdict.hint}")


@check("verifier", "L1", capability="has_judge")
def silence_is_not_a_verdict(bench: VerifierBench) -> None:
    """AS-51: a judge who does not answer is waited for as long as the verifier's ``timeout`` says; the verdict is UNVERIFIED."""

    def silent() -> Any:
        threading.Event().wait(20)
        return bench.harness.reply("pass")

    verifier = bench.harness.verifier(bench.judge(silent))
    object.__setattr__(verifier, "timeout", 0.1)  # it may be frozen
    equal("the verdict", str(bench.asking(verifier, "the output").status), "UNVERIFIED")


@check("verifier", "L1", capability="has_judge", variants=list(JUNK))
def junk_is_not_a_pass(bench: VerifierBench) -> None:
    """AS-51: a refusal, a missing field, words instead of a verdict: never PASS."""
    verdict = bench.ask(lambda: JUNK[bench.variant])
    expect(str(verdict.status) != "PASS", f"{JUNK[bench.variant]!r} was taken for a PASS")


@check("verifier", "L1", capability="has_judge", variants=("interrupt", "exit"))
def being_stopped_is_not_a_verdict(bench: VerifierBench) -> None:
    """What stops the process passes through a verifier; it is no verdict at all."""
    kind = {"interrupt": KeyboardInterrupt, "exit": SystemExit}[bench.variant]
    try:
        verdict = bench.ask(_raises(kind))
    except kind:
        return
    expect(False, f"{kind.__name__} was taken for {verdict.status}")  # noqa: FBT003 - it was swallowed


@check("verifier", "L1")
def a_verdict_is_the_same_asked_again(bench: VerifierBench) -> None:
    """A verifier has no memory that matters: asked again about the same output it says the same."""
    asked = [str(bench.mean("fail").status) for _ in range(2)]
    asked += [str(bench.mean("pass").status) for _ in range(2)]
    equal("the verdicts", asked, ["FAIL", "FAIL", "PASS", "PASS"])


@check("verifier", "L1", variants=("pass", "fail"))
def what_is_judged_is_left_as_it_is(bench: VerifierBench) -> None:
    """I14: a verifier changes nothing of the output that it is given: what is committed is what was judged."""
    for output in (bench.harness.output(bench.variant), ["the output", [1, 2]]):  # type: ignore[arg-type]
        before = copy.deepcopy(output)
        bench.ask(lambda: bench.harness.reply(bench.variant), output)  # type: ignore[arg-type]
        equal("the output afterwards", output, before)


@check("verifier", "L1", variants=("pass, then fail", "pass, then an error"))
def a_verdict_is_of_this_output_only(bench: VerifierBench) -> None:
    """I13: one verifier, asked about two outputs, gives the second one its own verdict: no PASS is carried over."""
    says: list[Callable[[], Any]] = [lambda: bench.harness.reply("fail")]
    if bench.variant == "pass, then an error" and bench.harness.has_judge:
        says = [_raises(TimeoutError)]
    says.append(lambda: bench.harness.reply("pass"))
    verifier = bench.harness.verifier(bench.judge(lambda: says.pop()() if len(says) > 1 else says[0]()))
    first = bench.asking(verifier, bench.harness.output("pass"))
    equal("the first verdict", str(first.status), "PASS")
    other = bench.harness.output("fail")
    second = bench.asking(verifier, [other, "another one"] if bench.harness.has_judge else other)
    expect(str(second.status) != "PASS", "the verdict on another output was given again")
