"""Claims against receipts, calls that a task needs, and reading back what a tool said (P06)."""

from __future__ import annotations

from typing import Any

import pytest
import verifier_rates
from judging import asked, called

import surefoot
from surefoot import Call, CallState, Effect, Guard, UsageError, VerdictStatus
from surefoot_verifiers import Claim, barrier, claims, probe, receipts, rules


def test_as_25_what_claims_nothing_raises_no_alarm() -> None:
    """AS-25: of at least 100 texts without a claim none is taken for one; of at least 50 with one, nine in ten are found."""
    for _which, false_alarms, _bare, found, claimed in verifier_rates.claim_rows():
        assert false_alarms == 0
        assert found >= 0.9 * claimed
    assert sum(not row["claims"] for row in verifier_rates.rows("claims")) >= 100
    assert sum(bool(row["claims"]) for row in verifier_rates.rows("claims")) >= 50


@pytest.mark.parametrize(
    ("calls", "passes"),
    [
        ([], False),
        ([called("send_email")], True),
        ([called("gmail.sendMail")], True),
        ([called("charge")], False),
        ([called("send_email", CallState.RAISED)], False),
        ([called("send_email", CallState.IN_DOUBT)], False),
        ([called("find_email", effect=Effect.READ)], False),
    ],
    ids=["no call", "committed", "other spelling", "other tool", "raised", "in doubt", "a read"],
)
def test_as_23_a_claim_needs_a_committed_call(calls: Any, passes: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """AS-23: "e-mailed bob" passes only with a committed call that sends; else it fails with the sentence in the hint."""
    verdict = asked(claims(), "All done: e-mailed bob.", calls)
    assert (verdict.status is VerdictStatus.PASS) is passes
    assert passes or (verdict.error_class == "CLAIM_WITHOUT_RECEIPT" and "e-mailed bob" in verdict.hint)


def test_a_user_says_which_tools_do_what_and_what_is_a_claim() -> None:
    """``actions=`` names the tools of an action, and then only those count; ``find=`` reads other languages."""
    by_name = claims({"send": ["smtp_*"]})
    assert asked(by_name, "I sent it.", [called("smtp_out")]).status is VerdictStatus.PASS
    assert asked(by_name, "I sent it.", [called("send_email")]).status is VerdictStatus.FAIL
    german = claims(find=lambda text: [Claim("send", text)] if "geschickt" in text else [])
    assert asked(german, "Ich habe sie geschickt.").status is VerdictStatus.FAIL
    assert asked(german, "I sent it.").status is VerdictStatus.PASS
    assert asked(claims(), {"no": "text"}).status is VerdictStatus.UNVERIFIED


def test_as_30_every_required_call_must_have_succeeded() -> None:
    """AS-30: a required call that raised, or was never made, fails the output beside any number of others that succeeded."""
    verifier = receipts("charge", "send_*")
    assert asked(verifier, "done", [called("charge"), called("send_email")]).status is VerdictStatus.PASS
    verdict = asked(verifier, "done", [called("charge", CallState.RAISED), called("send_email"), called("log")])
    assert (verdict.status, verdict.error_class) == ("FAIL", "INCOMPLETE")
    assert "charge (raised)" in verdict.hint
    assert "send_* (not called)" in asked(verifier, "done", [called("charge")]).hint


async def _later(answer: Any) -> Any:
    return answer


def _fails(_call: Call) -> Any:
    raise ConnectionError


@pytest.mark.parametrize(
    ("look", "status", "error_class"),
    [
        (lambda _call: surefoot.happened(), "PASS", None),
        (lambda _call: _later(surefoot.happened()), "PASS", None),
        (lambda _call: surefoot.not_seen(), "FAIL", "DRIFT"),
        (lambda _call: _later(surefoot.will_not_happen()), "FAIL", "DRIFT"),
        (lambda _call: True, "UNVERIFIED", None),
        (_fails, "UNVERIFIED", None),
    ],
)
def test_as_24_what_a_tool_reported_is_read_back(look: Any, status: str, error_class: str | None) -> None:
    """AS-24: a committed call whose probe does not see the change is DRIFT; a probe that cannot tell leaves it UNVERIFIED."""
    verdict = asked(probe({"send_*": look}), "done", [called("other"), called("send_email")])
    assert (str(verdict.status), verdict.error_class) == (status, error_class)


def test_a_probe_is_given_the_call_and_asked_about_committed_ones_only() -> None:
    """The probe sees arguments and idempotency key; a call that raised has nothing to read back."""
    seen: list[Call] = []
    looks = probe({"send_email": lambda call: seen.append(call) or surefoot.happened()})  # type: ignore[func-returns-value]
    asked(looks, "x", [called("send_email"), called("send_email", CallState.RAISED)])
    assert [(call.tool, call.arguments, call.idempotency_key) for call in seen] == [("send_email", {"to": "bob"}, "surefoot-k")]


def test_as_53_nothing_irreversible_is_dispatched_before_pass(tmp_path: Any) -> None:
    """AS-53: a call behind a barrier runs after PASS only; FAIL and what could not be judged never start it, reads go through."""
    sent: list[int] = []

    def judge(output: Any) -> Any:
        if output.output["arguments"].get("amount") == 13:
            raise TimeoutError
        return output.output["arguments"].get("amount", 0) < 10

    guard = Guard(f"sqlite:///{tmp_path}/s.db", gates=[barrier(judge)], reads=["look"])

    @surefoot.tool(effect="unsafe")
    def pay(amount: int) -> str:
        sent.append(amount)
        return f"paid {amount}"

    @surefoot.tool()
    def look() -> str:
        return "seen"

    def main(amount: int) -> str:
        return f"{look()}, {pay(amount)}"

    agent = surefoot.wrap(main, guard=guard)
    assert agent(5) == "seen, paid 5"
    for amount in (99, 13):
        with pytest.raises(surefoot.Denied):
            agent(amount)
    assert sent == [5]


@pytest.mark.parametrize(
    "make", [lambda: claims({"send": "smtp"}), receipts, lambda: probe({}), lambda: probe({"a": 1}), lambda: barrier(rules(), "pay")]
)  # type: ignore[dict-item]
def test_an_option_that_cannot_work_is_refused(make: Any) -> None:
    """A text where names belong, nothing required, no probe: a UsageError."""
    with pytest.raises(UsageError):
        make()
