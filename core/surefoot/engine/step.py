"""The step protocol: recorded output, or attempt → verify → commit; the framework sees only what is committed."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot.engine import holds, outcomes
from surefoot.engine.claims import fence
from surefoot.engine.frames import Frame, LiveRun, inside
from surefoot.engine.program import Do, Pause, Program, Tx
from surefoot.engine.verify import judge
from surefoot.errors import NotStorable, VerificationFailed
from surefoot.types import Checkpoint, StepOutput, StepRule, Verdict, VerdictStatus

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard
    from surefoot.engine.unit import Unit

__all__ = ["StepSpec", "step"]

_ATTEMPTS: Final = "attempts"


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class _Past:
    memo: Checkpoint | None
    reentered: bool
    attempt: int
    hint: str
    floor: int


def step(guard: Guard, spec: StepSpec, body: Callable[[Frame], Do]) -> Program[Any]:
    """Return the recorded output of a step, or run it until an attempt passes, and commit that.

    Raises :class:`~surefoot.VerificationFailed` when the attempts are used up, and whatever the body raises.
    """
    rule = guard.step_rule(spec.name)
    past: _Past = yield Tx(partial(_look, spec=spec, verified=rule.verifier is not None), write=False)
    if past.memo is not None and past.memo.output is not None:
        yield Tx(lambda unit: unit.emit(spec.run.record.run_id, "step.replayed", step=spec.path))
        return guard.codec.loads(past.memo.output)
    attempt, hint, floor = past.attempt, past.hint, past.floor
    while True:
        frame = _open(spec, attempt, hint, floor, reentered=past.reentered or attempt > past.attempt)
        output = yield from _attempt(guard, frame, body)
        verdict = yield from _verify(guard, spec, rule, frame, output)
        if verdict is None or verdict.status is VerdictStatus.PASS:
            yield from _commit(guard, spec, frame, output, verdict)
            return output
        retry = rule.retry or guard.retry
        floor = spec.run.next_entry()
        yield Tx(partial(_rejected, spec=spec, attempt=attempt, verdict=verdict, floor=floor))
        if attempt >= retry.max_attempts:
            why = f"{verdict.status}, {verdict.error_class or verdict.reason}"
            msg = f"step {spec.path} did not pass its verifier in {attempt} attempts (last: {why}); nothing of it was committed"
            raise VerificationFailed(msg, run_id=spec.run.record.run_id)
        yield Pause(retry.wait(attempt, random.random()))  # noqa: S311 - jitter, not a secret
        if verdict.status is VerdictStatus.FAIL:
            hint = verdict.hint or f"The last output was rejected: {verdict.error_class}."
        attempt += 1


def _look(unit: Unit, spec: StepSpec, *, verified: bool) -> _Past:
    run_id = spec.run.record.run_id
    floor = max((frame.floor for frame in spec.parent.chain()), default=0) if spec.parent else 0
    found = [c for c in unit.checkpoints.at(run_id, spec.path) if c.branch == spec.branch and c.digest == spec.digest and c.entry > floor]
    record = unit.records.get(_ATTEMPTS, f"{run_id}/{spec.path}") if verified else None
    state: dict[str, Any] = record.value if record else {"attempt": 1, "hint": "", "floor": 0}
    memo = found[-1] if found else None
    return _Past(memo, unit.calls.touches(spec.run.scope, spec.path), state["attempt"], state["hint"], state["floor"])


def _open(spec: StepSpec, attempt: int, hint: str, floor: int, *, reentered: bool) -> Frame:
    """Open an entry. The first task of a shared slot space decides for its siblings."""
    run = spec.run
    known = run.shared.get(spec.path) if spec.shared else None
    if known is not None and known.attempt == attempt and known.parent is spec.parent:
        return known
    frame = Frame(run, spec.parent, spec.path, run.next_entry(), spec.name, attempt, hint, floor, reentered)
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


def _verify(guard: Guard, spec: StepSpec, rule: StepRule, frame: Frame, output: Any) -> Program[Verdict | None]:
    verifier = guard.verifier(rule)
    if verifier is None:
        return None
    run_id = spec.run.record.run_id

    def evidence(unit: Unit) -> tuple[Any, Any]:
        receipts = [r for r in unit.calls.under(spec.run.scope, spec.path) if r.touched >= frame.entry]
        return receipts, unit.checkpoints.list(run_id)

    receipts, earlier = yield Tx(evidence, write=False)
    judged = StepOutput(run_id, spec.path, spec.name, rule.goal, frame.attempt, spec.input, output, receipts, earlier)
    return (yield from judge(verifier, judged))


def _commit(guard: Guard, spec: StepSpec, frame: Frame, output: Any, verdict: Verdict | None) -> Program[None]:
    """Append the checkpoint; nothing commits in a held run, and nothing from a superseded entry."""
    try:
        text = guard.codec.dumps(output, whole=True) if spec.digest is not None else None
    except NotStorable:
        text = None
    run_id = spec.run.record.run_id

    def work(unit: Unit) -> Exception | None:
        fence(unit, frame)
        if (hold := holds.get(unit, run_id)) is not None:
            return holds.error(unit, run_id, hold)
        stored = json.dumps(dataclasses.asdict(verdict)) if verdict else "null"
        checkpoint = Checkpoint(
            run_id, spec.path, spec.branch, frame.entry, frame.attempt, spec.digest or "", text, stored, spec.mark, unit.now
        )
        unit.checkpoints.append(checkpoint)
        unit.emit(run_id, "step.committed", step=spec.path, attempt=frame.attempt, memo=text is not None)
        if verdict is not None:
            unit.records.delete(_ATTEMPTS, f"{run_id}/{spec.path}")
        return None

    held = yield Tx(work)
    if held is not None:
        raise spec.run.stop(held)


def _rejected(unit: Unit, spec: StepSpec, attempt: int, verdict: Verdict, floor: int) -> None:
    run_id = spec.run.record.run_id
    key = f"{run_id}/{spec.path}"
    hint = verdict.hint if verdict.status is VerdictStatus.FAIL else ""
    unit.records.put(_ATTEMPTS, key, {"attempt": attempt + 1, "hint": hint, "floor": floor})
    unit.emit(
        run_id,
        "step.rejected",
        step=spec.path,
        attempt=attempt,
        verdict=str(verdict.status),
        error_class=verdict.error_class,
        hint=verdict.hint,
        reason=verdict.reason,
    )
