"""The verifiers that come with surefoot on plain functions (P06, P15)."""

from __future__ import annotations

from typing import Any

import pytest
from crash import Effects

import surefoot
from surefoot import Guard, Retry, StepRule, UsageError, VerificationFailed
from surefoot_verifiers import claims, llm, probe, receipts

TWICE = Retry(max_attempts=2)


def governed(guard: Guard, effects: Effects, says: str, *, sends: bool, raises: bool = False) -> Any:
    """Return a guarded program that may send, charges, and then says this in a step ``answer``."""

    @surefoot.tool(effect="unsafe")
    def send_email(to: str) -> str:
        effects.add("send", to)
        return "ok"

    @surefoot.tool()
    def charge(amount: int) -> str:
        effects.add("charge", amount)
        if raises:
            raise ValueError("declined")
        return "ok"

    def answer() -> str:
        step = surefoot.current_step()
        effects.add("answer", step.hint if step else None)
        return says

    answering = surefoot.wrap(answer, guard=guard)

    def main() -> str:
        if sends:
            send_email("bob")
        try:
            charge(5)
        except ValueError:
            effects.add("told")
        return answering()

    return surefoot.wrap(main, guard=guard)


def test_as_23_a_claim_needs_its_receipt(effects: Effects, tmp_path: Any) -> None:
    """AS-23: the claim passes where the call was made in the same run, by whichever step; else the run does not complete."""
    guard = Guard(f"sqlite:///{tmp_path}/s.db", steps={"*answer": StepRule(verifier=claims(), retry=TWICE)})
    assert governed(guard, effects, "e-mailed bob", sends=True)() == "e-mailed bob"
    with pytest.raises(VerificationFailed, match="CLAIM_WITHOUT_RECEIPT"):
        governed(Guard(f"sqlite:///{tmp_path}/t.db", steps=guard.steps), effects, "e-mailed bob", sends=False)()
    assert effects.count("send") == 1
    assert 'It says: "e-mailed bob".' in effects.all()[-1][1]


def test_as_25_an_instruction_needs_none(effects: Effects) -> None:
    """AS-25: "here is how to send an e-mail" is no claim."""
    guard = Guard("memory://", steps={"*answer": StepRule(verifier="claims")})
    says = "Here is how to send an e-mail: press Compose."
    assert governed(guard, effects, says, sends=False)() == says


def test_as_24_what_cannot_be_read_back_is_drift(effects: Effects) -> None:
    """AS-24: the call returned ok, the read-back does not see it: FAIL with DRIFT."""
    look = probe({"*send_email": lambda _call: surefoot.not_seen()})
    guard = Guard("memory://", steps={"*answer": StepRule(verifier=look, retry=TWICE)})
    with pytest.raises(VerificationFailed, match="DRIFT"):
        governed(guard, effects, "done", sends=True)()
    assert effects.count("send") == 1


def test_as_30_a_required_call_must_have_succeeded(effects: Effects) -> None:
    """AS-30: the required call raised beside one that succeeded, and the program went on: the run does not complete."""
    guard = Guard("memory://", steps={"*answer": StepRule(verifier=receipts("*charge", "*send_email"), retry=TWICE)})
    assert governed(guard, effects, "done", sends=True)() == "done"
    with pytest.raises(VerificationFailed, match="INCOMPLETE"):
        governed(Guard("memory://", steps=guard.steps), effects, "done", sends=True, raises=True)()


@pytest.mark.parametrize("trouble", [ConnectionError("503"), TimeoutError(), None])
def test_as_51_a_judge_that_is_away_uses_up_no_attempt(effects: Effects, trouble: Any) -> None:
    """AS-51: the model cannot be reached once, or says nothing valid once: asked again, it passes the same output; the step ran once."""
    answers = [trouble or "no verdict", '{"verdict": "PASS", "confidence": 0.9}']

    def model(_system: str, _question: str) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    guard = Guard("memory://", steps={"*answer": StepRule(verifier=llm(ask=model), retry=TWICE)})
    assert governed(guard, effects, "done", sends=True)() == "done"
    assert effects.count("answer") == 1


def test_as_52_as_53_what_is_irreversible_waits_for_the_plan_to_pass(effects: Effects) -> None:
    """AS-52, AS-53: the plan is a step of its own: rejected, it is made again with the hint, and only what passed is dispatched."""

    @surefoot.tool(effect="unsafe")
    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    def plan() -> int:
        step = surefoot.current_step()
        return 5 if step is not None and step.hint == "At most 10." else 99

    def small(output: Any) -> surefoot.Verdict:
        return surefoot.Verdict.passed() if output.output <= 10 else surefoot.Verdict.failed("SCOPE_CREEP", "At most 10.")

    guard = Guard("memory://", steps={"*plan": StepRule(verifier=small)})
    planned = surefoot.wrap(plan, guard=guard)
    assert surefoot.wrap(lambda: pay(planned()), guard=guard)() == "paid 5"
    assert effects.all() == [["pay", 5]]


def test_an_unknown_verifier_is_refused_when_the_guard_is_made() -> None:
    """A name that no plugin knows is an error at once, not when the step has run."""
    with pytest.raises(UsageError, match="no plugin makes a verifier for 'ruler'"):
        Guard("memory://", steps={"a": StepRule(verifier="ruler")})
