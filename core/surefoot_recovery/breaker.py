"""Circuit breakers: what is down is not asked again and again. One per dependency and tenant, for all processes of the store (AS-69).

Only failures of the transport count: a connection that could not be made or was lost, or no answer in time. A tool that answers
with an error has answered, and what a policy or a person refuses never reached the dependency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from surefoot import Admission, Allow, Call, CallRecord, CallState, Decision, Denied, Deny, Effect, Gate, Guard
from surefoot.engine.claims import Claim
from surefoot.engine.failure import load_error
from surefoot.engine.key import owned
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit
from surefoot.types import expect
from surefoot_recovery.watching import looked_at, matches, watch

__all__ = ["Breaker", "BreakerOpen", "Breakers"]

_NAMESPACE: Final = "breakers"
"""Records ``<tenant>/<dependency>``: state, times of the failures in the window, calls to look at, since when it is open, its probe."""
_PROBES: Final = frozenset({Effect.READ, Effect.IDEMPOTENT})
_TRANSPORT: Final = frozenset(
    {
        "builtins.ConnectionError",
        "builtins.TimeoutError",
        "socket.gaierror",
        "ssl.SSLError",
        "aiohttp.client_exceptions.ClientConnectionError",
        "httpcore.NetworkError",
        "httpcore.TimeoutException",
        "httpx.TransportError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "urllib3.exceptions.TimeoutError",
        "urllib3.exceptions.HTTPError",
    }
)
"""Classes whose descendants say that the other side was not reached, or did not answer."""
_NAMES: Final = frozenset(
    {"ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "ConnectionAbortedError", "BrokenPipeError", "TimeoutError"}
    | {"ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "RemoteProtocolError", "gaierror"}
)
"""The same where only the name of the class is known: of what proved that nothing happened, and in a process without the client."""


class BreakerOpen(Denied):
    """The tool's dependency is down as far as anybody knows; nothing ran, and the call may be tried after the cooldown."""

    code = "breaker_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """When to stop asking a dependency, and for how long. Each tenant has one of its own."""

    dependency: str = ""
    """What it is called in records, events and errors; the tools that name it with ``depends_on=`` need it. Empty (``wrap(breaker=)``):
    every dependency that a tool names has one like this."""
    tools: str | Sequence[str] = ()
    """Names or patterns of further tools that need it (``"github_*"``)."""
    failures: int = 3
    """So many failures of the transport within ``window`` open it."""
    window: float = 60.0
    """Seconds."""
    cooldown: float = 30.0
    """Seconds until one call may try whether it is back. Only a declared ``read`` or ``idempotent`` tool does, never an unsafe one."""
    ping: Callable[[], Any] | None = None
    """Tries it where no harmless tool does: raises if the dependency is still down. Asked at most once a cooldown, before a call."""

    def __post_init__(self) -> None:
        """Refuse what cannot work with a :class:`~surefoot.UsageError`."""
        expect("dependency", self.dependency, "the name of a dependency", lambda given: isinstance(given, str))
        expect("tools", self.tools, "for a breaker without dependency=; give it one", lambda given: bool(self.dependency) or not given)
        expect("failures", self.failures, "a number, 1 or more", lambda given: isinstance(given, int) and given >= 1)
        for name, given in (("window", self.window), ("cooldown", self.cooldown)):
            expect(name, given, "a number of seconds", lambda given: isinstance(given, int | float) and given >= 0)
        expect("ping", self.ping, "a function", lambda given: given is None or callable(given))


_CLOSED: Final[dict[str, Any]] = {"state": "closed", "failures": [], "watched": [], "since": 0.0, "probe": None}


class Breakers(Gate, Admission):
    """Breakers at work: asked in the transaction that claims a call, so that of all processes one makes the probe."""

    reads = True

    def __init__(self, guard: Guard, breakers: Sequence[Breaker]) -> None:
        self._guard = guard
        self._breakers = [breaker for breaker in breakers if breaker.dependency]
        self._any = next((breaker for breaker in breakers if not breaker.dependency), None)

    def _of(self, tool: str) -> list[Breaker]:
        """Return the breakers of what a tool needs."""
        needs = self._guard.rule(tool).depends_on
        found = [breaker for breaker in self._breakers if breaker.dependency in needs or matches(tool, breaker.tools)]
        if self._any is not None:
            known = {breaker.dependency for breaker in self._breakers}
            found += [replace(self._any, dependency=name) for name in needs if name not in known]
        return found

    # --- before the transaction

    def check(self, call: Call) -> Decision:
        """Ping a dependency that has cooled down and that this call may not try itself; the admission decides."""
        for breaker in self._of(call.tool):
            if breaker.ping is not None and call.effect not in _PROBES and self._takes_ping(breaker, call):
                with suppress(Exception):  # whatever it raises, the dependency is not back
                    breaker.ping()
                    back = partial(self._put, breaker=breaker, tenant=call.tenant, run_id=call.run_id, state=dict(_CLOSED))
                    self._guard.transact(Tx(back))
        return Allow()

    def _takes_ping(self, breaker: Breaker, call: Call) -> bool:
        def work(unit: Unit) -> bool:
            state = self._state(unit, breaker, call.tenant, call.run_id)
            if state["state"] != "open" or unit.now - state["since"] < breaker.cooldown:
                return False
            unit.records.put(_NAMESPACE, _key(breaker, call.tenant), {**state, "since": unit.now})  # the next one in a cooldown
            return True

        return bool(self._guard.transact(Tx(work)))

    # --- in the transaction

    def admit(self, unit: Unit, claim: Claim, record: CallRecord | None) -> Decision:  # noqa: ARG002 - a call entered again asks too
        """Deny a call whose dependency is down; let one that does no harm try it after the cooldown."""
        run = claim.frame.run.record
        for breaker in self._of(claim.tool):
            state = self._state(unit, breaker, run.tenant, run.run_id)
            if state["state"] == "closed" or (state["state"] == "open" and self._may_try(unit, breaker, claim, state)):
                continue
            why = "is being tried by another call" if state["state"] == "half_open" else f"failed {breaker.failures} times, lately"
            message = f"{claim.tool} was not executed: {breaker.dependency} {why}; try again in {breaker.cooldown:g} s"
            return Deny(message.partition(": ")[2], BreakerOpen.code, BreakerOpen(message, run_id=run.run_id))
        return Allow()

    def _may_try(self, unit: Unit, breaker: Breaker, claim: Claim, state: dict[str, Any]) -> bool:
        return claim.effect in _PROBES and bool(unit.now - state["since"] >= breaker.cooldown)

    def spend(self, unit: Unit, claim: Claim, record: CallRecord | None) -> None:  # noqa: ARG002 - as above
        """Note which call to look at; the one that tries a dependency is the only one until it has ended."""
        run = claim.frame.run.record
        for breaker in self._of(claim.tool):
            state = self._state(unit, breaker, run.tenant, run.run_id)
            state["watched"].append(watch(claim))
            if state["state"] == "open":
                state |= {"state": "half_open", "probe": watch(claim)[0]}
            self._put(unit, breaker, run.tenant, run.run_id, state)

    def _state(self, unit: Unit, breaker: Breaker, tenant: str, run_id: str) -> dict[str, Any]:
        """Return where a breaker stands after what became of the calls since; a change is written."""
        stored = unit.records.get(_NAMESPACE, _key(breaker, tenant))
        state: dict[str, Any] = {**_CLOSED, **(stored.value if stored else {})}
        running, ended = looked_at(unit, self._guard, state["watched"])
        recent = [at for at in state["failures"] if at > unit.now - breaker.window]
        over = {row.call_id for row in ended}  # a body that its caller has left may run on: it has failed all the same
        running = [call for call in running if call[0] not in over]
        state |= {"watched": running, "failures": recent}
        for row in ended:
            failed = _is_transport(self._guard, row)
            if row.call_id == state["probe"]:
                back = not failed and _answered(row)
                state |= {**_CLOSED, "watched": running, "failures": []} if back else {"state": "open", "since": unit.now, "probe": None}
            elif failed and state["state"] == "closed":
                state["failures"].append(row.updated)
        if state["state"] == "closed" and len(state["failures"]) >= breaker.failures:
            state |= {"state": "open", "since": unit.now}
        if stored is not None and (stored.value["state"] != state["state"] or ended):
            self._put(unit, breaker, tenant, run_id, state)
        return state

    def _put(self, unit: Unit, breaker: Breaker, tenant: str, run_id: str, state: dict[str, Any]) -> None:
        key = _key(breaker, tenant)
        before = unit.records.get(_NAMESPACE, key)
        if state["state"] != (before.value["state"] if before else "closed"):
            unit.emit(run_id, f"breaker.{state['state']}", dependency=breaker.dependency, tenant=tenant)
        unit.records.put(_NAMESPACE, key, state)


def _key(breaker: Breaker, tenant: str) -> str:
    return owned(tenant, breaker.dependency)


def _answered(row: CallRecord) -> bool:
    """Return whether a call came to an end of its own: its process did not die in it, and nobody cancelled or suspended it."""
    if row.state is CallState.FAILED:  # proven not to have happened: by the tool, or because its body was never entered
        return "cancelled" not in row.reason.lower()
    return row.state not in {CallState.INTENT, CallState.SUSPENDED} and (row.state is not CallState.IN_DOUBT or row.error is not None)


def _is_transport(guard: Guard, row: CallRecord) -> bool:
    """Return whether a call ended because the other side was not reached, or did not answer in time."""
    if row.state is CallState.IN_DOUBT and row.error is None:
        return row.reason.startswith("it ran past its deadline")
    if row.state is CallState.FAILED:  # its error is a proof, and kept in words only
        return row.reason.partition(":")[0] in _NAMES
    if row.error is None or row.state not in {CallState.RAISED, CallState.IN_DOUBT}:  # in doubt: it raised out of its step
        return False
    error = load_error(guard.codec, row.error)
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}
    return not kinds.isdisjoint(_TRANSPORT) or getattr(error, "kind", "") in _NAMES
