"""The guard: rules, a store, and the two faces of the engine."""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from surefoot.codec import Codec
from surefoot.contracts import Gate, Policy, Store, Verifier
from surefoot.engine.call import call
from surefoot.engine.claims import Request
from surefoot.engine.failure import load_error
from surefoot.engine.frames import ActiveCall, Frame, here
from surefoot.engine.inbox import Calls, Runs
from surefoot.engine.program import Do, Program, Tx, adrive, drive
from surefoot.engine.unit import Unit
from surefoot.engine.verify import as_verifier
from surefoot.errors import UsageError
from surefoot.plugins import Plugins
from surefoot.types import Budget, CallRecord, CallState, Effect, Event, Retry, StepRule, ToolRule

__all__ = ["Guard"]

_log = logging.getLogger("surefoot")
_log.addHandler(logging.NullHandler())


class Guard:
    """Governs calls and steps over one store. Thread-safe; a context manager that closes its store.

    The options are those of :func:`surefoot.wrap`; ``gates`` are asked about every call, in order; ``checkpoints`` is the
    URL of a separate store for checkpoints, where they are not to be beside the ledger.
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
        policy: str | Policy | None = None,
        gates: Sequence[Gate] = (),
        on_event: Callable[[Event], None] | None = None,
        wait: float | None = None,
        strict: bool = False,
        plugins: Plugins | None = None,
        checkpoints: str | None = None,
    ) -> None:
        self.plugins = plugins or Plugins.default()
        self.store = self.plugins.open_store(store, strict=strict, checkpoints=checkpoints)
        self.redact = self.plugins.redact
        self.codec = Codec(self.redact if self.plugins.redacts else None)
        self.clock: Callable[[], float] = time.time
        self.retry = retry or Retry()
        self.budget = budget
        self.wait = wait
        self.strict = strict
        self.policy = self.plugins.policy(policy) if isinstance(policy, str) else policy
        self.gates = [*gates, *(self.policy.gates() if self.policy else ())]
        self.calls = Calls(self)
        self.runs = Runs(self)
        self._tools = {**dict.fromkeys(reads, ToolRule(effect=Effect.READ)), **(tools or {})}
        self._steps = dict(steps or {})
        self._declared: dict[str, ToolRule] = {}
        self._identities: dict[str, str] = {}
        self._verifiers: dict[int, Verifier | None] = {}
        self._suspends: list[type[BaseException]] = []
        self._on_event = on_event

    # --- rules

    def register(self, tool: str, identity: str, rule: ToolRule | None = None) -> None:
        """Make a tool known: its qualified name, what function it is, and what its author declared.

        Raises :class:`~surefoot.UsageError` when another function has that name in this guard.
        """
        known = self._identities.setdefault(tool, identity)
        if known != identity:
            raise UsageError(f"two tools are called {tool!r} ({known} and {identity}); rename one, or wrap them with separate guards")
        if rule is not None:
            self._declared[tool] = rule

    def rule(self, tool: str) -> ToolRule:
        """Return the rule in force: the policy's, else ``tools=``/``reads=`` (an exact name before patterns), else the author's."""
        declared = self.policy.rule(tool) if self.policy else None
        if declared is None:
            declared = self._tools.get(tool) or next((r for p, r in self._tools.items() if fnmatch.fnmatchcase(tool, p)), None)
        return declared or self._declared.get(tool) or _UNCLASSIFIED

    def unclassified(self) -> list[str]:
        """Return the registered tools that nobody classified, sorted."""
        return sorted(name for name in self._identities if self.rule(name).effect is Effect.UNCLASSIFIED)

    def step_rule(self, name: str) -> StepRule:
        """Return the rule for a step name: exact before patterns."""
        rule = self._steps.get(name) or next((r for p, r in self._steps.items() if fnmatch.fnmatchcase(name, p)), None)
        return rule or _ANY_STEP

    def verifier(self, rule: StepRule) -> Verifier | None:
        """Return the rule's verifier, made once."""
        if id(rule) not in self._verifiers:
            self._verifiers[id(rule)] = as_verifier(rule.verifier, self.plugins.verifier)
        return self._verifiers[id(rule)]

    def control_flow(self, *kinds: type[BaseException]) -> None:
        """Name exceptions with which the framework suspends a body (an interrupt): neither result nor error."""
        self._suspends += [kind for kind in kinds if kind not in self._suspends]

    def suspends(self, exc: BaseException) -> bool:
        """Return whether ``exc`` is the framework's control flow."""
        return isinstance(exc, tuple(self._suspends))

    def opaque_digest(self, arguments: Mapping[str, Any]) -> str:
        """Return a digest of arguments that cannot be stored: by their representation, the best there is."""
        return hashlib.sha256(repr(sorted(arguments.items())).encode()).hexdigest()

    def show(self, record: CallRecord) -> str:
        """Return a call's recorded answer in a few words."""
        if record.state is CallState.COMMITTED and record.value is not None:
            return repr(self.codec.loads(record.value))[:300]
        if record.error is not None:
            return repr(load_error(self.codec, record.error))[:300]
        return "unknown"

    # --- what runs here

    def started(self, record: CallRecord) -> None:
        """Note that the call's body runs in this process."""
        _bodies.add((self.store.url, record.call_id))

    def ended(self, record: CallRecord) -> None:
        """Note that the call's body ended."""
        _bodies.discard((self.store.url, record.call_id))

    def is_running(self, record: CallRecord) -> bool:
        """Return whether somebody alive may still be in the body that this intent announced."""
        if record.owner == self.store.owner():
            return (self.store.url, record.call_id) in _bodies
        return self.store.alive(record.owner)

    def runs_around(self, record: CallRecord, frame: Frame) -> bool:
        """Return whether this code is inside the body of ``record``: waiting for it would never end."""
        place = here()
        inside = isinstance(place, ActiveCall) and place.call.call_id == record.call_id
        return inside or f"({record.args_digest[:12]}.{record.occurrence})" in frame.path

    # --- the two faces

    def transact(self, tx: Tx) -> Any:
        """Run a transaction and deliver its events once it is durable."""
        box: list[Unit] = []
        result = self.store.run(lambda t: self._work(tx, t, box), write=tx.write)
        self._deliver(box)
        return result

    async def atransact(self, tx: Tx) -> Any:
        """Like :meth:`transact`, from a coroutine."""
        box: list[Unit] = []
        result = await self.store.arun(lambda t: self._work(tx, t, box), write=tx.write)
        self._deliver(box)
        return result

    def _work(self, tx: Tx, transaction: Any, box: list[Unit]) -> Any:
        box[:] = [Unit(transaction, self.clock())]
        return tx.work(box[0])

    def _deliver(self, box: list[Unit]) -> None:
        for unit in box:
            for event in unit.events:
                self.plugins.event(event, self._on_event)

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
        return self.plugins.adapter_for(target).wrap(target, self)

    def announce(self, what: str) -> None:
        """Log one notice that lists the unclassified tools of what was wrapped; ``strict`` refuses them."""
        names = self.unclassified()
        if not names:
            return
        if self.strict:
            raise UsageError(f"strict=True, and nobody classified {', '.join(names)}; declare them with tools=, reads= or @surefoot.tool")
        _log.info(
            "%s: nobody classified %s; each runs at most once per request. 'surefoot tools init module:object' writes the file to fill in",
            what,
            ", ".join(names),
        )

    def close(self) -> None:
        """Release the store's files and connections."""
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


_UNCLASSIFIED = ToolRule()
_ANY_STEP = StepRule()
_bodies: set[tuple[str, str]] = set()
"""Calls whose body runs in this process, whichever guard of the store it went through."""
