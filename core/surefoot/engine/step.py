"""The step protocol: recorded output, or attempt → verify → commit; the framework sees only what is committed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot.engine import holds, outcomes
from surefoot.engine.claims import fence
from surefoot.engine.frames import Frame, LiveRun, inside
from surefoot.engine.matching import passed
from surefoot.engine.program import Do, Pause, Program, Tx
from surefoot.engine.verify import OnDemand, judge
from surefoot.errors import NotStorable, VerificationFailed
from surefoot.types import Checkpoint, StepOutput, StepRule, Verdict, VerdictStatus

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["StepSpec", "rejected", "step"]

_ATTEMPTS: Final = "attempts"
_FIRST: Final[dict[str, Any]] = {"attempt": 1, "hint": "", "floor": 0}
_VERDICT: Final = [field.name for field in fields(Verdict)]


@dataclass(slots=True, eq=False, repr=False)
class StepSpec:
    """One execution of a step, as the adapter identifies it."""

    run: LiveRun
    parent: Frame | None
    path: str
    """Path of its slots; fan-out branches that share a slot space share it."""
    name: str
    input: Any
    digest: str | None
    """Digest of the input, or ``None`` where it cannot be digested: then there is no memo."""
    branch: str = ""
    """Fan-out branch, where ``path`` does not tell it already."""
    shared: bool = False
    """Parallel tasks of one super-step share its slots and its entry."""
    mark: int | None = None
    """The framework's own step counter."""
    rule: StepRule | None = None
    """The rule in force, where it is not the guard's."""


def step(guard: Guard, spec: StepSpec, body: Callable[[Frame], Do]) -> Program[Any]:
    """Return the recorded output of a step, or run it until an attempt passes, and commit that.

    Raises :class:`~surefoot.VerificationFailed` when the attempts are used up or nobody can judge, and whatever the body raises.
    """
    rule = spec.rule or guard.step_rule(spec.name)
    memo, reentered, past = None, False, _FIRST
    if spec.run.resumed or spec.path in spec.run.entries:  # else no entry of it can have left anything
        memo, reentered, past = yield Tx(partial(_look, spec=spec, verified=rule.verifier is not None), write=False)
    if memo is not None and memo.output is not None:
        yield Tx(partial(_replayed, spec=spec))
        return guard.codec.loads(memo.output)
    attempt, hint, floor = past["attempt"], past["hint"], past["floor"]
    retry = rule.retry or guard.retry
    while True:
        frame = _open(spec, attempt, hint, floor, reentered=reentered or attempt > past["attempt"])
        output = yield from _attempt(guard, frame, body)
        verdict = yield from _verify(guard, spec, rule, frame, output, memo := _memo(guard, output))
        if verdict is None or verdict.status is VerdictStatus.PASS:
            yield from _commit(spec, frame, memo, verdict)
            return output
        floor = spec.run.next_entry()
        yield Tx(partial(_rejected, spec=spec, attempt=attempt, verdict=verdict, floor=floor))
        if attempt >= retry.max_attempts or verdict.status is VerdictStatus.UNVERIFIED:
            why = f"{verdict.status}, {verdict.error_class or verdict.reason}"
            msg = f"step {spec.path} did not pass its verifier in {attempt} attempts (last: {why}); nothing of it was committed"
            raise VerificationFailed(msg, run_id=spec.run.record.run_id)
        yield Pause(retry.wait(attempt, os.urandom(1)[0] / 256))
        hint = verdict.hint or f"The last output was rejected: {verdict.error_class}."
        attempt += 1


def _replayed(unit: Unit, spec: StepSpec) -> None:
    unit.emit(spec.run.record.run_id, "step.replayed", step=spec.path)
    passed(unit, unit.calls.under(spec.run.scope, spec.path), spec.run.next_entry(), rejected(spec.parent))


def rejected(frame: Frame | None) -> int:
    """Return the last entry of the rejected attempts around ``frame``."""
    return max((around.floor for around in frame.chain()), default=0) if frame else 0


def _look(unit: Unit, spec: StepSpec, *, verified: bool) -> tuple[Checkpoint | None, bool, dict[str, Any]]:
    """Return the step's memo, whether it has calls already, and what its rejected attempts left."""
    run_id = spec.run.record.run_id
    floor = rejected(spec.parent)
    found = [c for c in unit.checkpoints.at(run_id, spec.path) if c.branch == spec.branch and c.digest == spec.digest and c.entry > floor]
    record = unit.records.get(_ATTEMPTS, f"{run_id}/{spec.path}") if verified else None
    return (found[-1] if found else None), unit.calls.touches(spec.run.scope, spec.path), record.value if record else _FIRST


def _open(spec: StepSpec, attempt: int, hint: str, floor: int, *, reentered: bool) -> Frame:
    """Open an entry. The first task of a shared slot space decides for its siblings."""
    run = spec.run
    known = run.shared.get(spec.path) if spec.shared else None
    if known is not None and known.attempt == attempt and known.parent is spec.parent:
        return known
    frame = Frame(run, spec.parent, spec.path, run.next_entry(), spec.name, attempt, hint, floor, reentered)
    frame.deadline = spec.parent.deadline if spec.parent is not None else None
    run.entries[spec.path] = frame.entry
    if spec.shared:
        run.shared[spec.path] = frame
    return frame


def _attempt(guard: Guard, frame: Frame, body: Callable[[Frame], Do]) -> Program[Any]:
    try:
        return (yield inside(frame, body(frame)))
    except Exception as exc:
        chain = _causes(exc)
        ids = [call_id for call_id, error in frame.raised.items() if error in chain]
        if ids and not guard.suspends(exc):
            yield Tx(lambda unit: outcomes.escaped(unit, ids))
        raise


def _causes(exc: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while exc is not None and exc not in chain:
        chain.append(exc)
        exc = exc.__cause__ or exc.__context__
    return chain


def _verify(guard: Guard, spec: StepSpec, rule: StepRule, frame: Frame, output: Any, before: str | None) -> Program[Verdict | None]:
    if (verifier := guard.verifier(rule)) is None:
        return None
    run_id, scope = spec.run.record.run_id, spec.run.scope
    made = (run_id, spec.path, spec.name, rule.goal, frame.attempt, spec.input, output)
    receipts = OnDemand(guard.transact, lambda unit: [row for row in unit.calls.under(scope, spec.path) if row.touched >= frame.entry])
    earlier = OnDemand(guard.transact, lambda unit: unit.checkpoints.list(run_id, limit=sys.maxsize))
    ledger = OnDemand(
        guard.transact, lambda unit: [row for run in {run_id: 0, scope: 0} for row in unit.calls.list(run_id=run, limit=sys.maxsize)]
    )
    judged = StepOutput(*made, receipts, earlier, ledger, rule.criticality)
    retry, asked = rule.retry or guard.retry, 0
    while True:  # another try of the judge, not of the step (AS-51)
        asked += 1
        verdict = yield from judge(verifier, judged)
        if _memo(guard, output) != before:
            return Verdict.failed("CHANGED", "Answer again.", reason=f"{type(verifier).__name__} changed the output that it judged")
        if verdict.status is not VerdictStatus.UNVERIFIED or asked >= retry.max_attempts:
            return verdict
        yield Pause(retry.wait(asked, os.urandom(1)[0] / 256))


def _memo(guard: Guard, output: Any) -> str | None:
    try:
        return guard.codec.dumps(output, whole=True)
    except NotStorable:
        return None


def _commit(spec: StepSpec, frame: Frame, memo: str | None, verdict: Verdict | None) -> Program[None]:
    """Append the checkpoint; nothing commits in a held run, and nothing from a superseded entry."""
    run_id, text = spec.run.record.run_id, memo if spec.digest is not None else None

    def work(unit: Unit) -> Exception | None:
        fence(unit, frame)
        if (hold := holds.get(unit, run_id)) is not None:
            return holds.error(unit, run_id, hold)
        stored = unit.clean(json.dumps({name: getattr(verdict, name) for name in _VERDICT})) if verdict else "null"
        place, came = (run_id, spec.path, spec.branch, frame.entry, frame.attempt), (spec.mark, unit.now)
        unit.checkpoints.append(Checkpoint(*place, spec.digest or "", text, stored, *came))
        unit.emit(run_id, "step.committed", step=spec.path, attempt=frame.attempt, memo=text is not None)
        if frame.attempt > 1:
            unit.records.delete(_ATTEMPTS, f"{run_id}/{spec.path}")
        return None

    if (held := (yield Tx(work))) is not None:
        raise spec.run.stop(held)


def _rejected(unit: Unit, spec: StepSpec, attempt: int, verdict: Verdict, floor: int) -> None:
    run_id = spec.run.record.run_id
    if verdict.status is VerdictStatus.FAIL:
        unit.records.put(_ATTEMPTS, f"{run_id}/{spec.path}", {"attempt": attempt + 1, "hint": unit.clean(verdict.hint), "floor": floor})
    why = {name: getattr(verdict, name) for name in ("error_class", "hint", "reason")}
    unit.emit(run_id, "step.rejected", step=spec.path, attempt=attempt, verdict=str(verdict.status), **why)
