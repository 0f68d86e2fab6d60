"""Offline replay: a recorded run again, with no model, no network and no tool, or the first thing that differs (AS-77)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from surefoot import CallRecord, CallState, Checkpoint, Guard, RunRecord, RunStatus, SurefootError, UsageError
from surefoot.engine.claims import Claim
from surefoot.engine.frames import Frame, LiveRun
from surefoot.engine.key import below, call_id
from surefoot_journal.recorded import Recorded, check_of

__all__ = ["Replay", "ReplayDiffers", "Replays", "current_replay", "offline", "unrecorded"]

_ANSWERS = frozenset({CallState.COMMITTED, CallState.RAISED, CallState.IN_DOUBT})


class ReplayDiffers(SurefootError):
    """The agent asked for something that its recorded run did not ask for; the message says where and what."""

    code: ClassVar[str] = "replay_differs"
    exit_code: ClassVar[int] = 10
    recorded: str | None = None
    """What was recorded there, as JSON text, where that is known."""
    now: str | None = None
    """What came instead, as JSON text."""
    ends: bool = False
    """The recording ends here: the run was not completed, so this is no difference."""


@dataclass(eq=False)
class Replay:
    """A recorded run on its way through an agent once more. Nothing is written, and no store is looked at."""

    recorded: Recorded
    exact: bool = True
    """Another prompt, tool schema, step input or step output differs too; else only what was asked for where, and with what."""
    replies: list[str] = field(default_factory=list)
    """Step path and number of every reply that was given again, in order."""
    calls: list[str] = field(default_factory=list)
    """Tool of every call that was answered again, in order."""
    steps: list[str] = field(default_factory=list)
    """Path of every step that ended as it was recorded, in order."""
    first: ReplayDiffers | None = None
    """The first thing that differs, whatever the agent made of the error."""
    _asked: set[str] = field(default_factory=set)
    """Keys of replies and ids of calls that were given again."""
    _covered: list[str] = field(default_factory=list)
    """Step paths whose inside is not looked at: the recorded answer was given."""

    def live(self, guard: Guard, stop: Any) -> LiveRun:
        """Return the run as what its steps and calls belong to.

        Raises :class:`~surefoot.UsageError` for a guard whose digests of a value are others than the recorded ones.
        """
        run = self.recorded.run
        if check_of(guard) != self.recorded.check:
            raise UsageError(
                f"run {run.run_id} was recorded with another digest key than the agent's store has; replay it over the store that it was "
                "recorded in, or set SUREFOOT_DIGEST_KEY to the key that it was recorded with"
            )
        return LiveRun(guard, run, run.thread or run.run_id, None, stop)

    def reply(self, key: str) -> Any:
        """Return the record of a model's reply, or ``None``."""
        self._asked.add(key)
        return self.recorded.replies.get(key)

    def call(self, claim: Claim) -> CallRecord | None:
        """Return the record of a call with an answer: of the same key, or of the same request at the same place."""
        own = call_id(claim.key)
        what = (claim.frame.path, claim.tool, claim.digest, claim.occurrence)
        rows = [row for row in self.recorded.calls if row.args_digest == claim.digest and row.state in _ANSWERS]
        found = next((row for row in rows if row.call_id == own), None)
        found = found or next((row for row in rows if (row.path, row.tool, row.args_digest, row.occurrence) == what), None)
        if found is not None:
            self._asked.add(found.call_id)
            self.calls.append(claim.tool)
            self._covered.append(below(found.path, found, found.occurrence))
        return found

    def beside(self, frame: Frame, tool: str) -> Sequence[CallRecord]:
        """Return the calls of a tool in a step that were not asked for yet: what else may have been meant."""
        return [row for row in self.recorded.calls if (row.path, row.tool) == (frame.path, tool) and row.call_id not in self._asked]

    def step(self, path: str, branch: str) -> Checkpoint | None:
        """Return the newest committed output of a step."""
        return next((row for row in reversed(self.recorded.steps) if (row.path, row.branch) == (path, branch)), None)

    def ended(self, path: str, *, inside: bool) -> None:
        """Note that a step ended as recorded; ``inside``: its body ran."""
        self.steps.append(path)
        if not inside:
            self._covered.append(path)

    def differs(self, what: str, *, recorded: str | None = None, now: str | None = None) -> ReplayDiffers:
        """Return the error for something that differs; in a run that was not completed, where nothing is recorded, it has ended."""
        run = self.recorded.run
        error = ReplayDiffers(f"{what}; run {run.run_id} was recorded otherwise", run_id=run.run_id)
        error.recorded, error.now = recorded, now
        self.first = self.first or error
        return error

    def missing(self, what: str, *, recorded: str | None = None, now: str | None = None) -> ReplayDiffers:
        """Return the error for something that has no recording: where the run was not completed, that is its end."""
        run = self.recorded.run
        if run.status is RunStatus.COMPLETED or recorded is not None:
            return self.differs(what, recorded=recorded, now=now)
        error = ReplayDiffers(f"{what}: the recording of run {run.run_id} ends here, for the run is {run.status}", run_id=run.run_id)
        error.now, error.ends = now, True
        self.first = self.first or error
        return error

    def left(self) -> list[str]:
        """Return in words what the recorded run went on with and the agent did not ask for."""
        recorded = self.recorded
        found = [f"step {row.path}" for row in recorded.steps if row.path not in self.steps and not self._inside(row.path)]
        prefix = f"{recorded.run.origin or recorded.run.run_id}/"
        if recorded.resumed:
            return found
        for key in sorted(recorded.replies.keys() - self._asked):
            path, _, ordinal = key.removeprefix(prefix).rpartition(".")
            if not self._inside(path.rpartition("@")[0]):
                found.append(f"model call {int(ordinal) + 1} of {path}")
        rows = (row for row in recorded.calls if row.call_id not in self._asked and not self._inside(row.path))
        return [*found, *(f"{row.tool} in {row.path or 'the run'} with {row.arguments}" for row in rows)]

    def _inside(self, path: str) -> bool:
        return any(path == around or path.startswith(f"{around}/") for around in self._covered)


@runtime_checkable
class Replays(Protocol):
    """An adapter that can run a guarded object by itself, for ``surefoot runs replay``."""

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard that an object was wrapped with, or ``None`` for a bare one."""

    def again(self, target: Any, run: RunRecord, given: Any) -> object:
        """Run a guarded object with the input of a recorded run, to its end.

        Raises :class:`~surefoot.UsageError` where the input does not say all that the object needs.
        """


_current: ContextVar[Replay | None] = ContextVar("surefoot_replay", default=None)


@contextmanager
def offline(guard: Guard, run: str | Recorded, *, exact: bool = True) -> Iterator[Replay]:
    """Make the invocations in the block offline replays of a recorded run; run the wrapped agent in it with the run's input.

    ``run`` is a run's id in the guard's store, or a run that was exported. Model replies come from the journal and results of
    tools from the ledger; a step's attempts are those that were made, each with its hint. Whatever is not recorded raises
    :class:`ReplayDiffers`, and so do any other prompt, tool schema, input or output of a step, unless not ``exact``: another
    release of a framework puts them otherwise. Nothing is written. Raises :class:`~surefoot.NotFound` for an unknown run.
    """
    found = Replay(Recorded.of(guard, run) if isinstance(run, str) else run, exact)
    token = _current.set(found)
    try:
        yield found
    finally:
        _current.reset(token)


def current_replay() -> Replay | None:
    """Return the offline replay that this code is in."""
    return _current.get()


def unrecorded(model: object) -> None:
    """Refuse to ask a model where nothing is journalled. Raises :class:`ReplayDiffers` in an offline replay."""
    if (replay := current_replay()) is not None:
        name = getattr(model, "model", None)
        raise replay.differs(f"the model {name or type(model).__name__} is asked in a place whose replies are not recorded")
