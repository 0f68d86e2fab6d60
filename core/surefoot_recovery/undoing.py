"""Rolling a run back: plan, refuse or begin, compensate the newest first, restore the state. Safe to kill and to repeat.

A rollback is a run of its own, ``<run>~<n>``, so that each compensation is a governed call with an intent before it and an outcome
after it (I19). The run that is undone is held meanwhile. Killed, the same command goes on: what is compensated is not asked for again,
and a compensation that was under way is in doubt until somebody settles it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from surefoot import (
    CallRecord,
    CallState,
    Effect,
    Guard,
    InDoubt,
    InFlight,
    NotFound,
    ResultUnavailable,
    RunRecord,
    RunStatus,
    SurefootError,
    ToolRule,
    UsageError,
)
from surefoot._api import declared_rule
from surefoot.engine import doubt, holds
from surefoot.engine.call import call
from surefoot.engine.claims import Request, as_call
from surefoot.engine.frames import Frame, LiveRun, here
from surefoot.engine.key import element
from surefoot.engine.program import Do, Program, Tx
from surefoot.engine.run import RunSpec, load, release, save, take
from surefoot.engine.transitions import CallEvent
from surefoot.engine.unit import Unit
from surefoot_recovery.plan import ROLLED_BACK, History, Item, Plan, made
from surefoot_recovery.refusing import check_log, check_run

__all__ = ["Rewinds", "RollbackRefused", "Undone", "adapter_of", "rollback", "shown"]

_NAMESPACE: Final = "rollbacks"
"""Records by run: how many rollbacks it had, and whether the last one is under way."""


class RollbackRefused(SurefootError):
    """The rollback could not be completed, so nothing of it was begun (AS-71). ``plan`` says what stands in its way."""

    code = "rollback_refused"

    def __init__(self, plan: Plan) -> None:
        left = "; ".join(f"{item.tool} ({item.call_id}): {item.why}" for item in plan.blocking)
        msg = f"run {plan.run_id} was not rolled back, because this cannot be undone: {left}"
        super().__init__(f"{msg}. Declare compensate=, or undo the rest: --partial", run_id=plan.run_id)
        self.plan = plan


@runtime_checkable
class Rewinds(Protocol):
    """An adapter whose framework keeps the state of a run itself, and can take it back."""

    name: str
    """The adapter's."""

    @abstractmethod
    def rewind(self, target: Any, run: RunRecord, mark: int | None) -> Do:
        """Return what makes the state after the super-step ``mark`` the newest one of the run; ``None``: the one before the run."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of a rollback."""

    plan: Plan
    status: str
    """``rolled_back``: the run can be resumed from the step; ``compensated``: it is undone and has ended, but for what is
    :attr:`left`; ``compensation_failed``."""
    compensated: tuple[str, ...]
    """Ids of the calls that are undone now, in the order in which they were."""
    failed: tuple[str, ...] = ()
    """Ids of the calls whose compensation failed: they stand."""
    left: tuple[str, ...] = ()
    """Ids of the calls that were not undone, whatever the reason."""


def rollback(
    guard: Guard, run_id: str, *, to: str | None = None, partial: bool = False, plan: bool = False, by: str, app: Any = None
) -> Plan | Undone:
    """Undo what a run did after step ``to``, or all of it; the newest effect first, each at most once (AS-70 - AS-72, I18, I19).

    :param to: path (``draft#1``) or name of the committed step that stays. The run can then be resumed: what stays is replayed, the
        rest runs anew. ``None``: nothing stays, and the run has ended.
    :param partial: undo what can be undone; the rest is listed in :attr:`Undone.left` and stands.
    :param plan: only return the :class:`Plan`. Nothing is written.
    :param by: who says so; recorded.
    :param app: the wrapped object, where its framework keeps the state (LangGraph with a checkpointer).

    Raises :class:`RollbackRefused`, or :class:`~surefoot.InDoubt` where an effect is in doubt, before anything is undone;
    :class:`~surefoot.InFlight` while the run is under way; :class:`~surefoot.NotFound` for an unknown run or step;
    :class:`~surefoot.UsageError` where a later run of the thread or a branch stands on it, and inside of a run;
    :class:`~surefoot.ResultUnavailable` where retention has removed what the run did.
    """
    if plan:
        return shown(guard, run_id, to, app)
    if here() is not None:
        raise UsageError(f"run {run_id} cannot be rolled back from inside of a run, whose end it would wait for; do it after that")
    done: Undone = guard.drive(_rolled_back(guard, run_id, to, by, app, whole=not partial))
    return done


def adapter_of(guard: Guard, run: RunRecord, app: Any) -> Any:
    """Return the adapter that a run was made with, after it has made the run's tools known to the guard."""
    adapter = next((one for one in guard.plugins.adapters() if one.name == run.adapter), None)
    if app is not None and adapter is not None and not adapter.matches(app):
        raise UsageError(f"run {run.run_id} was made with {run.adapter}, which does not know what was given as the app")
    return adapter


def _introduced(guard: Guard, run: RunRecord, app: Any) -> Any:
    adapter = adapter_of(guard, run, app)
    introduce: Callable[[Guard, set[str]], None] | None = getattr(adapter, "introduce", None)
    if introduce is not None:
        introduce(guard, {row.tool for row in guard.calls.list(run_id=run.run_id, limit=1_000_000)})
    return adapter


def shown(guard: Guard, run_id: str, to: str | None, app: Any = None) -> Plan:
    """Return the plan of a rollback; nothing is written."""
    run = guard.runs.show(run_id)
    _introduced(guard, run, app)

    def work(unit: Unit) -> Plan:
        check_log(unit, run)
        return made(guard, run, History(unit, run, to))

    plan: Plan = guard.transact(Tx(work, write=False))
    return plan


# --- the protocol


def _rolled_back(guard: Guard, run_id: str, to: str | None, by: str, app: Any, *, whole: bool) -> Program[Undone]:
    run = guard.runs.show(run_id)
    rewinding = _rewinding(_introduced(guard, run, app), run, app)
    spec = RunSpec("rollback", run.tenant, run.thread or f"rollback:{run_id}", "resume", None, "")
    taken = yield from take(guard, spec)
    try:
        yield from doubt.recover(guard, run_id)
        begun: _Begun = yield Tx(partial(_begin, guard=guard, run_id=run_id, to=to, by=by, whole=whole))
        live = LiveRun(guard, begun.run, begun.run.run_id, taken.lease, lambda error: error)
        frame = Frame(live, None, element("rollback", 1), live.next_entry(), "rollback")
        undone: list[str] = []
        failed: list[str] = []
        for item in begun.plan.items:
            if item.fate == "compensable":
                worked = yield from _compensated(guard, frame, item)
                (undone if worked else failed).append(item.call_id)
                if not worked and whole:
                    break
        stuck = bool(failed) and whole
        if rewinding is not None and not stuck:
            yield rewinding(begun.mark)
        done = Undone(begun.plan, _status(to, failed), tuple(undone), tuple(failed), _left(begun.plan, undone))
        yield Tx(partial(_finish, begun=begun, done=done, run_id=run_id, to=to, stuck=stuck))
        return done
    finally:
        yield from release(guard, taken.lease)


def _rewinding(adapter: Any, run: RunRecord, app: Any) -> Callable[[int | None], Do] | None:
    if not isinstance(adapter, Rewinds):
        return None
    if app is None:
        raise UsageError(f"{adapter.name} keeps the state of run {run.run_id} itself: give the wrapped object (app=, --app module:object)")
    return partial(adapter.rewind, app, run)


def _status(to: str | None, failed: list[str]) -> str:
    return "compensation_failed" if failed else "compensated" if to is None else "rolled_back"


def _left(plan: Plan, undone: list[str]) -> tuple[str, ...]:
    return tuple(item.call_id for item in plan.items if item.call_id not in undone and item.fate != "raised")


@dataclass(frozen=True, slots=True)
class _Begun:
    plan: Plan
    run: RunRecord
    """The rollback's own."""
    mark: int | None


def _begin(unit: Unit, guard: Guard, run_id: str, to: str | None, by: str, *, whole: bool) -> _Begun:
    """Refuse the rollback, or write that it is under way: from here on the run is held until it has ended."""
    run = load(unit, run_id)
    if run is None:
        raise NotFound(f"there is no run {run_id}; 'surefoot runs list' shows what there is", run_id=run_id)
    check_run(unit, guard, run)
    known = unit.records.get(_NAMESPACE, run_id)
    under_way = known is not None and known.value["under_way"]
    if known is not None and under_way and known.value["to"] != to:
        raise UsageError(f"a rollback of run {run_id} is under way; finish it first: {_command(run_id, known.value['to'])}")
    history = History(unit, run, to)
    plan = made(guard, run, history)
    _refuse(plan, whole=whole)
    number = (known.value["number"] if known else 0) + (0 if under_way else 1)
    own = RunRecord(f"{run_id}~{number}", run.tenant, None, number, RunStatus.OPEN, "", "rollback", created=unit.now)
    unit.records.put(_NAMESPACE, run_id, {"number": number, "under_way": True, "to": to})
    if not under_way:
        save(unit, own)
        unit.emit(own.run_id, "run.opened", adapter="rollback", of=run_id)
        save(unit, replace(run, status=RunStatus.OPEN, ended=None, reason="a rollback of it is under way"))
    holds.place(unit, run_id, own.run_id, f"a rollback of it is under way; finish it: {_command(run_id, to)}")
    told: dict[str, Any] = {"fates": {item.call_id: item.fate for item in plan.items}, "steps": list(plan.steps)}
    unit.emit(run_id, "run.rollback_begun", to=plan.to, by=by, rollback=own.run_id, **told)
    return _Begun(plan, own, history.last.mark if history.last else None)


def _command(run_id: str, to: str | None) -> str:
    """Return what to type."""
    return f"surefoot runs rollback {run_id}{f' --to {to}' if to is not None else ''}"


def _refuse(plan: Plan, *, whole: bool) -> None:
    for item in plan.items:
        if item.fate == "running":
            raise InFlight(f"{item.tool} ({item.call_id}) of run {plan.run_id} still runs; wait for it, or stop it", call_id=item.call_id)
    for item in plan.blocking if whole else ():
        if item.fate == "in_doubt":
            msg = f"run {plan.run_id} was not rolled back: {item.tool} ({item.call_id}) is in doubt ({item.why}); settle it, or --partial"
            raise InDoubt(msg, call_id=item.call_id, run_id=plan.run_id)
    if whole and plan.blocking:
        raise RollbackRefused(plan)


def _compensated(guard: Guard, frame: Frame, item: Item) -> Program[bool]:
    """Undo one call as a governed call; return whether it is undone. What stops calls in general stops the rollback."""
    row: CallRecord = yield Tx(lambda unit: unit.calls.get(item.call_id), write=False)
    undo, tool = guard.rule(row.tool).compensate, f"undo:{row.tool}"
    assert undo is not None  # noqa: S101 - else it is not compensable
    assert row.arguments is not None and row.value is not None  # noqa: S101, PT018 - as above
    rule = declared_rule(undo) or ToolRule(effect=Effect.UNSAFE)
    guard.register(tool, f"{getattr(undo, '__module__', '')}.{getattr(undo, '__qualname__', undo)}", rule)
    arguments, value = guard.codec.loads(row.arguments), guard.codec.loads(row.value)
    given = {"call_id": row.call_id, "entry": row.entry, "arguments": arguments}
    key = hashlib.sha256(json.dumps(["undo", row.tenant, row.call_id, row.run_id, row.entry]).encode()).hexdigest()
    try:
        yield from call(guard, frame, Request(tool, given, undo, key=key), Do(partial(undo, as_call(row, arguments), value)))
    except ResultUnavailable as exc:
        made_before = exc.call_id or ""
        known: CallRecord | None = yield Tx(lambda unit: unit.calls.get(made_before), write=False)
        if known is None or known.state is CallState.TOMBSTONE:
            raise  # how it ended is forgotten
    except SurefootError:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever the compensation raises, it says that it did not work
        yield Tx(partial(_moved, row=row, event=CallEvent.COMPENSATION_FAILED, reason=guard.redact(f"{type(exc).__name__}: {exc}")[:500]))
        return False
    yield Tx(partial(_moved, row=row, event=CallEvent.COMPENSATED, reason=""))
    return True


def _moved(unit: Unit, row: CallRecord, event: CallEvent, reason: str) -> None:
    now = unit.calls.get(row.call_id)
    if now is not None and (now.state is CallState.COMMITTED or event is CallEvent.COMPENSATED):
        unit.move(now, event, reason=reason)


def _finish(unit: Unit, begun: _Begun, done: Undone, run_id: str, to: str | None, *, stuck: bool) -> None:
    """Make what stays the newest state and let the run go on, or leave it held where its compensation failed."""
    run = load(unit, run_id)
    assert run is not None  # noqa: S101 - it was there when the rollback began
    status, ended = RunStatus.OPEN, None
    if done.failed:
        status = RunStatus.COMPENSATION_FAILED
    elif to is None:
        status = RunStatus.COMPENSATED
    if to is None and not stuck:
        ended = unit.now
        _keep(unit, run, done.left)
    if not stuck:
        _forget(unit, run, to)
        holds.lift(unit, begun.run.run_id, {run_id})
        unit.records.put(_NAMESPACE, run_id, {"number": begun.run.ordinal, "under_way": False, "to": to})
        save(unit, replace(begun.run, status=RunStatus.COMPLETED, ended=unit.now))
        unit.emit(begun.run.run_id, "run.ended", status="completed")
    save(unit, replace(run, status=status, ended=ended, reason=f"rolled back to {done.plan.to or 'its beginning'}"))
    told: dict[str, Any] = {"compensated": list(done.compensated), "failed": list(done.failed), "left": list(done.left)}
    unit.emit(run_id, "run.rolled_back", status=done.status, to=done.plan.to, **told)


def _keep(unit: Unit, run: RunRecord, left: tuple[str, ...]) -> None:
    """Keep what was not undone for the thread: the first equal request of a later run gets its answer, and does not repeat it (AS-72)."""
    for row in filter(None, (unit.calls.get(call_id) for call_id in left if run.thread is not None)):
        if row.state is CallState.COMMITTED and not row.sticky:
            unit.move(row, CallEvent.UNDELIVERED)


def _forget(unit: Unit, run: RunRecord, to: str | None) -> None:
    """Put an empty checkpoint in the place of each that is undone, and drop what later attempts and models have left."""
    history = History(unit, run, to)
    for checkpoint in history.undone_steps():
        unit.checkpoints.append(checkpoint.changed(output=None, verdict=ROLLED_BACK, created=unit.now))
    for namespace, prefix in (("attempts", f"{run.run_id}/"), ("modes", f"{run.run_id}/"), ("journal", f"{run.origin or run.run_id}/")):
        for record in unit.records.list(namespace, prefix=prefix, limit=sys.maxsize):
            if not history.stays(record.key.removeprefix(prefix).rpartition("@")[0] or record.key.removeprefix(prefix)):
                unit.records.delete(namespace, record.key)
