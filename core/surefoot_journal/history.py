"""Conversations whose tool calls have no answer, made whole with what the ledger knows (AS-32, AS-33).

A process that dies between a tool's effect and the message that tells the model leaves a conversation that no provider takes:
every request of the model must be answered before anybody else speaks. An invented "interrupted" invites the model to do it
again. So the answer is the ledger's: the result if there is one, a doubt said as a doubt, "not executed" only where that is
proven, and where the ledger has nothing, that nobody knows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from surefoot import CallRecord, CallState, Guard, NotStorable
from surefoot.engine import words
from surefoot.engine.frames import LiveRun
from surefoot.engine.program import Program, Tx
from surefoot.engine.run import load
from surefoot.engine.unit import Unit
from surefoot_journal.replay import current_replay

__all__ = ["Asked", "Entry", "Settled", "answered", "answering", "orphans", "settle", "whole"]

_log = logging.getLogger("surefoot.history")
_NAMESPACE: Final = "history"
_RUNS: Final = 100
"""How many runs of a thread are looked through, from the newest back."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A tool call that the model asked for in a conversation."""

    call_id: str
    """The model's own id of it."""
    tool: str
    """Qualified name, as the ledger has it."""
    arguments: Any
    """As far as they can be read; ``None`` where they cannot."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a conversation, in no framework's terms."""

    item: Any
    """The framework's own."""
    asks: tuple[Asked, ...] = ()
    answers: str | None = None
    """The call that it answers."""
    speaks: bool = True
    """Somebody says something: the requests before it must have been answered."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the model is told of a request that nobody answered."""

    call_id: str
    tool: str
    state: str
    """``committed`` ``raised`` ``in_doubt`` ``running`` ``failed`` ``suspended``, or ``unknown``: the ledger has nothing."""
    text: str

    @property
    def true(self) -> bool:
        """Whether it is the tool's own result."""
        return self.state == CallState.COMMITTED


def answering(item: Any, call_ids: Sequence[str]) -> list[Entry]:
    """Return an item that answers these calls: one entry for it, and one without an item for each further call. Else, somebody speaks."""
    if not call_ids:
        return [Entry(item)]
    first, *others = call_ids
    return [Entry(item, answers=first, speaks=False), *(Entry(None, answers=other, speaks=False) for other in others)]


def orphans(entries: Sequence[Entry]) -> list[Asked]:
    """Return the requests of a conversation that are not answered in it, in order."""
    given = {entry.answers for entry in entries}
    return [asked for entry in entries for asked in entry.asks if asked.call_id not in given]


def answered(entries: Sequence[Entry], missing: Callable[[Asked], Any]) -> list[Any]:
    """Return the items of a conversation with every request answered before anybody else speaks.

    An answer that comes later is moved to its place; for a request without any, ``missing`` makes the item, or leaves it by
    returning ``None``. Nothing is dropped, and a conversation that was whole comes back as it was.
    """
    later = {entry.answers: entry.item for entry in reversed(entries) if entry.answers is not None}
    items: list[Any] = []
    waiting: dict[str, Asked] = {}
    moved: set[int] = set()
    for entry in entries:
        if entry.speaks:
            items += _flushed(waiting, later, moved, missing)
        if entry.answers is not None and waiting.pop(entry.answers, None) is None and id(entry.item) in moved:
            continue
        items.append(entry.item)
        waiting |= {asked.call_id: asked for asked in entry.asks}
    return items + _flushed(waiting, later, moved, missing)


def whole(
    guard: Guard,
    run: LiveRun,
    entries: Sequence[Entry],
    made: Callable[[Settled], Any],
    *,
    show: Callable[[Any], str] = str,
    known: dict[str, Settled] | None = None,
) -> Program[list[Any] | None]:
    """Return the items of a conversation with the answers in it that it lacks; ``None`` where it lacks none.

    :param made: makes the framework's item of what the model is told.
    :param show: makes a text of a result, as :func:`settle` does.
    :param known: what was said before in this attempt, by the model's id: it is not asked for again, and what is new is added.
    """
    asked, known = orphans(entries), {} if known is None else known
    if not asked:
        return None
    if new := [call for call in asked if call.call_id not in known]:
        known.update((yield from settle(guard, run, new, show)))
    found = answered(entries, lambda call: made(known[call.call_id]) if call.call_id in known else None)
    return [item for item in found if item is not None]


def _flushed(waiting: dict[str, Asked], later: Mapping[str, Any], moved: set[int], missing: Callable[[Asked], Any]) -> list[Any]:
    found = (later[call_id] if call_id in later else missing(asked) for call_id, asked in waiting.items())
    items = [item for item in found if item is not None]
    moved.update(id(item) for item in items)
    waiting.clear()
    return items


def settle(guard: Guard, run: LiveRun, asked: Sequence[Asked], show: Callable[[Any], str]) -> Program[dict[str, Settled]]:
    """Return what the ledger knows of requests that a run's conversation has without an answer, by the model's id.

    ``show`` makes a text of a result, as the framework shows it to a model. What was said once in a run is said again when it is
    resumed, and in its offline replay; what it was not told then it asks for by itself. The event ``history.repaired`` names each
    request with its state, ``unknown`` included.
    """
    replay = current_replay()
    if replay is not None:
        known = replay.recorded.repaired
        return {call.call_id: Settled(**known[call.call_id]) for call in asked if call.call_id in known}
    found: dict[str, Settled] = yield Tx(partial(_settled, guard=guard, run=run, asked=asked, show=show))
    for one in found.values():
        if one.state == "unknown":
            _log.warning("a conversation has a call of %s (%s) without an answer, and nothing is recorded of it", one.tool, one.call_id)
    return found


def _settled(unit: Unit, guard: Guard, run: LiveRun, asked: Sequence[Asked], show: Callable[[Any], str]) -> dict[str, Settled]:
    run_id = run.record.run_id
    record = unit.records.get(_NAMESPACE, run_id)
    known = {call_id: Settled(**data) for call_id, data in record.value.items()} if record is not None else {}
    open_ = [call for call in asked if call.call_id not in known and not run.resumed]
    if open_:
        rows = _rows(unit, guard, run, open_)
        for call in open_:
            known[call.call_id] = _answer(unit, guard, call, rows.get(call.call_id), show)
        unit.records.put(_NAMESPACE, run_id, {call_id: asdict(one) for call_id, one in known.items()})
        told = ", ".join(f"{call.tool} ({call.call_id}): {known[call.call_id].state}" for call in open_)
        unit.emit(run_id, "history.repaired", calls=told)
    return {call.call_id: known[call.call_id] for call in asked if call.call_id in known}


def _rows(unit: Unit, guard: Guard, run: LiveRun, asked: Sequence[Asked]) -> dict[str, CallRecord]:
    """Return the ledger's row of each request: of the model's own id, else the newest equal request of the conversation."""
    found: dict[str, CallRecord] = {}
    by_id = {call.call_id: call for call in asked}
    equal: dict[tuple[str, str], CallRecord] = {}
    for row in _conversation(unit, run):
        call = by_id.get(row.alias or "")
        if call is not None and call.tool == row.tool:
            found.setdefault(call.call_id, row)
        elif call is None:
            equal.setdefault((row.tool, row.args_digest), row)
        if len(found) == len(by_id):
            break
    for call in asked:
        what = (call.tool, _digest(guard, call.arguments))
        if call.call_id not in found and what in equal:
            found[call.call_id] = equal.pop(what)
    return found


def _digest(guard: Guard, arguments: Any) -> str:
    try:
        return guard.codec.digest(arguments)
    except NotStorable:
        return ""


def _conversation(unit: Unit, run: LiveRun) -> Iterator[CallRecord]:
    """Yield the calls of the thread's runs, the newest first."""
    record = run.record if run.record.thread is not None else None
    for _ in range(_RUNS):
        if record is None:
            return
        rows: list[CallRecord] = []
        after = None
        while page := unit.calls.list(run_id=record.run_id, after=after, limit=500):
            after = page[-1].call_id
            rows += page
        yield from reversed(rows)
        record = load(unit, record.previous) if record.previous else None


def _answer(unit: Unit, guard: Guard, call: Asked, row: CallRecord | None, show: Callable[[Any], str]) -> Settled:
    if row is None:
        return _unknown(call)
    told = partial(Settled, call.call_id, call.tool)
    match row.state:
        case CallState.COMMITTED if row.value is not None:
            return told(str(row.state), unit.clean(show(guard.codec.loads(row.value))))
        case CallState.RAISED if row.error is not None:
            data = json.loads(row.error)
            return told(str(row.state), f"Error: {call.tool} raised {data['kind']}: {data['message']}")
        case CallState.FAILED:
            return told(str(row.state), f"Not executed: it is proven that this {call.tool} call did not happen.")
        case CallState.SUSPENDED:
            return told(str(row.state), f"Not executed: this {call.tool} call waited for an answer of a person, which never came.")
        case CallState.INTENT if guard.is_running(row):
            return told("running", words.doubt_notice(row.changed(reason="it is still running")))
        case CallState.INTENT | CallState.IN_DOUBT:
            reason = row.reason or "its process ended between its intent and its outcome"
            return told(str(CallState.IN_DOUBT), words.doubt_notice(row.changed(reason=reason)))
    return told(str(row.state), words.unavailable(row))


def _unknown(call: Asked) -> Settled:
    text = (
        f"Outcome unknown: nothing is recorded of this {call.tool} call, so it may or may not have happened. Do not assume either. "
        "Find out by other means, or tell the user that it is unknown."
    )
    return Settled(call.call_id, call.tool, "unknown", text)
