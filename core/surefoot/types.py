"""The words of surefoot as types: plain frozen data that crosses contracts, hooks and the store.

All times are POSIX seconds (UTC). Values that a store keeps are JSON text made by :mod:`surefoot.codec`;
a store never sees live objects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, TypeAlias

__all__ = [
    "Budget",
    "Call",
    "CallRecord",
    "CallState",
    "Checkpoint",
    "Effect",
    "ErrorClass",
    "Event",
    "Happened",
    "Lease",
    "NotSeen",
    "Probe",
    "ProbeAnswer",
    "Record",
    "Retry",
    "RunRecord",
    "RunStatus",
    "StepOutput",
    "StepRule",
    "ToolRule",
    "Verdict",
    "VerdictStatus",
    "WillNotHappen",
    "happened",
    "not_seen",
    "will_not_happen",
]


class Effect(StrEnum):
    """What running a tool does to the world; decides how often it may run."""

    READ = "read"
    """Changes nothing: may always run again."""
    IDEMPOTENT = "idempotent"
    """Changes something, and running it twice equals running it once."""
    UNSAFE = "unsafe"
    """At most once; when in doubt the run is held until someone settles it."""
    COMPOSITE = "composite"
    """Its body is itself governed (a sub-agent, a wrapped graph): re-entered on resume, never in doubt."""
    UNCLASSIFIED = "unclassified"
    """Nobody said: at most once like ``UNSAFE``, but it never holds a run."""


class CallState(StrEnum):
    """Where a call stands in the ledger; :mod:`surefoot.engine.transitions` has the table."""

    INTENT = "intent"
    COMMITTED = "committed"
    FAILED = "failed"
    RAISED = "raised"
    SUSPENDED = "suspended"
    IN_DOUBT = "in_doubt"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"
    TOMBSTONE = "tombstone"


class RunStatus(StrEnum):
    """Where a run stands. A run that raised or crashed is still ``OPEN``: it can be resumed."""

    OPEN = "open"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class ErrorClass(StrEnum):
    """Why a step's output was rejected. Plugins may use other strings of their own."""

    GOAL_DRIFT = "GOAL_DRIFT"
    CONTRADICTION = "CONTRADICTION"
    HALLUCINATION = "HALLUCINATION"
    INCOMPLETE = "INCOMPLETE"
    SCOPE_CREEP = "SCOPE_CREEP"
    SCHEMA = "SCHEMA"
    CLAIM_WITHOUT_RECEIPT = "CLAIM_WITHOUT_RECEIPT"


# --- rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happened:
    """A probe's answer: the effect happened and this is the tool's result."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class WillNotHappen:
    """A probe's answer, vouched for by its author: the effect did not happen and cannot any more."""


@dataclass(frozen=True, slots=True)
class NotSeen:
    """A probe's answer: the effect is not visible yet, which proves nothing (AS-93)."""


ProbeAnswer: TypeAlias = Happened | WillNotHappen | NotSeen
Probe: TypeAlias = Callable[["Call"], ProbeAnswer | Awaitable[ProbeAnswer]]


def happened(value: Any = None) -> Happened:
    """Answer of a probe: it happened; ``value`` is what the tool would have returned."""
    return Happened(value)


def will_not_happen() -> WillNotHappen:
    """Answer of a probe: it did not happen and cannot any more; the call may run again."""
    return WillNotHappen()


def not_seen() -> NotSeen:
    """Answer of a probe: nothing to see yet; ask again later."""
    return NotSeen()


@dataclass(frozen=True, slots=True)
class ToolRule:
    """What the owner of a tool declares about it. The same keywords work on ``@surefoot.tool(...)``."""

    effect: Effect | Literal["read", "idempotent", "unsafe", "composite", "unclassified"] = Effect.UNCLASSIFIED
    """What running it does to the world."""
    key: Sequence[str] = ()
    """Names of the arguments that identify the business operation (``["order_id"]``). Empty: keyed by slot."""
    scope: Literal["tenant", "run"] = "tenant"
    """Where a business key is unique."""
    probe: Probe | None = None
    """Asks the outside world whether a call in doubt happened. Sync or async; gets the :class:`Call`."""
    not_committed: tuple[type[BaseException], ...] = ()
    """Exceptions that prove that the effect did not happen, like :class:`surefoot.NotCommitted`."""

    def __post_init__(self) -> None:
        """Normalise the spellings users type."""
        object.__setattr__(self, "effect", Effect(self.effect))
        object.__setattr__(self, "key", (self.key,) if isinstance(self.key, str) else tuple(self.key))


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried, and how long it waits between attempts (seconds)."""

    max_attempts: int = 3
    """Attempts in all, the first included."""
    delay: float = 0.0
    """Wait before the second attempt."""
    factor: float = 2.0
    """Each further wait is this many times the one before."""
    max_delay: float = 30.0
    """No wait is longer."""
    jitter: float = 0.1
    """Share of the wait that is random, 0 to 1."""

    def wait(self, attempt: int, random: float) -> float:
        """Return the seconds to wait after failed ``attempt`` (1-based); ``random`` is in [0, 1)."""
        base = min(self.max_delay, self.delay * self.factor ** (attempt - 1))
        return base * (1 - self.jitter * random)


@dataclass(frozen=True, slots=True)
class StepRule:
    """What is asked of a step, chosen by step-name pattern."""

    goal: str = ""
    """What the step is for, in words; verifiers see it."""
    verifier: Any = None
    """A :class:`surefoot.Verifier`, a callable ``StepOutput -> Verdict | bool``, or a plugin's spec string."""
    retry: Retry | None = None
    """Overrides the guard's retry for this step."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit that is reserved before an effect and survives restarts (AS-34, AS-35)."""

    calls: int | None = None
    """Tool calls that may run; a replay costs nothing."""
    per: Literal["run", "thread", "tenant"] = "run"
    """What the limit is counted over."""


# --- what verifiers and gates see ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One requested tool call as gates, probes and tools see it."""

    call_id: str
    """Stable id of the ledger row."""
    tool: str
    """Qualified tool name."""
    arguments: Mapping[str, Any]
    """Final values of the parameters that the model can see."""
    args_digest: str
    """SHA-256 (hex) of the canonical arguments."""
    effect: Effect
    """The class in force."""
    run_id: str
    thread: str | None
    tenant: str
    step: str
    """Step path, for people: ``agent#1/tools#2``."""
    idempotency_key: str
    """Hand it to the outside system (Stripe, …): the same for every try of this call (AS-86)."""
    entry: int
    """Token of the entry that claims the call; newer entries have larger ones."""
    deadline: float | None = None
    """POSIX seconds by which the body should be done, or ``None``."""


class VerdictStatus(StrEnum):
    """Three states, because "could not judge" is neither yes nor no (P15)."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    UNVERIFIED = "UNVERIFIED"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's answer about one step output."""

    status: VerdictStatus
    error_class: str | None = None
    """Why it failed: an :class:`ErrorClass` or a plugin's own word."""
    hint: str = ""
    """What the next attempt should do differently; shown to the model."""
    confidence: float | None = None
    """0 to 1, where the verifier knows."""
    reason: str = ""
    """For people and logs; never shown to the model."""

    @classmethod
    def passed(cls, *, confidence: float | None = None) -> Verdict:
        """Return PASS."""
        return cls(VerdictStatus.PASS, confidence=confidence)

    @classmethod
    def failed(cls, error_class: str, hint: str = "", *, confidence: float | None = None, reason: str = "") -> Verdict:
        """Return FAIL with the class of error and the hint for the next attempt."""
        return cls(VerdictStatus.FAIL, str(error_class), hint, confidence, reason)

    @classmethod
    def unverified(cls, reason: str) -> Verdict:
        """Return UNVERIFIED: the verifier could not judge; never counts as PASS."""
        return cls(VerdictStatus.UNVERIFIED, reason=reason)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a verifier judges: one attempt of one step, before anything of it is committed."""

    run_id: str
    step: str
    """Step path, for people: ``agent#1``."""
    name: str
    """Step name, as in the framework."""
    goal: str
    attempt: int
    """1-based."""
    input: Any
    output: Any
    receipts: Sequence[CallRecord] = ()
    """Calls that this step has in the ledger."""
    earlier: Sequence[Checkpoint] = ()
    """Committed checkpoints of the run, oldest first."""


# --- what a store keeps ----------------------------------------------------------------------------


@dataclass(frozen=True)
class CallRecord:
    """One row of the ledger.

    Not slotted: :meth:`changed` runs several times a call, and copying a ``__dict__`` is ten times faster than
    :func:`dataclasses.replace` on this many fields.
    """

    call_id: str
    key: str
    """Digest of (tenant, tool, business key or slot); ``call_id`` is made of it."""
    tenant: str
    conversation: str
    """The thread, or the run where there is no thread: the reach of a doubt."""
    run_id: str
    """The run that requested it first."""
    scope: str
    """The slot space: the origin run of all branches."""
    path: str
    """Step path below which it was requested."""
    tool: str
    args_digest: str
    arguments: str | None
    """JSON text of the arguments, or ``None`` where they cannot be stored."""
    effect: Effect
    """The class in force when it was claimed."""
    state: CallState
    entry: int
    """Token of the entry that claimed it."""
    touched: int
    """Token of the newest entry that asked for it."""
    owner: str
    """Process that claimed it (see :meth:`Store.alive`)."""
    version: int = 0
    """Counts updates; every update is compare-and-set on it."""
    sticky: bool = False
    """True while equal requests of the conversation get this answer (doubt, or an undelivered result)."""
    entered: bool = True
    """False when the body is known not to have been entered (drift, conflict)."""
    value: str | None = None
    """JSON text of the result."""
    error: str | None = None
    """JSON text of the error: ``{"kind", "module", "message", "args"}``."""
    reason: str = ""
    """Why it is in this state, in plain words."""
    settled_by: str | None = None
    """``probe``, ``late``, or who settled it by hand."""
    alias: str | None = None
    """The model's own id of the call; correlation only."""
    occurrence: str = "0"
    interrupts: tuple[str | None, ...] = ()
    """Answers (JSON text) that its body's interrupts were given; ``None`` last: its question surfaced and waits (AS-95)."""
    created: float = 0.0
    updated: float = 0.0

    def changed(self, **changes: Any) -> CallRecord:
        """Return a copy with these fields changed."""
        copy = object.__new__(CallRecord)
        copy.__dict__.update(self.__dict__, **changes)
        return copy


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One committed, verified output of a step. Append-only."""

    run_id: str
    path: str
    branch: str
    """Name of the fan-out branch, ``""`` where there is none."""
    entry: int
    attempt: int
    digest: str
    """Digest of the step's input."""
    output: str | None
    """JSON text of the output, or ``None`` where it cannot be stored (then there is no memo)."""
    verdict: str
    """JSON text of the verdict."""
    mark: int | None = None
    """The framework's own counter for the step, where it has one (LangGraph's super-step)."""
    created: float = 0.0
    seq: int = 0
    """Position in the run, given by the store."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a run's append-only log. ``link`` chains it to the one before."""

    run_id: str
    type: str
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)
    step: str | None = None
    call_id: str | None = None
    seq: int = 0
    """1-based position in the run, given by the store."""
    monotonic: float = 0.0
    salt: str = ""
    link: str = ""
    """SHA-256 (hex) over the previous link, the envelope, and the salted digest of ``data``."""
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Lease:
    """Who may work on a thread (or an unnamed run). ``epoch`` only grows."""

    name: str
    owner: str
    epoch: int
    held: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """One value of a feature's own namespace, with the version to compare and set."""

    key: str
    value: Any
    """Plain JSON data."""
    version: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run: a request, from an input until nothing is left to do."""

    run_id: str
    tenant: str
    thread: str | None
    ordinal: int
    """1-based position in its thread."""
    status: RunStatus
    digest: str
    """Digest of the raw input."""
    adapter: str
    first: str | None = None
    """The framework's head when the run began, in the adapter's own terms."""
    origin: str = ""
    """The run whose slots this one shares: itself, or what it was forked from."""
    created: float = 0.0
    ended: float | None = None
    hold: Sequence[str] = ()
    """Ids of the calls that hold it; empty when it is not held."""
    reason: str = ""
    """Why it ended or is held, in plain words."""
