"""The verifiers that come with surefoot on crews: what is claimed, read back, judged and held back (P06, P15)."""

from __future__ import annotations

from typing import Any

import pytest
from crewai import Task
from crews import Effects, agent, ask, crew

import surefoot
from surefoot import Guard, Retry, StepRule, VerificationFailed
from surefoot_verifiers import barrier, claims, llm, probe

TWICE = Retry(max_attempts=2)


def guarded(guard: Guard, effects: Effects, *texts: str, sends: bool = False, **options: Any) -> tuple[Any, Guard]:
    """Return a crew whose only task, ``mail``, may send first and then gives the texts, the last one again and again; and its guard."""
    said = [*([[ask("send", amount=1)]] if sends else []), *texts]
    clerk = agent(*said, tools=[effects.tool("send")])
    made = Guard(guard.store, **options)
    task = Task(name="mail", description="E-mail Bob.", expected_output="done", agent=clerk)
    return surefoot.wrap(crew(clerk, tasks=[task]), guard=made), made


def test_as_23_a_claim_without_a_call_does_not_succeed(guard: Guard, effects: Effects) -> None:
    """AS-23: "e-mailed bob" with no committed send fails, the run is not completed, and nothing of it is committed."""
    made, guard = guarded(guard, effects, "Done: e-mailed bob.", steps={"mail": StepRule(verifier=claims(), retry=TWICE)})
    with surefoot.run("t"), pytest.raises(VerificationFailed, match="CLAIM_WITHOUT_RECEIPT"):
        made.kickoff()
    (run,) = guard.runs.list()
    assert run.status != "completed"
    assert guard.runs.checkpoints(run.run_id) == []


def test_as_23_a_receipt_backs_the_claim(guard: Guard, effects: Effects) -> None:
    """AS-23: where the call was made, the claim passes at the first attempt."""
    made, guard = guarded(guard, effects, "Done: e-mailed bob.", sends=True, steps={"mail": StepRule(verifier="claims")})
    assert made.kickoff().raw == "Done: e-mailed bob."
    assert effects.count("send") == 1
    assert [event.type for event in guard.runs.events(guard.runs.list()[0].run_id)].count("step.rejected") == 0


def test_as_25_an_instruction_is_no_claim(guard: Guard, effects: Effects) -> None:
    """AS-25: "here is how to send an e-mail" passes without a call."""
    made, _ = guarded(guard, effects, "Here is how to send an e-mail: press Compose.", steps={"mail": StepRule(verifier=claims())})
    assert made.kickoff().raw.startswith("Here is how")
    assert effects.count("send") == 0


@pytest.mark.parametrize("arrived", [False, True])
def test_as_24_what_cannot_be_read_back_is_drift(guard: Guard, effects: Effects, arrived: bool) -> None:  # noqa: FBT001 - a case
    """AS-24: the tool says ok and the mailbox does not have it: FAIL with DRIFT; where it has it, the run completes."""
    look = probe({"send": lambda _call: surefoot.happened() if arrived else surefoot.not_seen()})
    made, _ = guarded(guard, effects, "Sent.", sends=True, steps={"mail": StepRule(verifier=look, retry=TWICE)})
    if arrived:
        assert made.kickoff().raw == "Sent."
        return
    with pytest.raises(VerificationFailed, match="DRIFT"):
        made.kickoff()
    assert effects.count("send") == 1


@pytest.mark.parametrize("reply", ["I cannot judge that.", '{"verdict": "PASS"}', '{"confidence": 1.0}', "not supported"])
def test_as_51_a_model_that_does_not_judge_passes_nothing(guard: Guard, effects: Effects, reply: str) -> None:
    """AS-51: a refusal, a missing field, words: the agent's model was asked once, nothing is committed, and no attempt is used up."""
    judge = llm(ask=lambda _system, _question: reply)
    made, guard = guarded(guard, effects, "The answer is 4.", steps={"mail": StepRule(verifier=judge, retry=TWICE)})
    with surefoot.run("t"), pytest.raises(VerificationFailed, match="UNVERIFIED"):
        made.kickoff()
    assert len(made.agents[0].llm.asked) == 1
    assert guard.runs.checkpoints(guard.runs.list()[0].run_id) == []


@pytest.mark.parametrize("held", [True, False])
def test_as_53_nothing_irreversible_before_pass(guard: Guard, effects: Effects, held: bool) -> None:  # noqa: FBT001 - a case
    """AS-53: a call that its own verifier did not pass is never dispatched, and the model goes on; one that passes is."""
    small = barrier(lambda output: not held or output.output["arguments"]["amount"] != 1, tools=["send"])
    made, _ = guarded(guard, effects, "Done.", sends=True, gates=[small])
    assert made.kickoff().raw == "Done."
    assert effects.all() == ([] if held else [["send", 1]])
