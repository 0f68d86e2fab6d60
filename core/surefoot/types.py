"""The words of surefoot as types: plain frozen data that crosses contracts, hooks and the store.

All times are POSIX seconds (UTC). Values that a store keeps are JSON text made by :mod:`surefoot.codec`;
a store never sees live objects.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, Self, TypeAlias

from surefoot.errors import UsageError


def expect(option: str, given: Any, wanted: str, fits: Callable[[Any], bool]) -> None:
    """Raise :class:`~surefoot.UsageError`, which says what is wanted, unless the value that was given for an option fits."""
    if not fits(given):
        raise UsageError(f"{option}={given!r} is not {wanted}")


def are_texts(given: object) -> bool:
    """Return whether a value is several texts, not one, whose letters nobody means."""
    return isinstance(given, Collection) and not isinstance(given, str) and all(isinstance(text, str) for text in given)


def is_time(given: Any) -> bool:
    """Return whether a value is ``None`` or a number of seconds that can pass."""
    return given is None or (isinstance(given, float | int) and not isinstance(given, bool) and given >= 0)


HOOK_SECONDS: Final = 60.0
"""Seconds in which gates, verifiers and probes must answer, where nothing else is said; see :class:`~surefoot.Gate`."""


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
    COMPENSATED = "compensated"
    """It was undone; what ``partial`` left is listed with the rollback."""
    COMPENSATION_FAILED = "compensation_failed"
    """It was to be undone, and something of it could not be."""


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
Compensation: TypeAlias = Callable[["Call", Any], Any]


happened = Happened
"""Answer of a probe: it happened; ``value`` is what the tool would have returned."""
will_not_happen = WillNotHappen
"""Answer of a probe: it did not happen and cannot any more; the call may run again."""
not_seen = NotSeen
"""Answer of a probe: nothing to see yet; ask again later."""


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
    """Asks the outside world whether a call in doubt happened. Sync or async; gets the :class:`Call`. An attribute ``timeout`` of it
    says how many seconds it has to answer (default 60); without an answer the call stays in doubt."""
    not_committed: tuple[type[BaseException], ...] = ()
    """Exceptions that prove that the effect did not happen, like :class:`surefoot.NotCommitted`."""
    timeout: float | None = None
    """Seconds that the caller waits for the body; after that the call is in doubt until the body lands (AS-42)."""
    redact: Sequence[str] = ()
    """Names of the arguments whose values are neither stored nor shown to anybody, a probe included. Dedup still works (AS-67)."""
    compensate: Compensation | None = None
    """Undoes a committed call when its run is rolled back; sync or async. Gets the :class:`Call` and what it returned. Governed like a
    call itself, as the tool ``undo:<tool>``, and at most once unless ``@surefoot.tool(effect="idempotent")`` says otherwise (I19)."""
    depends_on: str | Sequence[str] = ()
    """What it needs outside (``"github"``): a breaker of each, and bulkheads of it, decide about its calls (AS-69)."""

    def __post_init__(self) -> None:
        """Normalise the spellings users type; refuse what cannot work with a :class:`~surefoot.UsageError`."""
        key, needs = ((given,) if isinstance(given, str) else given for given in (self.key, self.depends_on))
        expect("effect", self.effect, f"one of {', '.join(Effect)}", list(Effect).__contains__)
        expect("key", key, "a list of argument names", are_texts)
        expect("scope", self.scope, "'tenant' or 'run'", ["tenant", "run"].__contains__)
        expect("redact", self.redact, "a list of argument names", are_texts)
        expect("depends_on", needs, "the name of a dependency, or a list of names", are_texts)
        for name, given, what in (("probe", self.probe, "a Call"), ("compensate", self.compensate, "a Call and its result")):
            expect(name, given, f"a function that takes {what}", lambda given: given is None or callable(given))
        expect("timeout", self.timeout, "a number of seconds, 0 or more", is_time)
        expect("not_committed", self.not_committed, "a tuple of exceptions", lambda given: isinstance(given, tuple))
        for name, value in (("effect", Effect(self.effect)), ("key", tuple(key)), ("depends_on", tuple(needs))):
            object.__setattr__(self, name, value)


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
    criticality: Literal["low", "medium", "high"] = "medium"
    """How bad an error in it would be; verifiers may look closer where it is high."""
    timeout: float | None = None
    """Seconds that an attempt may take. What is asked for in it has what is left of them, or its own ``timeout`` if that is less."""
    fallback: Sequence[Callable[..., Any]] = ()
    """What is done instead when the step cannot, the best first: each takes what the step takes and returns what it returns. Where
    the last one cannot either, the run is held and a person may give the output."""

    def __post_init__(self) -> None:
        """Refuse what cannot work with a :class:`~surefoot.UsageError`."""
        expect("timeout", self.timeout, "a number of seconds, 0 or more", is_time)
        expect("fallback", self.fallback, "a list of functions", lambda given: isinstance(given, Sequence) and all(map(callable, given)))
        expect("criticality", self.criticality, "'low', 'medium' or 'high'", ["low", "medium", "high"].__contains__)
        expect("retry", self.retry, "a Retry, like Retry(max_attempts=3)", lambda given: isinstance(given, Retry | None))


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that are reserved before an effect, shared by all processes, and survive restarts (AS-34, AS-35, I12)."""

    calls: int | None = None
    """Tool calls that may run; a replay costs nothing."""
    tokens: int | None = None
    """Tokens of models, as far as the framework tells: when they are used up, no further call starts."""
    cost_usd: float | None = None
    """The same for what they cost, in US dollars."""
    seconds: float | None = None
    """Time that the run is under way; waiting for people, or for the next process, costs nothing."""
    depth: int | None = None
    """Calls inside of calls: 1 allows what a step asks for, 2 also what a tool asks for."""
    per: Literal["run", "thread", "tenant"] = "run"
    """What the limit is counted over."""

    def __post_init__(self) -> None:
        """Refuse a limit over nothing known with a :class:`~surefoot.UsageError`."""
        expect("per", self.per, "'run', 'thread' or 'tenant'", ["run", "thread", "tenant"].__contains__)


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
    """Keyed digest (hex) of the canonical arguments."""
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
    """Calls that this step has in the ledger; read from the store when first looked at."""
    earlier: Sequence[Checkpoint] = ()
    """Committed checkpoints of the run, oldest first; read from the store when first looked at."""
    ledger: Sequence[CallRecord] = ()
    """Calls of the whole run, whichever step and attempt asked for them; read from the store when first looked at."""
    criticality: str = "medium"
    """The rule's: ``low``, ``medium`` or ``high``."""


# --- what a store keeps ----------------------------------------------------------------------------


class Copied:
    """Base of what is made and copied several times a call: a ``__dict__`` is filled much faster than the fields of a frozen dataclass."""

    def changed(self, **changes: Any) -> Self:
        """Return a copy with these fields changed."""
        copy = object.__new__(self.__class__)
        object.__setattr__(copy, "__dict__", self.__dict__ | changes)
        return copy


@dataclass(frozen=True)
class CallRecord(Copied):
    """One row of the ledger."""

    call_id: str
    key: str
    """Digest of (tenant, tool, business key or slot); ``call_id`` is made of it."""
    tenant: str
    conversation: str
    """The thread, or the run where there is no thread: the reach of a doubt."""
    run_id: str
    """The run that requested it; of a business key, the last one that entered its body."""
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


@dataclass(frozen=True)
class Checkpoint(Copied):
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


@dataclass(frozen=True)
class Event(Copied):
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
    """The framework's head that its steps are counted from: its own, or that of the run it was forked from."""
    origin: str = ""
    """The run whose slots this one shares: itself, or what it was forked from."""
    head: str | None = None
    """The framework's head when the run began, in the adapter's own terms."""
    previous: str = ""
    """The run of its thread before it; empty for the first."""
    created: float = 0.0
    ended: float | None = None
    hold: Sequence[str] = ()
    """Ids of the calls that hold it; empty when it is not held."""
    reason: str = ""
    """Why it ended or is held, in plain words."""
