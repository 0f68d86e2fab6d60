"""Tool calls on their way through the guard: what a ``tools/call`` is to the ledger, and what its caller is told."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from surefoot import (
    ApprovalPending,
    BudgetExceeded,
    CallState,
    Denied,
    Effect,
    Guard,
    InDoubt,
    InFlight,
    KeyConflict,
    NotCommitted,
    RunStatus,
    StoreUnavailable,
    SurefootError,
    UsageError,
    current_call,
)
from surefoot.engine import outcomes, words
from surefoot.engine.claims import Request
from surefoot.engine.deadline import Overdue
from surefoot.engine.frames import Frame, LiveRun
from surefoot.engine.key import call_id, element
from surefoot.engine.program import Do, Tx
from surefoot.engine.run import RunSpec, close_run, open_run
from surefoot.engine.transitions import CallEvent
from surefoot.engine.unit import Unit
from surefoot_adapters import hiding
from surefoot_mcp_server import outer
from surefoot_mcp_server.crashes import Crashes
from surefoot_mcp_server.people import Elicit, People, void
from surefoot_mcp_server.pins import Change, Pins
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.wire import Asked, error, kind_of, refusal, replayed

__all__ = ["Answer", "Governor", "Reply"]

_log = logging.getLogger("surefoot.mcp")
_AT_MOST_ONCE: Final = frozenset({Effect.UNSAFE, Effect.UNCLASSIFIED})
_FLUSH_AFTER: Final = 0.2
_NOT_APPROVED: Final = "the tool is not as it was approved"


class _Said(Exception):
    """What the server answered instead of a result: an error result, or a JSON-RPC error. Recorded as what the tool raised."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)

    def __str__(self) -> str:
        outcome = self.outcome
        content = outcome["result"].get("content") if "result" in outcome else [{"text": outcome["error"].get("message")}]
        texts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        return next((text for text in texts if isinstance(text, str)), "an error without words")

    @property
    def outcome(self) -> dict[str, Any]:
        """``{"result": …}`` or ``{"error": …}``."""
        return json.loads(self.args[0])  # type: ignore[no-any-return]


class _Asks(BaseException):
    """The server needs an answer of the client first, and will be asked again: no result yet."""

    outcome: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Reply:
    """The server's response to a call."""

    line: bytes
    """As it came."""
    message: Mapping[str, Any]
    response: Any = None
    """What it came in, over HTTP."""
    refused: bool = False
    """It says that the request was refused before it was read as a call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets: the server's own response, or an outcome that was made here."""

    reply: Reply | None = None
    outcome: Mapping[str, Any] | None = None
    call_id: str | None = None
    """The ledger's row, where the server was asked."""


class Governor:
    """Sends tool calls of one server through a guard. One for each connection."""

    def __init__(self, guard: Guard, rules: Rules, tenant: str = "default", *, inside: bool = False) -> None:
        self.guard = guard
        self.rules = rules
        self.tenant = tenant
        self.pins = None if inside else Pins(guard, rules.server)
        self._inside = inside
        """It is in the server's own process: there is nothing to pin, and nobody says when its last call has ended."""
        self._people = People(guard, rules, tenant)
        self._crashes = Crashes(guard, tenant, rules.conversation)
        self._numbers = itertools.count(1)
        self._session: LiveRun | None = None
        self._opening = asyncio.Lock()
        self._flushing: asyncio.Task[None] | None = None
        guard.control_flow(_Asks)

    def effect(self, tool: str) -> Effect:
        """Return the class of a tool that is in force."""
        return Effect(self.guard.rule(self.rules.qualified(tool)).effect)

    async def recover(self) -> None:
        """Find what dead proxies of this server left: whatever they had begun is in doubt (AS-85)."""
        await self.guard.atransact(Tx(self._lost))

    def _lost(self, unit: Unit) -> None:
        after = None
        while page := unit.calls.list(state=CallState.INTENT, after=after, limit=500):
            after = page[-1].call_id
            for row in page:
                if row.conversation == self.rules.conversation and not self.guard.is_running(row):
                    lost = unit.move(row, CallEvent.LOST, reason="the proxy ended between its intent and its outcome")
                    self._crashes.proxy_died(unit, lost)

    async def call(
        self,
        asked: Asked,
        dispatch: Callable[[], Awaitable[Reply]],
        tools: Callable[[], Awaitable[Mapping[str, Any]]],
        elicit: Elicit | None = None,
    ) -> Answer:
        """Govern one call; ``dispatch`` sends it to the server and returns what came back. Never raises an error of the call's.

        ``dispatch`` raises :class:`~surefoot.NotCommitted` where the server cannot have got it, and :class:`.lost.Lost`. ``tools`` returns
        the server's tools as it lists them now; a tool that is not as it was approved is neither called nor answered from the ledger.
        ``elicit`` asks the client's user about a call that a policy lets a person decide, where the client can be asked in between.
        """
        if asked.key is None and self.rules.needs_key(asked.tool):
            what = "it needs an idempotency key, a name for the operation that stays the same when it is retried"
            return Answer(outcome=refusal(asked, f"{asked.tool} was not executed: {what}.", "idempotency_key_required"))
        try:
            if self.pins is not None and (changed := await self.pins.problem(asked.tool, tools)):
                void(self.guard, [self.rules.qualified(asked.tool)], _NOT_APPROVED)
                return Answer(outcome=_changed(asked, changed))
            crashes = await self._crashes.of(self.rules.qualified(asked.tool), asked, self.effect(asked.tool))
            counted = await outer.counted(self, asked)
            if counted is outer.Counted.NOT_HERE:
                return await self._governed(asked, crashes.noting(dispatch), elicit)
            return Answer(await dispatch()) if counted is outer.Counted.NOW else Answer(outcome=outer.refused(asked))
        except SurefootError as exc:
            return Answer(outcome=await self._refused(asked, exc))
        except (Overdue, TimeoutError) as exc:
            return Answer(outcome=refusal(asked, f"{asked.tool} has no answer: {exc}.", "no_answer"))
        except NotCommitted as exc:
            return Answer(outcome=refusal(asked, f"{asked.tool} was not executed: {exc}.", "not_executed"))
        except Exception:  # noqa: BLE001 - whatever it was: the client is told, and nothing passes ungoverned
            _log.exception("%s could not be governed", asked.tool)
            return Answer(outcome=error(-32603, f"surefoot could not govern this {asked.tool} call; its log says why"))

    async def _governed(self, asked: Asked, dispatch: Callable[[], Awaitable[Reply]], elicit: Elicit | None) -> Answer:
        """Govern a call; where a policy has a person decide, ask that person, and begin again once somebody has."""
        if not self._people.may(asked.tool):
            return await self._once(asked, dispatch, self._key(asked))
        key = self._key(asked) or await self._people.key(asked)
        try:
            given = await self._once(asked, dispatch, key, waits=True)
        except ApprovalPending as pending:
            if (question := await self._people.ask(asked, pending, elicit)) is not None:
                return Answer(outcome=question)
            given = await self._decided(asked, dispatch, key)
        except Denied:
            await self._people.decided(asked)
            raise
        await self._people.decided(asked)
        return given

    async def _decided(self, asked: Asked, dispatch: Callable[[], Awaitable[Reply]], key: str) -> Answer:
        try:
            return await self._once(asked, dispatch, key, waits=True)
        except Denied as exc:
            return Answer(outcome=await self._refused(asked, exc))

    async def _once(self, asked: Asked, dispatch: Callable[[], Awaitable[Reply]], key: str | None, *, waits: bool = False) -> Answer:
        """Take a call to the guard; one that may wait for a person has a run of its own, which stays open meanwhile."""
        effect = self.effect(asked.tool)
        run = await (self._open() if waits else self._run(effect))
        status = RunStatus.COMPLETED
        frame = Frame(run, None, element("call", next(self._numbers)), run.next_entry(), asked.tool)
        found = _Found()
        request = Request(self.rules.qualified(asked.tool), asked.what, self, key=key)
        try:
            with hiding(self.guard, request):
                value = await self.guard.acall(frame, request, partial(_body, dispatch, found))
        except (_Said, _Asks) as exc:
            if found.reply is not None:
                return Answer(found.reply, call_id=found.call_id)
            return Answer(outcome=replayed(asked, exc.outcome, None))
        except NotCommitted:
            if found.reply is not None:
                return Answer(found.reply)
            raise
        except ApprovalPending:
            status = RunStatus.OPEN
            raise
        finally:
            if run is not self._session:
                await self._close(run, status)
        if effect is Effect.READ:
            self._flush_soon()
        if found.reply is not None:
            return Answer(found.reply, call_id=found.call_id)
        return Answer(outcome=replayed(asked, {"result": _as_result(value)}, None))

    def _key(self, asked: Asked) -> str | None:
        """Return the ledger key that the caller's own name makes, or its scope; ``None``: each request is one of its own."""
        if asked.key is not None:
            return _digest("key", self.tenant, self.rules.qualified(asked.tool), asked.key)
        if self.rules.is_once(asked.tool):
            what = self.guard.codec.digest([asked.what, asked.rounds])
            return _digest("once", self.tenant, self.rules.qualified(asked.tool), self.rules.scope or "", what)
        return None

    # --- runs

    async def _run(self, effect: Effect) -> LiveRun:
        """Return the run of a call: the session's, or one of its own for an unsafe one, so that it holds nothing but itself."""
        if effect is Effect.UNSAFE or self._inside:
            return await self._open()
        async with self._opening:
            if self._session is None:
                self._session = await self._open()
            return self._session

    async def _open(self) -> LiveRun:
        nothing: dict[str, int] = {}
        head, behind = Do(lambda: None), Do(lambda: nothing)
        spec = RunSpec("mcp", self.tenant, None, "input", None, self.rules.conversation, head=head, behind=behind, stop=lambda exc: exc)
        run: LiveRun = (await self.guard.adrive(open_run(self.guard, spec))).run
        run.conversation = self.rules.conversation
        return run

    async def _close(self, run: LiveRun, status: RunStatus = RunStatus.COMPLETED) -> None:
        try:
            await self.guard.adrive(close_run(self.guard, run, status))
        except (InDoubt, StoreUnavailable) as exc:  # the call's own answer says it
            _log.debug("run %s stays open: %s", run.record.run_id, exc)

    async def close(self) -> None:
        """End the session and write what waits to be written."""
        if self._flushing is not None:
            self._flushing.cancel()
        if self._session is not None:
            await self._close(self._session)

    def _flush_soon(self) -> None:
        """Have the outcomes of reads written even where nothing else is: they ride along, and must not pile up."""
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        await asyncio.sleep(_FLUSH_AFTER)
        await self.guard.atransact(Tx(lambda _unit: None))

    # --- after the call

    async def landed(self, call_id: str, message: Mapping[str, Any], *, given: bool = False) -> None:
        """Record what the server says about a call that nobody waits for any more (AS-14); ``given``: its caller gets it all the same."""
        result = message.get("result")
        if not isinstance(result, dict) or result.get("isError") or kind_of(result) == "input_required":
            return
        record = self.guard.calls.show(call_id)
        await self.guard.adrive(outcomes.committed(self.guard, record, result, ()))
        if given:
            await self._mark(call_id, CallEvent.DELIVERED, sticky=True)

    async def undelivered(self, call_id: str) -> None:
        """Note that the caller was gone when its result came: the next equal call of the conversation gets it, once."""
        await self._mark(call_id, CallEvent.UNDELIVERED, sticky=False)

    async def _mark(self, call_id: str, event: CallEvent, *, sticky: bool) -> None:
        def work(unit: Unit) -> None:
            record = unit.calls.get(call_id)
            if record is not None and record.state is CallState.COMMITTED and record.effect in _AT_MOST_ONCE and record.sticky is sticky:
                unit.move(record, event)

        await self.guard.atransact(Tx(work))

    # --- words

    async def _refused(self, asked: Asked, exc: SurefootError) -> dict[str, Any]:
        """Return what a caller is told whose call has no result."""
        match exc:
            case InDoubt():
                return self._doubtful(asked, exc)
            case KeyConflict():
                return refusal(asked, f"{exc}", "idempotency_conflict", exc.call_id)
            case InFlight():
                text = f"{asked.tool} was not executed again: the same call is still running. Wait, then ask again with the same key."
                return refusal(asked, text, "idempotency_in_flight", exc.call_id)
            case BudgetExceeded() | Denied():
                return refusal(asked, str(exc), exc.code, exc.call_id)
            case StoreUnavailable(call_id=None):
                return refusal(asked, f"{asked.tool} was not executed: the ledger is not available ({exc}).", exc.code)
            case UsageError():
                return refusal(asked, f"{asked.tool} was not executed: {exc}.", exc.code)
        return refusal(asked, str(exc), exc.code, exc.call_id)

    def _doubtful(self, asked: Asked, exc: InDoubt) -> dict[str, Any]:
        record = self.guard.calls.show(exc.call_id) if exc.call_id is not None else None
        if record is None or not record.entered:
            key = self._key(asked)
            used = key is not None and record is not None and record.call_id != call_id(key)
            return refusal(asked, str(exc), "idempotency_conflict" if used else exc.code, exc.call_id)
        settle = f"A person settles it with: surefoot calls settle {record.call_id} --committed JSON, or --failed."
        return refusal(asked, f"{words.doubt_notice(record)} {settle}", exc.code, exc.call_id)


@dataclass(slots=True)
class _Found:
    """What came of asking the server."""

    reply: Reply | None = None
    call_id: str | None = None


def _changed(asked: Asked, changed: Sequence[Change]) -> dict[str, Any]:
    """Return what the caller of a tool is told that is not what a person approved (I28)."""
    what = "; ".join(str(change) for change in changed)
    text = f"{asked.tool} was not executed: it is not what was approved ({what}). A person approves it with: surefoot mcp pin."
    return refusal(asked, text, "pin_mismatch", changes=[change.as_json() for change in changed])


async def _body(dispatch: Callable[[], Awaitable[Reply]], found: _Found) -> dict[str, Any]:
    """Ask the server: the body of a governed call."""
    call = current_call()
    found.call_id = call.call_id if call else None
    reply = await dispatch()
    found.reply = reply
    if reply.refused:
        raise NotCommitted("the server refused the request")
    result = reply.message.get("result")
    if not isinstance(result, dict):
        raise _Said(json.dumps({"error": reply.message.get("error") or {"code": -32603, "message": "the server answered nothing"}}))
    if kind_of(result) == "input_required":
        raise _Asks
    if result.get("isError"):
        raise _Said(json.dumps({"result": result}))
    return result


def _as_result(value: Any) -> Mapping[str, Any]:
    """Return a recorded value as a result; one that a person settled with plain JSON becomes its text."""
    if isinstance(value, dict) and ("content" in value or "resultType" in value):
        return value
    return {"content": [{"type": "text", "text": value if isinstance(value, str) else json.dumps(value)}]}


def _digest(*parts: str) -> str:
    framed = "".join(f"{len(part)}:{part}" for part in ("mcp", *parts))
    return hashlib.sha256(framed.encode("utf-8", "surrogatepass")).hexdigest()
