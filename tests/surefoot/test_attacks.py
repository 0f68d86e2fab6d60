"""Hooks that are broken or hostile, at random, against I13, I14 and I16; broken guards are the negative controls."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import surefoot
from surefoot import Admission, Allow, Deny, Gate, Guard, Hold, Retry, StepOutput, StepRule, SurefootError, Verdict, Verifier
from surefoot.engine import claims, step, verify

CASES = 120
JUNK: list[Any] = [None, True, 1, "allow", "PASS", object(), Allow, Verdict, {"status": "PASS"}, [Allow()], Ellipsis]
"""What no gate and no verifier may answer; each reads like a yes to somebody."""


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What a hook that hangs waits for; set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def wrong(rng: random.Random, kind: str, released: threading.Event) -> Any:
    """Do what a broken hook does."""
    if kind == "raise":
        raise rng.choice([RuntimeError("down"), KeyError("x"), TimeoutError(), SurefootError("mine"), StopIteration()])
    if kind == "hang":
        released.wait()
        return Allow()
    return rng.choice(JUNK)


# --- I16


class Hostile(Gate):
    """A gate that does what its kind says."""

    def __init__(self, rng: random.Random, kind: str, released: threading.Event) -> None:
        self._given = (rng, kind, released)
        self.timeout = 0.02 if kind == "hang" else None

    def check(self, call: Any) -> Any:
        """Answer, or misbehave."""
        known: dict[str, Any] = {"allow": Allow(), "deny": Deny("no"), "hold": Hold("wait")}
        return known[self._given[1]] if self._given[1] in known else wrong(*self._given)


class HostileAdmission(Admission):
    """An admission that does what its kind says."""

    def __init__(self, rng: random.Random, kind: str, released: threading.Event) -> None:
        self._gate = Hostile(rng, kind, released)

    def admit(self, unit: Any, claim: Any, record: Any) -> Any:
        """Answer, or misbehave."""
        return self._gate.check(None)

    def spend(self, unit: Any, claim: Any, record: Any) -> None:
        """Use nothing up."""


def hooks_at_random(seed: int, released: threading.Event) -> list[str]:
    """Ask for an unsafe call under hooks of any kind, in any order; return what was wrong with what became of it."""
    rng = random.Random(seed)  # noqa: S311 - an attack that can be repeated
    gates = rng.choices(["allow", "deny", "hold", "raise", "junk", "hang"], weights=[8, 1, 1, 2, 2, 1], k=rng.randint(0, 4))
    admissions = rng.choices(["allow", "deny", "raise", "junk"], weights=[6, 1, 1, 1], k=rng.randint(0, 2))
    seen: list[list[str]] = []

    def listens(_event: Any) -> None:
        raise RuntimeError("who listens never stops a run")

    guard = Guard("memory://", gates=[Hostile(rng, kind, released) for kind in gates], on_event=listens)
    guard.admissions += [HostileAdmission(rng, kind, released) for kind in admissions]

    def pay() -> str:
        seen.append([str(row.state) for row in guard.calls.list()])
        return "paid"

    governed = surefoot.tool(effect="unsafe")(pay)

    def main() -> Any:
        return governed()

    with suppress(SurefootError):
        surefoot.wrap(main, guard=guard)()
    found, allowed = [], {*gates, *admissions} <= {"allow"}
    if bool(seen) != allowed:
        found.append(f"{seed}: {gates} and {admissions} {'let it run' if seen else 'stopped it'}")
    if seen and seen != [["intent"]]:
        found.append(f"{seed}: the ledger knew {seen} while it ran")
    if seen and [str(row.state) for row in guard.calls.list()] != ["committed"]:
        found.append(f"{seed}: its outcome is not in the ledger")
    return found


def test_i16_no_hook_turns_a_no_into_a_yes_or_skips_the_ledger(released: threading.Event) -> None:
    """Gates and admissions that raise, hang, answer junk, in any number and order: the body runs only if all allow, under its intent."""
    assert [wrong for seed in range(CASES) for wrong in hooks_at_random(seed, released)] == []


def test_i16_negative_control_a_guard_that_fails_open_is_found(monkeypatch: pytest.MonkeyPatch, released: threading.Event) -> None:
    """Where what raised counts as a yes, the same attack finds calls that ran."""

    def fails_open(_gate: object, _effect: Any, decision: Any, answers: tuple[type, ...] = (Allow, Deny)) -> Any:
        return decision if isinstance(decision, answers) else Allow()

    monkeypatch.setattr(claims, "judged", fails_open)
    assert any("let it run" in wrong for seed in range(CASES) for wrong in hooks_at_random(seed, released))


# --- I13


class HostileVerifier(Verifier):
    """A verifier that does what its kind says."""

    def __init__(self, rng: random.Random, kind: str, released: threading.Event) -> None:
        self._given = (rng, kind, released)
        self.timeout = 0.02 if kind == "hang" else None

    def verify(self, output: StepOutput) -> Any:
        """Answer, or misbehave."""
        rng, kind, _ = self._given
        if kind == "change":
            output.output["amount"] = rng.random()
            return Verdict.passed()
        known: dict[str, Any] = {"pass": Verdict.passed(), "fail": Verdict.failed("NO"), "unverified": Verdict.unverified("away")}
        answer = known[kind] if kind in known else wrong(*self._given)
        return Verdict.unverified("true is an answer") if answer is True else answer


def verifiers_at_random(seed: int, released: threading.Event) -> list[str]:
    """Commit a step under a verifier of any kind; return what was wrong with what became of it."""
    rng = random.Random(seed)  # noqa: S311 - an attack that can be repeated
    kind = rng.choice(["pass", "fail", "unverified", "raise", "junk", "hang", "change"])
    verifier = HostileVerifier(rng, kind, released)
    guard = Guard("memory://", steps={"draft": StepRule(verifier=verifier, retry=Retry(max_attempts=rng.randint(1, 2)))})

    def draft() -> dict[str, float]:
        return {"amount": 5}

    draft.__qualname__ = "draft"
    shown: list[Any] = []
    with suppress(SurefootError):
        shown.append(surefoot.wrap(draft, guard=guard)())
    committed = bool(guard.runs.checkpoints(guard.runs.list()[0].run_id))
    wanted = kind == "pass"
    return [] if (bool(shown), committed) == (wanted, wanted) else [f"{seed}: {kind}: shown {shown}, committed {committed}"]


def test_i13_nothing_is_committed_without_a_pass(released: threading.Event) -> None:
    """Verifiers that raise, hang, answer junk or change what they judge: nothing is committed or shown; what passes is."""
    assert [wrong for seed in range(CASES) for wrong in verifiers_at_random(seed, released)] == []


def test_i13_negative_control_who_takes_silence_for_a_pass_is_found(monkeypatch: pytest.MonkeyPatch, released: threading.Event) -> None:
    """Where "could not judge" counts as PASS, the same attack finds what was committed."""

    def lenient(verifier: Verifier, output: StepOutput) -> Any:
        verdict = yield from verify.judge(verifier, output)
        return Verdict.passed() if verdict.status == "UNVERIFIED" else verdict

    monkeypatch.setattr(step, "judge", lenient)
    assert any("committed True" in wrong for seed in range(CASES) for wrong in verifiers_at_random(seed, released))


# --- I14


def value(rng: random.Random, depth: int = 3) -> Any:
    """Return plain data."""
    if depth and rng.random() < 0.7:
        inner = [value(rng, depth - 1) for _ in range(rng.randint(1, 3))]
        return inner if rng.random() < 0.5 else {f"k{number}": one for number, one in enumerate(inner)}
    return rng.choice([rng.randint(-9, 9), rng.random(), "word", None, True])


def changed(rng: random.Random, data: Any) -> None:
    """Change plain data somewhere inside, in place."""
    if isinstance(data, dict):
        key = rng.choice(list(data))
        if isinstance(data[key], dict | list) and rng.random() < 0.7:
            changed(rng, data[key])
        else:
            data[key] = 820000
    elif isinstance(data, list):
        data.append(820000)


def gates_that_change_what_they_see(seed: int) -> list[str]:
    """Let gates change what they are shown, before and after one that judges it; return where what ran is not what was judged."""
    rng = random.Random(seed)  # noqa: S311 - as above
    given = {"order": value(rng), "lines": [value(rng)]}
    judged: list[Any] = []
    ran: list[Any] = []

    class Changes(Gate):
        def check(self, call: Any) -> Any:
            changed(rng, call.arguments["given"])
            return Allow()

    class Judges(Gate):
        def check(self, call: Any) -> Any:
            judged.append(copy.deepcopy(call.arguments["given"]))
            return Allow()

    gates: list[Gate] = [Judges(), *(Changes() for _ in range(rng.randint(0, 2)))]
    rng.shuffle(gates)
    guard = Guard("memory://", gates=gates)

    def pay(given: Any) -> None:
        ran.append(given)

    governed = surefoot.tool(effect="unsafe")(pay)

    def main() -> None:
        governed(copy.deepcopy(given))

    surefoot.wrap(main, guard=guard)()
    return [] if ran == judged == [given] else [f"{seed}: given {given}, judged {judged}, ran {ran}"]


def test_i14_what_runs_is_what_every_gate_saw() -> None:
    """Gates that change the arguments in place, before and after one that judges them: it judged what was asked for, and that runs."""
    assert [wrong for seed in range(CASES) for wrong in gates_that_change_what_they_see(seed)] == []


def test_i14_negative_control_gates_that_share_what_they_see_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all gates are shown the same object, the same attack finds what was judged and did not run, or ran and was not judged."""
    monkeypatch.setattr(claims.Claim, "shown", claims.Claim.call)
    assert [wrong for seed in range(CASES) for wrong in gates_that_change_what_they_see(seed)] != []
