"""What a policy promises, whichever framework runs: scenarios that each adapter's tests inherit.

An adapter's test class says how an agent is played (:meth:`Governed.play`, :meth:`Governed.team`); pytest then finds every scenario in it
under its own name. As a program, ``governed.py FOLDER CLASS-FILE`` plays an agent that is killed in the body of its third payment.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from crash import Effects

import surefoot
from surefoot import Admission, Allow, BudgetExceeded, Call, Deny, Gate, Guard, IntegrityError, ResultUnavailable
from surefoot_policy import EXECUTORS, Executor, cost
from surefoot_policy.usage import grouped

__all__ = ["Governed", "Reply", "main"]

Reply: TypeAlias = Sequence[tuple[str, int]]
"""What a model asks for in one reply: tools, each with its one argument ``amount``."""
CANARY = "canary-7d1f60aa93"
PAY = "tools: [{tool: pay, decision: approve, reason: money leaves the house}]\n"


_TOKENS = {"limit": "tokens", "per": "run", "allowed": 25, "tool": "*", "effect": None, "action": "pause"}
"""The stop reason of a budget of tokens: a model of these agents is called ``m1``, and a reply of it used 7 and 3."""


class Broken(Gate):
    """Answers what is no decision, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def check(self, call: Call) -> Any:
        """Answer."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


SANDBOXED = {
    "of the entry": "tools: [{tool: pay, effect: unsafe, sandbox: jail}]",
    "of the tier": "tiers: {shell: {sandbox: jail}}\ntools: [{tool: pay, effect: unsafe, tier: shell}]",
}


class Jail(Executor):
    """Runs calls in a process of its own, which knows their tool and arguments and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, call: Call) -> Any:
        """Start the process, and return what it says."""
        program = "import sys; sys.path.insert(0, sys.argv[1]); from governed import jailed; jailed(*sys.argv[2:])"
        given = [str(Path(__file__).parent), str(self.folder), json.dumps(dict(call.arguments))]
        return subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, check=True).stdout.strip()


def jailed(folder: str, arguments: str) -> None:
    """Have the effect in the sandbox's process."""
    amount = json.loads(arguments)["amount"]
    Effects(Path(folder) / "effects").add("jail", amount)
    print(f"jailed {amount}")


class Governed(ABC):
    """An agent of one framework under a policy. Its run has one name, so that playing it again goes on with it."""

    folder: Path
    effects: Effects
    bodies: dict[str, Callable[[int], Any]]
    """What tools do besides having their effect; they return ``"<name> <amount>"``, or what this does."""

    @pytest.fixture(autouse=True)
    def placed(self, tmp_path: Path) -> None:
        """Start in an empty folder."""
        self.start(tmp_path)

    def start(self, folder: Path) -> None:
        """Work in a folder."""
        self.folder, self.effects, self.bodies = folder, Effects(folder / "effects"), {}

    @abstractmethod
    def play(self, guard: Guard, *replies: Reply, fails_after: int | None = None, silent: bool = False) -> list[str] | None:
        """Run an agent, or go on with it, whose model gives these replies and then ends; it looks at the conversation alone.

        Return what the tools answered it, ``None`` where the run waits for a person. ``fails_after``: the model fails instead of giving
        the reply after so many. What stops the run is raised. The model is ``m1``; a reply reads 7 tokens and writes 3,
        which a ``silent`` one does not report.
        """

    @abstractmethod
    def team(self, guard: Guard, calls: int) -> None:
        """Run, or go on with, three agents that work for a fourth one; each of the four pays ``calls`` times, the fourth once more."""

    def body(self, name: str, amount: int) -> Any:
        """Be the body of a tool."""
        self.effects.add(name, amount)
        return self.bodies[name](amount) if name in self.bodies else f"{name} {amount}"

    def guard(self, policy: str, **options: Any) -> Guard:
        """Return a guard over the folder's store with the policy that a text says."""
        (self.folder / "surefoot.yaml").write_text(policy)
        return Guard(f"sqlite:///{self.folder}/surefoot.db", policy=str(self.folder / "surefoot.yaml"), **options)

    def refused(self, work: Callable[[], object]) -> dict[str, Any]:
        """Do what a limit stops, and return the reason for machines."""
        with pytest.raises(BudgetExceeded) as told:
            work()
        return dict(told.value.stop_reason)

    # --- budgets

    def test_as_34_parent_sub_agents_and_retries_share_one_budget(self) -> None:
        """AS-34: 20 calls for a parent, three sub-agents and a retry: call 21 is refused before it runs, what was done is kept."""
        guard = self.guard("budgets: [{calls: 20, tool: pay}]")
        reason = self.refused(lambda: self.team(guard, 5))
        assert reason == {"limit": "calls", "per": "run", "allowed": 20, "used": 20, "tool": "pay", "effect": None, "action": "pause"}
        assert self.effects.count("pay") == 20
        assert self.refused(lambda: self.team(guard, 5)) == reason
        assert self.effects.count("pay") == 20
        assert sum(call.state == "committed" for call in guard.calls.list() if call.tool == "pay") == 20

    def test_as_35_a_restart_resets_nothing_and_a_replay_costs_nothing(self) -> None:
        """AS-35: the process is killed in its third of three calls; the next one replays two for nothing, and has one left at most."""
        child = [sys.executable, __file__, str(self.folder), str(Path(sys.modules[type(self).__module__].__file__ or "").resolve())]
        done = subprocess.run(child, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert self.effects.count("pay") == 3
        guard = self.guard("budgets: [{calls: 4}]")
        reason = self.refused(lambda: self.play(guard, *[[("pay", n)] for n in range(7)]))
        assert (reason["allowed"], reason["used"]) == (4, 4)
        assert [effect[1] for effect in self.effects.all()] == [0, 1, 2, 3]

    def test_as_36_without_token_counts_nothing_breaks(self) -> None:
        """AS-36: nobody tells how many tokens were used: the run does not crash, and the limits of calls and of time still hold."""
        guard = self.guard("budgets: [{tokens: 100}, {cost_usd: 0.5}, {calls: 2}]")
        replies = [[("pay", n)] for n in range(5)]
        assert self.refused(lambda: self.play(guard, *replies, silent=True))["limit"] == "calls"
        assert self.effects.count("pay") == 2
        slow = self.guard("budgets: [{tokens: 100}, {seconds: 0}]")
        assert self.refused(lambda: self.play(slow, *replies, silent=True))["limit"] == "seconds"
        assert self.effects.count("pay") == 2
        assert sum(used.input_tokens + used.output_tokens for used in cost(guard)) == 0

    def test_as_37_a_loop_of_a_mutating_tool_ends(self) -> None:
        """AS-37: add_to_cart with ever other arguments meets the ceiling of its effect class; what only reads is not stopped by it."""
        tools = "tools: [{tool: add_to_cart, effect: unsafe}, {tool: look, effect: read}]\n"
        guard = self.guard(tools + "budgets: [{calls: 5, effect: unsafe, action: abort}]")
        loop = [reply for n in range(9) for reply in ([("look", n)], [("add_to_cart", n)])]
        reason = self.refused(lambda: self.play(guard, *loop))
        assert (reason["effect"], reason["action"], reason["used"]) == ("unsafe", "abort", 5)
        assert (self.effects.count("add_to_cart"), self.effects.count("look")) == (5, 6)

    # --- approvals

    def test_as_39_the_decision_survives_what_fails_after_the_call(self) -> None:
        """AS-39: approved, executed, then the model fails: resumed, the decision is still there, the result is replayed, one effect."""
        guard = self.guard(PAY)
        assert self.play(guard, [("pay", 5)]) is None
        [waits] = guard.approvals.list()
        guard.approvals.approve(waits.id, by="maria")
        with pytest.raises(Exception, match="HTTP 500"):
            self.play(guard, [("pay", 5)], fails_after=1)
        assert self.play(guard, [("pay", 5)]) == ["pay 5"]
        assert (self.effects.count("pay"), guard.approvals.show(waits.id).state) == (1, "used")

    def test_as_40_expired_is_not_rejected(self) -> None:
        """AS-40: nobody decides in time: it is expired, the model is told to ask again, and a later click changes nothing."""
        guard = self.guard(PAY + "approvals: {expires: 60}\n")
        assert self.play(guard, [("pay", 5)], [("pay", 6)]) is None
        [waits] = guard.approvals.list()
        now = guard.clock()
        guard.clock = lambda: now + 61
        assert guard.approvals.show(waits.id).state == "expired"
        self.play(guard, [("pay", 5)], [("pay", 6)])  # the model is told, and then asks for another payment, which waits
        asked = {approval.arguments["amount"]: approval.state for approval in guard.approvals.list(state=None)}
        assert asked == {5: "expired", 6: "pending"}
        for click in (guard.approvals.approve, guard.approvals.deny):
            with pytest.raises(IntegrityError, match="is expired"):
                click(waits.id, by="maria")
        [other] = guard.approvals.list()
        guard.approvals.approve(other.id, by="maria")
        told = self.play(guard, [("pay", 5)], [("pay", 6)])
        assert told is not None
        assert "expired: nobody decided" in told[0]
        assert "nobody rejected it" in told[0]
        assert (told[1], self.effects.all()) == ("pay 6", [["pay", 6]])

    def test_as_41_looking_changes_nothing(self) -> None:
        """AS-41: a client that looks, gives up and looks again, and a run that is resumed too early, leave the approval pending."""
        guard = self.guard(PAY)
        assert self.play(guard, [("pay", 5)]) is None
        [waits] = guard.approvals.list()
        for _ in range(2):
            assert guard.approvals.show(waits.id) == waits
            assert self.play(guard, [("pay", 5)]) is None
        assert list(guard.approvals.list()) == [waits]
        guard.approvals.approve(waits.id, by="maria")
        assert self.play(guard, [("pay", 5)]) == ["pay 5"]
        assert self.effects.count("pay") == 1

    def test_as_83_a_batch_has_a_decision_for_each_item(self) -> None:
        """AS-83: what one run waits for is one list; its items are decided one by one or several at once, all or none."""
        guard = self.guard(PAY)
        reply = [("pay", n) for n in (1, 2, 3)]
        assert self.play(guard, reply) is None
        batch = {waits.arguments["amount"]: waits.id for waits in guard.approvals.list(run_id=guard.runs.list()[0].run_id)}
        assert sorted(batch) == [1, 2, 3]
        guard.approvals.deny(batch[2], by="maria")
        with pytest.raises(IntegrityError, match="is denied by maria"):
            guard.approvals.approve(batch[1], batch[2], by="maria")
        assert guard.approvals.show(batch[1]).state == "pending"
        guard.approvals.approve(batch[1], batch[3], by="maria")
        told = self.play(guard, reply)
        assert told is not None
        assert [told[0], told[2]] == ["pay 1", "pay 3"]
        assert "maria denied it" in told[1]
        assert sorted(self.effects.all()) == [["pay", 1], ["pay", 3]]

    def test_as_83_grants_are_scoped_counted_and_revocable(self) -> None:
        """AS-83: a grant allows what it names, as often as it says and until it is revoked; a deny of the policy always wins."""
        guard = self.guard("tools: [{tool: [pay, rm], decision: approve}, {tool: rm, decision: deny}]\n")
        guard.approvals.grant("pay", when="args.amount < 100", uses=2, expires=60, by="maria")
        guard.approvals.grant("rm", expires=60, by="maria")
        replies = [[("rm", 1)], [("pay", 1)], [("pay", 500)], [("pay", 2)], [("pay", 3)]]
        assert self.play(guard, *replies) is None  # 500 is not what was granted
        assert self.effects.all() == [["pay", 1]]
        [waits] = guard.approvals.list()
        guard.approvals.deny(waits.id, by="maria")
        assert self.play(guard, *replies) is None  # the second use was the last one
        assert self.effects.all() == [["pay", 1], ["pay", 2]]
        assert sorted(grant.used for grant in guard.approvals.grants()) == [0, 2]
        again = guard.approvals.grant("pay", expires=60, by="maria")
        guard.approvals.revoke(again.id, by="maria")
        assert self.play(guard, *replies) is None
        guard.approvals.grant("pay", run_id=guard.runs.list()[0].run_id, expires=60, by="maria")
        told = self.play(guard, *replies)
        assert told is not None
        assert "says deny" in told[0]
        assert told[1::2] == ["pay 1", "pay 2"]
        assert self.effects.count("rm") == 0

    # --- plugins

    @pytest.mark.parametrize("answer", [RuntimeError("down"), None, True], ids=["raises", "returns None", "returns True"])
    def test_as_46_a_broken_policy_plugin_denies(self, answer: Any) -> None:
        """AS-46: a gate that raises, or returns what is no decision: the unsafe tool does not run, declared reads do, the model is told."""
        guard = self.guard("tools: [{tool: pay, effect: unsafe}, {tool: look, effect: read}]", gates=[Broken(answer)])
        told = self.play(guard, [("pay", 5)], [("look", 1)])
        assert told is not None
        assert "policy_unavailable" in told[0]
        assert told[1] == "look 1"
        assert self.effects.all() == [["look", 1]]

    def test_as_46_a_policy_plugin_that_does_not_answer_in_time_denies(self) -> None:
        """AS-46: a gate that hangs is waited for as long as it says; then the unsafe tool does not run, and the model is told."""
        never = threading.Event()

        class Hangs(Gate):
            timeout = 0.05

            def check(self, call: Call) -> Any:
                return never.wait(60)

        told = self.play(self.guard("tools: [{tool: pay, effect: unsafe}]", gates=[Hangs()]), [("pay", 5)])
        never.set()
        assert told is not None
        assert "policy_unavailable" in told[0]
        assert self.effects.all() == []

    def test_as_47_a_call_waits_for_a_gate_that_takes_its_time(self) -> None:
        """AS-47: a gate that takes its time and then says no is waited for: counter 0 while it thinks, and after."""
        seen: list[int] = []

        class Late(Gate):
            def check(_self, call: Call) -> Any:  # noqa: N805 - the scenario is self
                seen.append(self.effects.count("pay"))
                return Deny("the guardrail tripped")

        told = self.play(self.guard("tools: [{tool: pay, effect: unsafe}]", gates=[Late()]), [("pay", 5)])
        assert told is not None
        assert "the guardrail tripped" in told[0]
        assert (seen, self.effects.count("pay")) == ([0], 0)

    def test_as_46_an_admission_that_is_broken_denies(self) -> None:
        """AS-46, I16: what has the last word and raises lets nothing run; what raises after the yes undoes the claim, body not entered."""

        class Spends(Admission):
            def admit(self, *_: Any) -> Any:
                return Allow()

            def spend(self, *_: Any) -> None:
                raise IntegrityError("the counter is gone")

        guard = self.guard("default: allow")
        guard.admissions = [*guard.admissions, Spends()]
        with pytest.raises(IntegrityError, match="the counter is gone"):
            self.play(guard, [("pay", 5)])
        assert self.effects.all() == []

    # --- what models used

    def test_usage_is_limited_and_attributed_once(self) -> None:
        """What models report counts once for each real reply, by agent, step, tool and model; a replay counts nothing (AS-35)."""
        guard = self.guard("budgets: [{tokens: 25}]\nprices: [{model: 'm*', input: 10.0, output: 100.0}]")
        replies = [[("pay", n)] for n in range(9)]
        assert self.refused(lambda: self.play(guard, *replies)) == {**_TOKENS, "used": 30}
        assert self.refused(lambda: self.play(guard, *replies)) == {**_TOKENS, "used": 30}
        assert self.effects.count("pay") == 2
        found = cost(guard, guard.runs.list()[0].run_id)
        assert sum(used.replies for used in found) == 3
        assert (sum(used.input_tokens for used in found), sum(used.output_tokens for used in found)) == (21, 9)
        assert sum(used.cost_usd for used in found) == pytest.approx(3 * (7 * 10 + 3 * 100) / 1_000_000)
        assert {(used.model, bool(used.agent), bool(used.step), used.tenant) for used in found} == {("m1", True, True, "default")}
        assert [used.model for used in grouped(found, "model")] == ["m1"]

    # --- sandboxes

    @pytest.mark.parametrize("policy", SANDBOXED)
    def test_a_sandbox_that_is_not_installed_denies(self, policy: str) -> None:
        """``sandbox:`` fails closed: no executor of that name, no call; the model is told which entry says so, and others run."""
        told = self.play(self.guard(SANDBOXED[policy]), [("pay", 5)], [("note", 1)])
        assert told is not None
        assert "no executor of that name is installed" in told[0]
        assert "tools[0]" in told[0]
        assert self.effects.all() == [["note", 1]]

    @pytest.mark.parametrize("policy", SANDBOXED)
    def test_a_sandbox_runs_the_body_elsewhere(self, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An installed executor runs the call, once, in a process of its own; the body here is not entered, and a resume replays it."""
        monkeypatch.setitem(EXECUTORS, "jail", lambda: Jail(self.folder))
        guard = self.guard(SANDBOXED[policy])
        with pytest.raises(Exception, match="HTTP 500"):
            self.play(guard, [("pay", 5)], [("note", 1)], fails_after=2)
        assert self.play(guard, [("pay", 5)], [("note", 1)]) == ["jailed 5", "note 1"]
        assert self.effects.all() == [["jail", 5], ["note", 1]]
        assert [call.state for call in guard.calls.list() if call.tool == "pay"] == ["committed"]

    # --- secrets

    def test_as_67_secrets_are_in_no_file_and_dedup_works(self) -> None:
        """AS-67: a secret in arguments, results and errors is in no file of the store, nor in what the ledger shows; one effect each."""
        surefoot.register_secret(CANARY, name="key")
        self.bodies["pay"] = lambda amount: f"token {CANARY}" if amount else f"nothing {amount}"
        guard = self.guard("default: allow")
        replies: list[Reply] = [[("pay", 1)], [("pay", 0)]]
        with pytest.warns(surefoot.SurefootWarning, match="its result cannot be replayed"), pytest.raises(Exception, match="HTTP 500"):
            self.play(guard, *replies, fails_after=2)
        self.play(guard, *replies)
        assert [self.effects.count("pay", amount) for amount in (1, 0)] == [1, 1]
        shown = repr([*guard.calls.list(), *guard.runs.list(), *(e for run in guard.runs.list() for e in guard.runs.events(run.run_id))])
        assert CANARY not in shown
        guard.close()
        stored = list(self.folder.glob("surefoot.db*"))
        assert stored
        assert [file.name for file in stored if CANARY.encode() in file.read_bytes()] == []

    def test_as_67_negative_control_an_unregistered_secret_is_found(self) -> None:
        """The same search finds the secret that nobody registered."""
        self.bodies["pay"] = lambda amount: f"token {CANARY}"
        guard = self.guard("default: allow")
        self.play(guard, [("pay", 1)])
        guard.close()
        assert [file.name for file in self.folder.glob("surefoot.db*") if CANARY.encode() in file.read_bytes()]

    def test_as_68_a_result_with_a_secret_is_withheld(self) -> None:
        """AS-68: resumed, a result that could not be stored is withheld in plain words, or stops the run; never half of it as the truth."""
        surefoot.register_secret(CANARY, name="key")
        self.bodies["pay"] = lambda _amount: f"token {CANARY} of nine"
        guard = self.guard("default: allow")
        with pytest.warns(surefoot.SurefootWarning, match="its result cannot be replayed"), pytest.raises(Exception, match="HTTP 500"):
            self.play(guard, [("pay", 1), ("note", 2)], fails_after=1)
        try:
            told = self.play(guard, [("pay", 1), ("note", 2)])
        except ResultUnavailable as withheld:
            told = [str(withheld)]
        assert told is not None
        assert told[0] == f"token {CANARY} of nine" or ("must be redacted" in told[0] and "of nine" not in told[0])
        assert "[redacted" not in " ".join(told)
        assert self.effects.count("pay") == 1

    def test_as_68_a_result_with_a_redacted_argument_is_withheld(self) -> None:
        """AS-67, AS-68: the value of an argument that ``redact:`` names is not in its call's row, wherever the tool put it; one effect."""
        card = 4111_2222_3333
        self.bodies["pay"] = lambda amount: f"charged {amount} of nine"
        guard = self.guard("tools: [{tool: pay, effect: unsafe, redact: [amount]}]")
        with pytest.warns(surefoot.SurefootWarning, match="its result cannot be replayed"), pytest.raises(Exception, match="HTTP 500"):
            self.play(guard, [("pay", card), ("note", 2)], fails_after=1)
        with contextlib.suppress(ResultUnavailable):
            self.play(guard, [("pay", card), ("note", 2)])
        assert str(card) not in repr(guard.calls.list())
        assert self.effects.count("pay") == 1


def main(folder: str, module: str) -> None:
    """Play an agent with a budget of four calls that is killed in the body of its third payment."""
    path = Path(module)
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    played: Governed = loaded.TestGoverned()
    played.start(Path(folder))
    played.bodies["pay"] = lambda amount: os.kill(os.getpid(), signal.SIGKILL) if amount == 2 else f"pay {amount}"
    played.play(played.guard("budgets: [{calls: 4}]"), *[[("pay", n)] for n in range(7)])
    print(json.dumps("not killed"))


if __name__ == "__main__":
    main(*sys.argv[1:])
