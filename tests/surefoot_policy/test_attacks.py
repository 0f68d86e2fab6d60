"""People, clocks and policies in any order against what an approval may let through (I15); a broken one is the negative control."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from crash import Effects

import surefoot
from surefoot import Denied, Guard, IntegrityError, SurefootError
from surefoot_policy import approvals

CASES, STEPS = 12, 40
LIFE = 60.0
POLICIES = [
    f"tools: [{{tool: pay, decision: approve, reason: {why}}}]\napprovals: {{expires: {LIFE:g}}}\n" for why in ("money", "a lot of money")
]


class Office:
    """Runs that pay, a person who decides, a requester who must not, a clock and a policy that change; and what may happen by rights."""

    def __init__(self, seed: int, folder: Path, effects: Effects) -> None:
        self.rng = random.Random(seed)  # noqa: S311 - an attack that can be repeated
        self.seed = seed
        self.now = [1000.0]
        self.folder = folder
        self.effects = effects
        self.version = 0
        self.guard = self._opened(Guard("memory://").store)
        self.may: dict[str, tuple[float, int]] = {}
        """Runs that were approved: until when, and under which policy."""
        self.found: list[str] = []

        def pay(run: str) -> str:
            effects.add("pay", run)
            return "paid"

        pay.__qualname__ = "pay"
        self.pay = surefoot.tool(effect="unsafe")(pay)

    def _opened(self, store: Any) -> Guard:
        path = self.folder / "surefoot.yaml"
        path.write_text(POLICIES[self.version])
        guard = Guard(store, policy=str(path))
        guard.clock = lambda: self.now[0]
        return guard

    def act(self) -> None:
        """Do one thing at random, and compare what happened with what might."""
        before = [effect[1] for effect in self.effects.all()]
        what = self.rng.choice(["ask", "ask", "ask", "approve", "approve", "deny", "forge", "wait", "policy"])
        getattr(self, f"_{what}")()
        for run in [effect[1] for effect in self.effects.all()][len(before) :]:
            until, version = self.may.pop(run, (0.0, -1))
            if self.now[0] > until or version != self.version:
                self.found.append(f"{self.seed}: {run} was paid after {what}, which nobody approved so")

    def _ask(self) -> None:
        run = f"{self.seed}-{self.rng.randint(1, 4)}"
        may = self.may.get(run)

        def main(run: str) -> Any:
            return self.pay(run)

        with suppress(SurefootError), surefoot.run(run):
            surefoot.wrap(main, guard=self.guard)(run)
        if may is not None and (self.now[0] > may[0] or may[1] != self.version):
            self.may[run] = (0.0, -1)  # it was void, and stays so
        elif may is not None and run not in [effect[1] for effect in self.effects.all()]:
            self.found.append(f"{self.seed}: {run} was approved and not paid")

    def _decided(self, verb: str, by: str) -> None:
        pending = [one for one in self.guard.approvals.list() if one.thread.startswith(f"run:{self.seed}-")]
        if not pending:
            return
        chosen = self.rng.choice(pending)
        with suppress(Denied, IntegrityError):
            decided = getattr(self.guard.approvals, verb)(chosen.id, by=by)[0]
            if by == "agent":
                self.found.append(f"{self.seed}: the requester decided about {chosen.id}")
            if decided.state == "approved":
                self.may[chosen.thread.removeprefix("run:")] = (chosen.expires_at, POLICIES.index(self._text(chosen)))

    def _text(self, approval: Any) -> str:
        return next(text for text in POLICIES if f"reason: {approval.reason}}}" in text)

    def _approve(self) -> None:
        self._decided("approve", "maria")

    def _deny(self) -> None:
        self._decided("deny", "maria")

    def _forge(self) -> None:
        self._decided("approve", "agent")

    def _wait(self) -> None:
        self.now[0] += self.rng.choice([1.0, LIFE / 2, LIFE + 1])

    def _policy(self) -> None:
        self.version = 1 - self.version
        self.guard = self._opened(self.guard.store)


def in_any_order(folder: Path, effects: Effects) -> tuple[list[str], int]:
    """Return what happened that nobody approved so, and how much was paid in all."""
    found = []
    for seed in range(CASES):
        office = Office(seed, folder, effects)
        for _ in range(STEPS):
            office.act()
        found += office.found
    return found, int(effects.count("pay"))


def test_i15_an_approval_lets_through_what_was_approved_once_and_in_time(tmp_path: Path, effects: Effects) -> None:
    """Asks, decisions, forgeries, waits and changes of the policy in any order: what is paid was approved so, and what was is paid."""
    found, paid = in_any_order(tmp_path, effects)
    assert found == []
    assert paid >= CASES


def test_i15_negative_control_an_approval_that_binds_nothing_is_found(
    tmp_path: Path, effects: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an approval holds for ever and under any policy, the same attack finds payments that nobody approved so."""

    def unbound(_unit: Any, claim: Any, _terms: Any, asked: Any) -> Any:
        return asked if asked.state == "approved" else approvals._pending(claim, asked)

    monkeypatch.setattr(approvals, "_open", unbound)
    found, _ = in_any_order(tmp_path, effects)
    assert any("nobody approved" in wrong for wrong in found)
