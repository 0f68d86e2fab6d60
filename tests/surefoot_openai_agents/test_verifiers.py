"""The verifiers that come with surefoot on agents: what is claimed, read back, judged and held back (P06, P15)."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, function_tool
from crash import Effects
from oai_support import Script, asks, events, invoke, says

import surefoot
from surefoot import Guard, Retry, StepRule, Verdict, VerificationFailed
from surefoot_verifiers import barrier, claims, llm, probe

TWICE = Retry(max_attempts=2)


def guarded(guard: Guard, effects: Effects, *texts: str, sends: bool = False, **options: Any) -> tuple[Any, Guard, Script]:
    """Return an agent that may send a mail first and then gives the texts, one for each time that it is asked, its guard and its model."""
    left = list(texts)

    @function_tool
    async def send(to: str) -> str:
        """Send."""
        effects.add("send", to)
        return f"sent to {to}"

    def reply(answered: list[str], _items: list[Any]) -> Any:
        if sends and not answered:
            return [asks("send", to="bob")]
        return [says(left.pop(0) if len(left) > 1 else left[0])]

    made, model = Guard(guard.store, **options), Script(reply)
    return surefoot.wrap(Agent(name="a", model=model, tools=[send]), guard=made), made, model


def test_as_23_a_claim_without_a_call_does_not_succeed(guard: Guard, effects: Effects) -> None:
    """AS-23: "e-mailed bob" with no committed send fails, the run is not completed, and nothing of it is committed."""
    agent, made, _ = guarded(guard, effects, "Done: e-mailed bob.", steps={"a": StepRule(verifier=claims(), retry=TWICE)})
    with surefoot.run("t"), pytest.raises(VerificationFailed, match="CLAIM_WITHOUT_RECEIPT"):
        invoke(agent)
    (run,) = made.runs.list()
    assert run.status != "completed"
    assert made.runs.checkpoints(run.run_id) == []


def test_as_23_a_receipt_backs_the_claim(guard: Guard, effects: Effects) -> None:
    """AS-23: where the call was made, the claim passes at the first attempt."""
    agent, made, _ = guarded(guard, effects, "Done: e-mailed bob.", sends=True, steps={"a": StepRule(verifier="claims")})
    assert invoke(agent).final_output == "Done: e-mailed bob."
    assert (effects.count("send"), events(made, "step.rejected")) == (1, [])


def test_as_25_an_instruction_is_no_claim(guard: Guard, effects: Effects) -> None:
    """AS-25: "here is how to send an e-mail" passes without a call."""
    agent, _, _ = guarded(guard, effects, "Here is how to send an e-mail: press Compose.", steps={"a": StepRule(verifier=claims())})
    assert invoke(agent).final_output.startswith("Here is how")
    assert effects.count("send") == 0


@pytest.mark.parametrize("arrived", [False, True])
def test_as_24_what_cannot_be_read_back_is_drift(guard: Guard, effects: Effects, arrived: bool) -> None:  # noqa: FBT001 - a case
    """AS-24: the tool says ok and the mailbox does not have it: FAIL with DRIFT; where it has it, the run completes."""
    look = probe({"send": lambda _call: surefoot.happened() if arrived else surefoot.not_seen()})
    agent, _, _ = guarded(guard, effects, "Sent.", sends=True, steps={"a": StepRule(verifier=look, retry=TWICE)})
    if arrived:
        assert invoke(agent).final_output == "Sent."
        return
    with pytest.raises(VerificationFailed, match="DRIFT"):
        invoke(agent)
    assert effects.count("send") == 1


@pytest.mark.parametrize("reply", ["I cannot judge that.", '{"verdict": "PASS"}', '{"confidence": 1.0}', "not supported"])
def test_as_51_a_model_that_does_not_judge_passes_nothing(guard: Guard, effects: Effects, reply: str) -> None:
    """AS-51: a refusal, a missing field, words: the agent's model was asked once, nothing is committed, and no attempt is used up."""
    judge = llm(ask=lambda _system, _question: reply)
    agent, made, model = guarded(guard, effects, "The answer is 4.", steps={"a": StepRule(verifier=judge, retry=TWICE)})
    with surefoot.run("t"), pytest.raises(VerificationFailed, match="UNVERIFIED"):
        invoke(agent)
    assert (model.questions, made.runs.checkpoints(made.runs.list()[0].run_id)) == (1, [])


def test_as_52_the_hint_reaches_the_next_attempt_and_no_effect_is_repeated(guard: Guard, effects: Effects) -> None:
    """AS-52: the next attempt's model is told the hint, and the mail of the first attempt is not sent again."""
    heard: list[str] = []

    def judge(output: Any) -> Verdict:
        return Verdict.passed() if output.attempt == 2 else Verdict.failed("INCOMPLETE", "Say it in French.")

    @function_tool
    async def send(to: str) -> str:
        """Send."""
        effects.add("send", to)
        return "sent"

    def reply(answered: list[str], items: list[Any]) -> Any:
        heard.append(str(items))
        return [says("fait")] if answered else [asks("send", to="bob")]

    made = Guard(guard.store, steps={"a": StepRule(verifier=judge)})
    agent = surefoot.wrap(Agent(name="a", model=Script(reply), tools=[send]), guard=made)
    assert invoke(agent).final_output == "fait"
    assert effects.count("send") == 1
    assert "Say it in French." not in heard[0] + heard[1]
    assert "Say it in French." in heard[2]


def test_as_53_nothing_irreversible_before_pass(guard: Guard, effects: Effects) -> None:
    """AS-53: a call that its own verifier did not pass is never dispatched; the model is told, and one that passes is."""
    small = barrier(lambda output: output.output["arguments"]["to"] != "bob", tools=["send"])
    agent, _, _ = guarded(guard, effects, "Done.", sends=True, gates=[small])
    assert invoke(agent).final_output == "Done."
    assert effects.all() == []
    agent, _, _ = guarded(guard, effects, "Done.", sends=True)
    assert invoke(agent).final_output == "Done."
    assert effects.all() == [["send", "bob"]]
