"""The guard: rules, a store, and the two faces of the engine."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from surefoot.codec import Codec
from surefoot.contracts import Gate, Policy, Store, Transaction, Verifier
from surefoot.engine import words
from surefoot.engine.call import call
from surefoot.engine.claims import Request
from surefoot.engine.failure import load_error
from surefoot.engine.frames import ActiveCall, Frame, here
from surefoot.engine.inbox import Calls, Runs
from surefoot.engine.key import below
from surefoot.engine.program import Do, Program, Tx, adrive, drive
from surefoot.engine.unit import Unit
from surefoot.engine.verify import as_verifier
from surefoot.errors import IntegrityError, LeaseLost, UsageError
from surefoot.plugins import Plugins
from surefoot.types import Budget, CallRecord, CallState, Effect, Event, Retry, StepRule, ToolRule, are_texts, expect, is_time

__all__ = ["Guard"]

_log = logging.getLogger("surefoot")
_log.addHandler(logging.NullHandler())


class Guard:
    """Governs calls and steps over one store. Thread-safe; a context manager that closes its store.

    The options are those of :func:`surefoot.wrap`; ``gates`` are asked about every call, in order; ``checkpoints`` is the
    URL of a separate store for checkpoints, where they are not to be beside the ledger.

    One guard may wrap several objects, and a name in ``tools=`` or ``reads=`` may be a tool's of one that comes later. So it is
    warned of (``strict``: refused) only if it looks like a slip for a tool that is there and that they do not name.
    """

    def __init__(
        self,
        store: str | Store | None = None,
        *,
        tools: Mapping[str, ToolRule] | None = None,
        reads: Sequence[str] = (),
        steps: Mapping[str, StepRule] | None = None,
        retry: Retry | None = None,
        budget: Budget | None = None,
        breaker: Any = None,
        policy: str | Policy | None = None,
        gates: Sequence[Gate] = (),
        on_event: Callable[[Event], None] | None = None,
        wait: float | None = None,
        strict: bool = False,
        plugins: Plugins | None = None,
        checkpoints: str | None = None,
    ) -> None:
        expect("store", store, "a URL or a Store", lambda given: isinstance(given, str | Store | None))
        expect("tools", tools, "a mapping of tool names or patterns to ToolRule(...)", lambda given: _maps(given, ToolRule))
        expect("reads", reads, "a list of names and patterns; write reads=['search*']", are_texts)
        expect("steps", steps, "a mapping of step names or patterns to StepRule(...)", lambda given: _maps(given, StepRule))
        expect("retry", retry, "a Retry, like Retry(max_attempts=3)", lambda given: isinstance(given, Retry | None))
        expect("budget", budget, "a Budget, like Budget(calls=20)", lambda given: isinstance(given, Budget | None))
        expect("policy", policy, "a Policy or what a plugin reads one from", lambda given: isinstance(given, str | Policy | None))
        expect("on_event", on_event, "a function that takes an Event", lambda given: given is None or callable(given))
        expect("wait", wait, "a number of seconds, 0 or more", is_time)
        self.plugins = plugins or Plugins.default()
        self.store = self.plugins.open_store(store, strict=strict, checkpoints=checkpoints)
        self.codec, self.clock = Codec(self.redactor, self.store.digest_key), time.time
        self.retry, self.budget, self.breaker = retry or Retry(), budget, breaker
        self.wait, self.strict = wait, strict
        self.policy = self.plugins.policy(policy) if isinstance(policy, str) else policy
        self.gates = [*gates, *(self.policy.gates() if self.policy else ())]
        limits = [self.plugins.view(name, self) for name, given in (("budget", budget), ("breaker", breaker)) if given is not None]
        self.admissions = [*(self.policy.admissions() if self.policy else ()), *limits]
        self.calls, self.runs = Calls(self), Runs(self)
        self._tools = {**dict.fromkeys(reads, ToolRule(effect=Effect.READ)), **(tools or {})}
        self.steps = dict(steps or {})
        """Rules by step name or pattern."""
        self.declared: dict[str, ToolRule] = {}
        """What the authors of the registered tools declared, by name."""
        self._identities: dict[str, str] = {}
        self._definitions: dict[str, Callable[[], Any]] = {}
        self._rules: dict[str, ToolRule] = {}
        self._verifiers: dict[int, tuple[StepRule, Verifier | None]] = {}
        self._riders: list[Callable[[Unit], Any]] = []
        self._suspends: list[type[BaseException]] = []
        self._on_event, self.whole = on_event, False
        """What it wraps is one object, and no other will come."""
        for rule in self.steps.values():
            self.verifier(rule)

    # --- rules

    def register(self, tool: str, identity: str, rule: ToolRule | None = None, definition: Callable[[], Any] | None = None) -> None:
        """Make a tool known: its qualified name, what function it is, what its author declared, and what the model is told of it.

        Raises :class:`~surefoot.UsageError` when another function has that name in this guard.
        """
        if (known := self._identities.setdefault(tool, identity)) != identity:
            raise UsageError(f"two tools are called {tool!r} ({known} and {identity}); rename one, or wrap them with separate guards")
        self._definitions[tool] = definition or (lambda: identity)
        if rule is not None:
            self.declared[tool] = rule
            self._rules.pop(tool, None)

    def rule(self, tool: str) -> ToolRule:
        """Return the rule in force: of ``tools=``/``reads=`` (names before patterns), else the author's; tightened by the policy."""
        if tool not in self._rules:
            matching = (rule for pattern, rule in self._tools.items() if fnmatch.fnmatchcase(tool, pattern))
            declared = self._tools.get(tool) or next(matching, None) or self.declared.get(tool) or _UNCLASSIFIED
            self._rules[tool] = self.policy.rule(tool, declared) if self.policy is not None else declared
        return self._rules[tool]

    def fingerprint(self, tool: str) -> str:
        """Return a digest of what the model is told of a tool: name, description, schema. Equal in every process (AS-10)."""
        return hashlib.sha256(json.dumps([tool, self._definitions.get(tool, str)()], sort_keys=True, default=str).encode()).hexdigest()

    @property
    def approvals(self) -> Any:
        """What people have to decide, or have decided: what a plugin offers under that name, :class:`surefoot_policy.Approvals`."""
        return self.plugins.view("approvals", self)

    def unclassified(self) -> list[str]:
        """Return the registered tools that nobody classified, sorted."""
        return sorted(name for name in self._identities if self.rule(name).effect is Effect.UNCLASSIFIED)

    def step_rule(self, name: str) -> StepRule:
        """Return the rule for a step name: exact before patterns."""
        return self.steps.get(name) or next((r for p, r in self.steps.items() if fnmatch.fnmatchcase(name, p)), _ANY_STEP)

    def verifier(self, rule: StepRule) -> Verifier | None:
        """Return the rule's verifier, made once."""
        if id(rule) not in self._verifiers:
            self._verifiers[id(rule)] = (rule, as_verifier(rule.verifier, self.plugins.verifier))
        return self._verifiers[id(rule)][1]

    def control_flow(self, *kinds: type[BaseException]) -> None:
        """Name exceptions with which the framework suspends a body (an interrupt): neither result nor error."""
        self._suspends += [kind for kind in kinds if kind not in self._suspends]

    def suspends(self, exc: BaseException) -> bool:
        """Return whether ``exc`` is the framework's control flow."""
        return isinstance(exc, tuple(self._suspends))

    def opaque_digest(self, arguments: Mapping[str, Any]) -> str:
        """Return a digest of arguments that cannot be stored: by their representation, the best there is."""
        return self.codec.digest(repr(sorted(arguments.items())))

    def show(self, record: CallRecord) -> str:
        """Return a call's recorded answer in a few words."""
        if record.state is CallState.COMMITTED and record.value is not None:
            return repr(self.codec.loads(record.value))[:300]
        if record.error is not None:
            return repr(load_error(self.codec, record.error))[:300]
        return "unknown"

    def redactor(self) -> Callable[[str], str] | None:
        """Return :meth:`redact`, or ``None`` while there is nothing that anybody wants redacted."""
        return self.plugins.redactor() if self.policy is None else self.policy.redacting(self.plugins.redactor())

    def redact(self, text: str) -> str:
        """Return ``text`` without registered secrets, as the redacting plugins and the policy leave it."""
        return text if (redact := self.redactor()) is None else redact(text)

    # --- what runs here

    def started(self, record: CallRecord) -> None:
        """Note that the call's body runs in this process."""
        _bodies.add((self.store.url, record.call_id))

    def ended(self, record: CallRecord) -> None:
        """Note that the call's body ended."""
        _bodies.discard((self.store.url, record.call_id))

    def is_running(self, record: CallRecord) -> bool:
        """Return whether somebody alive may still be in the body that this intent announced."""
        return self.runs_here(record) if record.owner == self.store.owner() else self.store.alive(record.owner)

    def runs_here(self, record: CallRecord) -> bool:
        """Return whether the call's body runs in this process, left by its caller or not."""
        return (self.store.url, record.call_id) in _bodies

    def runs_around(self, record: CallRecord, frame: Frame) -> bool:
        """Return whether this code is inside the body of ``record``: waiting for it would never end."""
        place, within = here(), below("", record, record.occurrence) in frame.path
        return within or (isinstance(place, ActiveCall) and place.call.call_id == record.call_id)

    # --- the two faces

    def transact(self, tx: Tx) -> Any:
        """Run a transaction and deliver its events once it is durable."""
        if tx.rides:
            return self._riders.append(tx.work)
        with _Work(tx, self) as work:
            return self.store.run(work, write=tx.write)

    async def atransact(self, tx: Tx) -> Any:
        """Like :meth:`transact`, from a coroutine."""
        if tx.rides:
            return self._riders.append(tx.work)
        with _Work(tx, self) as work:
            return await self.store.arun(work, write=tx.write)

    def drive(self, program: Program[Any]) -> Any:
        """Run one of the engine's programs from ordinary code."""
        return drive(program, self.transact)

    async def adrive(self, program: Program[Any]) -> Any:
        """Run one of the engine's programs from a coroutine."""
        return await adrive(program, self.atransact)

    def call(self, frame: Frame, request: Request, body: Callable[[], Any]) -> Any:
        """Govern one call of a synchronous body."""
        return self.drive(call(self, frame, request, Do(body)))

    async def acall(self, frame: Frame, request: Request, body: Callable[[], Any]) -> Any:
        """Govern one call of an asynchronous body."""
        return await self.adrive(call(self, frame, request, Do(body, body)))

    # --- wrapping and closing

    def tool(self, target: Any) -> Any:
        """Return a tool guarded, for calls from node code: what it is comes from the adapter that knows its type."""
        return self.plugins.adapter_for(target).tool(target, self)

    def announce(self, what: str) -> None:
        """Log one notice that lists the unclassified tools of what was wrapped; ``strict`` refuses them."""
        names = ", ".join(self.unclassified())
        if names and self.strict:
            raise UsageError(f"strict=True, and nobody classified {names}; declare them with tools=, reads= or @surefoot.tool")
        if names:
            _log.info("%s", words.unclassified(what, names))

    def close(self) -> None:
        """Write what still waits to ride along, and release the store's files and connections."""
        if self._riders:
            self.transact(Tx(lambda _unit: None))
        self.store.close()

    async def aclose(self) -> None:
        """Like :meth:`close`, from a coroutine."""
        self.close()

    def __enter__(self) -> Self:
        """Return the guard."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Close it."""
        self.close()


class _Work:
    """What a store runs for a :class:`~surefoot.engine.program.Tx`, and the events to deliver after it."""

    __slots__ = ("_events", "_guard", "_riders", "_tx")

    def __init__(self, tx: Tx, guard: Guard) -> None:
        self._tx = tx
        self._guard = guard
        self._riders: list[Callable[[Unit], Any]] = []
        self._events: Sequence[Event] = ()

    def __call__(self, transaction: Transaction) -> Any:
        guard = self._guard
        unit = Unit(transaction, guard.clock(), guard.redactor())
        self._events = unit.events
        if guard._riders and self._tx.write:  # noqa: SLF001 - a part of the guard
            self._riders, guard._riders = guard._riders, []  # noqa: SLF001 - as above
            for rider in self._riders:
                try:
                    rider(unit)
                except (IntegrityError, LeaseLost, UsageError):  # it would fail whatever it rode with, for ever
                    _log.exception("the outcome of a read could not be recorded; where it is asked for again, it is read again")
        return self._tx.work(unit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is not None:
            self._guard._riders[:0] = self._riders  # noqa: SLF001 - as above; nothing of it has happened
        elif self._events:
            self._guard.plugins.deliver(self._events, self._guard._on_event)  # noqa: SLF001 - as above


def _maps(given: object, kind: type) -> bool:
    return given is None or (isinstance(given, Mapping) and all(isinstance(k, str) and isinstance(r, kind) for k, r in given.items()))


_UNCLASSIFIED = ToolRule()
_ANY_STEP = StepRule()
_bodies: set[tuple[str, str]] = set()
"""Calls whose body runs in this process, whichever guard of the store it went through."""
