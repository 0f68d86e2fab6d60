"""Modes of a step: what is done where it cannot be done as it should, and a person at the end.

A step is tried as it is. Where no attempt of it passes, where it raises, or takes longer than it may, its ``fallback=`` are tried, the
best first, each once. Where the last one cannot either, the run is held and a person may give the output. The mode that a step is in
is durable, and every change of it is an event.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias

from surefoot import CallState, Effect, Guard, ResultUnavailable, StepRule, SurefootError, UsageError, VerificationFailed
from surefoot.engine import holds
from surefoot.engine.claims import Claim, Position, Request, fence, refuse_and_hold
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do, Program, Tx
from surefoot.engine.step import StepSpec
from surefoot.engine.transitions import CallEvent
from surefoot.engine.unit import Unit
from surefoot_adapters.diagnosis import Diagnosis, NeedsReview, diagnosis, is_slow, reviewing, took
from surefoot_adapters.timing import within
from surefoot_journal import governed
from surefoot_journal.replay import current_replay

__all__ = ["DECISION", "MODES", "Instead", "called", "done", "step"]

MODES: Final = "modes"
"""Records ``<run>/<path>``: the mode that the step is in (0: as it should be), how often a person was asked, and the call that asks."""
DECISION: Final = "surefoot_decision"
"""The tool of the calls in which a person decides about a step."""
_ATTEMPTS: Final = "attempts"
_DOWN: Final = frozenset({"verification_failed", "breaker_open", "bulkhead_full"})
"""Errors of surefoot after which something else may be tried; all others stop the step whatever it could fall back to."""
Instead: TypeAlias = Callable[[Callable[..., Any], Frame], Do]
"""Makes an attempt of a function that takes what the step takes."""


def step(
    guard: Guard, spec: StepSpec, body: Callable[[Frame], Do], *, opaque: bool = False, instead: Instead | None = None
) -> Program[Any]:
    """Run a step (see :func:`surefoot.engine.step.step`) within the time that it has, and in the best mode that it can.

    :param opaque: its body asks models that nobody journals; an offline replay gives its recorded output.
    :param instead: makes an attempt of a fallback; ``None``: the framework cannot put anything in the step's place.

    Raises :class:`~surefoot.UsageError` for a ``fallback=``, or a review, where nothing can take the step's place, and
    :class:`TimeoutError` for a step that takes longer than it may and has no fallback.
    """
    rule, look = guard.step_rule(spec.name), diagnosis(guard, spec.name)
    if current_replay() is not None:
        return governed.step(guard, spec, body, opaque=opaque or bool(rule.fallback) or look is not None)
    if instead is None and (rule.fallback or look is not None):
        raise UsageError(f"nothing can take the place of step {spec.name} here, so it can have no fallback= and no diagnosis")
    if look is not None and look.slow is not None and not rule.fallback:
        raise UsageError(f"step {spec.name} has no fallback= that it could be degraded to where it is slow")
    spec.rule = rule
    if rule.timeout is None and not rule.fallback and look is None:
        return governed.step(guard, spec, body, opaque=opaque)
    return _Modes(guard, spec, rule, body, instead or _nothing, look).program()


def done(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Do:
    """Return an attempt that calls a function, which may be a coroutine function."""
    return Do(partial(function, *args, **kwargs), partial(called, function, *args, **kwargs))


async def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function, which may be a coroutine function, and return what it returns."""
    value = function(*args, **kwargs)
    return await value if inspect.isawaitable(value) else value


def _nothing(_function: Callable[..., Any], _frame: Frame) -> Do:
    raise AssertionError("a step without a fallback has no other mode")


class _Modes:
    """One execution of a step that has more than one way to go."""

    def __init__(
        self, guard: Guard, spec: StepSpec, rule: StepRule, body: Callable[[Frame], Do], instead: Instead, look: Diagnosis | None
    ) -> None:
        self._guard = guard
        self._spec = spec
        self._rule = rule
        self._judged = reviewing(guard, rule, look)
        self._body = body
        self._instead = instead
        self._look = look
        self._key = f"{spec.run.record.run_id}/{spec.path}"
        self._most = (rule.retry or guard.retry).max_attempts

    def program(self) -> Program[Any]:
        state = yield Tx(self._state)
        while True:
            if state["call"] is not None:
                decided, output = yield from self._decided(state)
                if decided:
                    return (yield from self._run(partial(_given, output), replace(self._rule, verifier=None, fallback=())))
                state = yield Tx(self._state)
            try:
                return (yield from self._tried(state["mode"]))
            except NeedsReview as asks:
                why = f"the verifier of step {self._spec.path} passed its output with a confidence of {asks.confidence:g} only"
                yield from self._ask(state, f"{why}; '--committed true' commits it as it is", output=asks.output)
            except Exception as exc:
                state = yield Tx(partial(self._degraded, state=state, exc=exc))
                if state is None:
                    raise
                if isinstance(state, SurefootError):
                    raise self._spec.run.stop(state) from exc
                if state["mode"] > len(self._rule.fallback):
                    why = f"step {self._spec.path} came to no output in any of its {state['mode']} modes (last: {_told(exc)})"
                    yield from self._ask({**state, "mode": 0}, f"{why}; its output may be given, and --failed tries all of them again")

    # --- one mode

    def _tried(self, mode: int) -> Program[Any]:
        function = self._rule.fallback[mode - 1] if mode else None
        begun = time.monotonic()
        try:
            output = yield from self._run(function, self._judged)
        except TimeoutError:
            yield from self._measured(mode, begun)
            raise
        yield from self._measured(mode, begun)
        return output

    def _run(self, function: Callable[..., Any] | None, rule: StepRule) -> Program[Any]:
        self._spec.rule = rule
        return (yield from governed.step(self._guard, self._spec, partial(self._attempt, function)))

    def _attempt(self, function: Callable[..., Any] | None, frame: Frame) -> Do:
        """Return one attempt, which has the rule's time or what is left of that of what is around."""
        body = self._body(frame) if function is None else self._instead(function, frame)
        parent = self._spec.parent.deadline if self._spec.parent is not None else None
        own = None if self._rule.timeout is None else self._guard.clock() + self._rule.timeout
        frame.deadline = min((one for one in (parent, own) if one is not None), default=None)
        return body if own is None else within(self._guard, frame, body)

    def _measured(self, mode: int, begun: float) -> Program[None]:
        if mode == 0 and self._look is not None and self._look.slow is not None:
            yield Tx(partial(took, look=self._look, spec=self._spec, seconds=time.monotonic() - begun))

    # --- which mode

    def _state(self, unit: Unit) -> dict[str, Any]:
        """Return the mode that the step is in: the recorded one, or the first fallback while the step itself is slow."""
        record = unit.records.get(MODES, self._key)
        state: dict[str, Any] = dict(record.value) if record is not None else {"mode": 0, "asked": 0, "call": None}
        if state["mode"] == 0 and state["call"] is None and self._look is not None and is_slow(unit, self._look, self._spec):
            self._say(unit, "step.degraded", mode=1, why="it was slow lately")
            state["mode"] = 1
        return {**state, "attempt": self._attempts(unit)["attempt"]}

    def _attempts(self, unit: Unit) -> dict[str, Any]:
        record = unit.records.get(_ATTEMPTS, self._key)
        return dict(record.value) if record is not None else {"attempt": 1, "hint": "", "floor": 0}

    def _degraded(self, unit: Unit, state: dict[str, Any], exc: Exception) -> dict[str, Any] | SurefootError | None:
        """Return the state in the next mode; ``None`` where the error stands, another one where the run is held by what was begun."""
        run, attempts = self._spec.run, self._attempts(unit)
        out_of_time = self._spec.parent is not None and (self._spec.parent.deadline or unit.now) < unit.now
        if not self._rule.fallback or out_of_time or not self._may_fall_back(exc):
            return None
        if isinstance(exc, VerificationFailed) and attempts["attempt"] == state["attempt"]:
            return None  # nobody could judge; nobody could judge anything else either
        if holds.stopped(unit, run.record) is not None:
            return None
        self._doubts(unit)
        if (hold := holds.get(unit, run.record.run_id)) is not None:
            return holds.error(unit, run.record.run_id, hold)
        attempts["attempt"] = max(attempts["attempt"] + (not isinstance(exc, VerificationFailed)), self._most)
        unit.records.put(_ATTEMPTS, self._key, {**attempts, "floor": run.next_entry()})
        following = {"mode": state["mode"] + 1, "asked": state["asked"], "call": None}
        if following["mode"] <= len(self._rule.fallback):
            unit.records.put(MODES, self._key, following)
            self._say(unit, "step.degraded", mode=following["mode"], why=_told(exc))
        return {**following, "attempt": attempts["attempt"]}

    def _may_fall_back(self, exc: BaseException | None) -> bool:
        """Return whether an error says that this mode does not work, not that the run is to stop."""
        while exc is not None:
            if self._guard.suspends(exc) or (isinstance(exc, SurefootError) and exc.code not in _DOWN):
                return False
            exc = exc.__cause__ or exc.__context__
        return True

    def _doubts(self, unit: Unit) -> None:
        """Hold the run where a declared unsafe call of the step may still happen: what falls back would not know of it."""
        for row in unit.calls.under(self._spec.run.scope, self._spec.path):
            if row.effect is Effect.UNSAFE and row.state is CallState.INTENT:
                row = unit.move(row, CallEvent.LOST, reason="its step ran past its deadline while its body ran")  # noqa: PLW2901 - the same row
            if row.effect is Effect.UNSAFE and row.state is CallState.IN_DOUBT:
                holds.place(unit, self._spec.run.record.run_id, row.call_id, row.reason)

    def _say(self, unit: Unit, kind: str, **data: Any) -> None:
        unit.emit(self._spec.run.record.run_id, kind, step=self._spec.path, of=len(self._rule.fallback), **data)

    # --- a person

    def _ask(self, state: dict[str, Any], reason: str, **given: Any) -> Program[None]:
        """Hold the run until a person has decided about the step."""
        spec, run = self._spec, self._spec.run
        asked = state["asked"] + 1
        key = hashlib.sha256(json.dumps(["decision", run.record.tenant, self._key, spec.branch, asked]).encode()).hexdigest()
        frame = Frame(run, spec.parent, spec.path, run.next_entry(), spec.name)
        request = Request(DECISION, {"step": spec.path, "input": spec.input, **given}, self, position=Position("", 0), key=key)
        claim = Claim.of(self._guard, frame, request)
        claim.effect = Effect.UNSAFE

        def work(unit: Unit) -> Any:
            fence(unit, frame)
            stop = refuse_and_hold(unit, claim, unit.clean(reason))
            unit.records.put(MODES, self._key, {"mode": state["mode"], "asked": asked, "call": claim.record(unit.now).call_id})
            self._say(unit, "step.escalated", why=reason)
            return stop

        stop = yield Tx(work)
        raise run.stop(stop.error)

    def _decided(self, state: dict[str, Any]) -> Program[tuple[bool, Any]]:
        """Return whether a person has given the output, and that; where one was refused, the step is tried again."""
        row, hold = yield Tx(lambda unit: (unit.calls.get(state["call"]), holds.get(unit, self._spec.run.record.run_id)), write=False)
        if row is not None and row.state is CallState.IN_DOUBT and hold is not None:
            raise self._spec.run.stop((yield Tx(lambda unit: holds.error(unit, row.run_id, hold), write=False)))
        if row is not None and row.state is CallState.FAILED:
            yield Tx(partial(self._refused, state=state))
            return False, None
        if row is None or row.state is not CallState.COMMITTED or row.value is None:
            raise ResultUnavailable(f"what a person decided about step {self._spec.path} is not there any more", call_id=state["call"])
        output = self._guard.codec.loads(row.value)
        staged = self._guard.codec.loads(row.arguments) if row.arguments is not None else {}
        return True, staged["output"] if output is True and "output" in staged else output

    def _refused(self, unit: Unit, state: dict[str, Any]) -> None:
        attempts = self._attempts(unit)
        floor, hint = self._spec.run.next_entry(), "A person rejected the last output."
        unit.records.put(_ATTEMPTS, self._key, {"attempt": attempts["attempt"] + 1, "hint": hint, "floor": floor})
        unit.records.put(MODES, self._key, {"mode": state["mode"], "asked": state["asked"], "call": None})


def _given(output: Any, *_input: Any, **_named: Any) -> Any:
    """Be a step whose output is known, whatever it takes."""
    return output


def _told(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"[:300]
