"""The engine's programs as adapters call them: in an offline replay they give what is recorded, and write nothing (AS-77)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from surefoot import CallState, Effect, Guard, NotStorable, RunStatus
from surefoot.engine import call as live_call
from surefoot.engine import run as live_run
from surefoot.engine import step as live_step
from surefoot.engine import words
from surefoot.engine.claims import Claim, Request
from surefoot.engine.frames import Frame, LiveRun, inside
from surefoot.engine.program import Do, Program
from surefoot.engine.run import Opened, RunSpec
from surefoot.engine.step import StepSpec
from surefoot_journal.replay import Replay, current_replay

__all__ = ["call", "close_run", "is_under_way", "open_run", "step"]

_under_way: set[tuple[str, str]] = set()
"""Stores and runs: what is open in this process."""


def open_run(guard: Guard, spec: RunSpec) -> Program[Opened]:
    """Open the run of an invocation (see :func:`surefoot.engine.run.open_run`), or be the one that is replayed."""
    replay = current_replay()
    if replay is None:
        opened = yield from live_run.open_run(guard, spec)
        _under_way.add((guard.store.url, opened.run.record.run_id))
        return opened
    return Opened(replay.live(guard, spec.stop), "given")


def close_run(guard: Guard, run: LiveRun, status: RunStatus) -> Program[None]:
    """End an invocation (see :func:`surefoot.engine.run.close_run`); a replay has nothing to end."""
    if current_replay() is None:
        try:
            yield from live_run.close_run(guard, run, status)
        finally:
            _under_way.discard((guard.store.url, run.record.run_id))


def is_under_way(guard: Guard, run_id: str) -> bool:
    """Return whether an invocation of a run is open in this process: where it has no name, no lease says so."""
    return (guard.store.url, run_id) in _under_way


def call(guard: Guard, frame: Frame, request: Request, body: Do) -> Program[Any]:
    """Govern a call (see :func:`surefoot.engine.call.call`), or give its recorded answer: no body runs."""
    replay = current_replay()
    if replay is None:
        return (yield from live_call.call(guard, frame, request, body))
    claim = Claim.of(guard, frame, request)
    answered = False
    try:
        value = _answer(replay, guard, claim)
        answered = True
        return value
    finally:
        if claim.plain_rank is not None:
            frame.plain_ended(request.tool, claim.digest, claim.plain_rank, answered=answered)


def _answer(replay: Replay, guard: Guard, claim: Claim) -> Any:
    record = replay.call(claim)
    if record is None:
        beside = replay.beside(claim.frame, claim.tool)
        what = f"{claim.tool} was asked for in {claim.frame.path} with {claim.arguments}, which has no recorded answer"
        error = replay.missing(what, recorded=beside[0].arguments if beside else None, now=claim.arguments)
        raise claim.frame.run.stop(error)
    if record.state is CallState.IN_DOUBT:
        if claim.request.notice is None or record.effect is Effect.UNSAFE:
            raise claim.frame.run.stop(replay.missing(f"{claim.tool} ({record.call_id}) is in doubt"))
        return claim.request.notice(words.doubt_notice(record))
    return live_call.replay(guard, claim, record)


def step(guard: Guard, spec: StepSpec, body: Callable[[Frame], Do], *, opaque: bool = False) -> Program[Any]:
    """Run a step (see :func:`surefoot.engine.step.step`), or run it again and compare it with what is recorded.

    In a replay its attempts are those that were made, with their hints, and no verifier is asked. ``opaque``: its body asks models
    that nobody journals, so it does not run, and its recorded output is given.
    """
    replay = current_replay()
    if replay is None:
        return (yield from live_step.step(guard, spec, body))
    if opaque:
        return _recorded(replay, guard, spec)
    hints, attempt, hint = replay.recorded.rejected.get(spec.path, {}), 1, ""
    _compare_input(replay, spec)
    while True:
        frame = Frame(spec.run, spec.parent, spec.path, spec.run.next_entry(), spec.name, attempt, hint)
        spec.run.entries[spec.path] = frame.entry
        output = yield inside(frame, body(frame))
        if str(attempt) not in hints:
            break
        hint, attempt = hints[str(attempt)] or hint, attempt + 1
    _compare_output(replay, guard, spec, output)
    return output


def _recorded(replay: Replay, guard: Guard, spec: StepSpec) -> Any:
    _compare_input(replay, spec)
    found = replay.step(spec.path, spec.branch)
    if found is None or found.output is None:
        raise spec.run.stop(replay.missing(f"step {spec.path} has no recorded output"))
    replay.ended(spec.path, inside=False)
    return guard.codec.loads(found.output)


def _compare_input(replay: Replay, spec: StepSpec) -> None:
    found = replay.step(spec.path, spec.branch)
    if replay.exact and found is not None and found.digest != (spec.digest or ""):
        raise spec.run.stop(replay.differs(f"step {spec.path} is given another input", now=_shown(spec.input)))


def _compare_output(replay: Replay, guard: Guard, spec: StepSpec, output: Any) -> None:
    found = replay.step(spec.path, spec.branch)
    if found is None:
        if replay.recorded.run.status is RunStatus.COMPLETED:
            raise spec.run.stop(replay.differs(f"step {spec.path} ends, which it did not"))
    elif replay.exact and found.output is not None and (now := _text(guard, output)) != found.output:
        raise spec.run.stop(replay.differs(f"step {spec.path} ends otherwise", recorded=found.output, now=now))
    replay.ended(spec.path, inside=True)


def _text(guard: Guard, output: Any) -> str | None:
    try:
        return guard.codec.dumps(output, whole=True)
    except NotStorable:
        return None


def _shown(value: Any) -> str:
    return json.dumps(value, default=repr)
