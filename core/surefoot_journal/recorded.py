"""A recorded run as plain data: read from a store, written as JSON lines, read from there again.

The lines hold what an offline replay needs and nothing else: the run, its input, its replies, calls, committed steps and rejected
attempts. Every text in them is redacted once more, for a secret may have been registered since it was stored (AS-68).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from surefoot import CallRecord, CallState, Checkpoint, Effect, Event, Guard, RunRecord, RunStatus, UsageError
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit

__all__ = ["Recorded", "check_of"]

_FORMAT: Final = "surefoot-run"
_VERSION: Final = 1
_REPLIES: Final = "journal"
_INPUTS: Final = "inputs"
_HISTORY: Final = "history"
_RUN: Final = ("run_id", "tenant", "thread", "ordinal", "status", "digest", "adapter", "first", "origin")
_CALL: Final = (
    *("call_id", "key", "tenant", "conversation", "run_id", "scope", "path", "tool", "args_digest", "arguments", "effect", "state"),
    *("entered", "value", "error", "reason", "alias", "occurrence"),
)
_STEP: Final = ("path", "branch", "attempt", "digest", "output")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a store knows of one run."""

    run: RunRecord
    check: str
    """What :func:`check_of` returns for a codec that makes the same digests."""
    input: str | None = None
    """JSON text of the input, where it was kept: of a named run that began with one."""
    resumed: bool = False
    """Somebody went on with it; calls that only an earlier entry asked for may be in it."""
    replies: Mapping[str, Any] = field(default_factory=dict)
    """Digests of the question and the reply, by run, step path, attempt and ordinal."""
    calls: tuple[CallRecord, ...] = ()
    """Calls that it made, or got the recorded answer of."""
    steps: tuple[Checkpoint, ...] = ()
    """Its committed steps, oldest first."""
    rejected: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Step path → attempt that a verifier rejected → its hint."""
    repaired: Mapping[str, Any] = field(default_factory=dict)
    """What was said of requests that its conversation had without an answer, by the model's id."""

    @classmethod
    def of(cls, guard: Guard, run_id: str) -> Recorded:
        """Read a run from a guard's store. Raises :class:`~surefoot.NotFound`."""
        run = guard.runs.show(run_id)
        found: Recorded = guard.transact(Tx(partial(_read, run=run, check=check_of(guard)), write=False))
        return found

    def lines(self, redact: Callable[[str], str]) -> Iterator[str]:
        """Yield the run as JSON lines, the format and its version first."""
        run = {name: getattr(self.run, name) for name in _RUN}
        head = {"format": _FORMAT, "version": _VERSION, "check": self.check, "resumed": self.resumed, "input": self.input}
        parts: list[dict[str, Any]] = [{**head, "run": run, "repaired": self.repaired}]
        parts += [{"kind": "reply", "key": key, "value": value} for key, value in sorted(self.replies.items())]
        parts += [{"kind": "call", **{name: getattr(row, name) for name in _CALL}} for row in self.calls]
        parts += [{"kind": "step", **{name: getattr(row, name) for name in _STEP}} for row in self.steps]
        parts += [{"kind": "rejected", "path": path, "hints": hints} for path, hints in sorted(self.rejected.items())]
        for part in parts:
            yield json.dumps(_clean(part, redact), ensure_ascii=False, sort_keys=True)

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Recorded:
        """Return the run that :meth:`lines` wrote.

        Raises :class:`~surefoot.UsageError` for what is no recorded run, or one in a format that this release does not read.
        """
        try:
            parts = [json.loads(line) for line in lines if line.strip()]
            head = parts[0]
            if (head["format"], head["version"]) != (_FORMAT, _VERSION):
                raise UsageError(
                    f"this is {head['format']} {head['version']}, and this release reads {_FORMAT} {_VERSION}; export it again"
                )
            return _made(head, parts[1:])
        except (ValueError, KeyError, IndexError, TypeError) as exc:
            msg = f"this is no recorded run ({type(exc).__name__}: {exc}); 'surefoot runs export RUN' writes one"
            raise UsageError(msg) from exc


def check_of(guard: Guard) -> str:
    """Return what is equal for guards whose digests of a value are equal."""
    return guard.codec.digest(_FORMAT)[:16]


def _read(unit: Unit, run: RunRecord, check: str) -> Recorded:
    events = list(_events(unit, run.run_id))
    asked = dict.fromkeys(event.call_id for event in events if event.call_id is not None)
    rows = [row for call_id in asked if (row := unit.calls.get(call_id)) is not None]
    rejected: dict[str, dict[str, str]] = {}
    for event in events:
        if event.type == "step.rejected" and "error_class" in event.data:  # not a framework's own rejection
            rejected.setdefault(event.step or "", {})[str(event.data["attempt"])] = _hint(event.data)
    given, told = unit.records.get(_INPUTS, run.run_id), unit.records.get(_HISTORY, run.run_id)
    return Recorded(
        dataclasses.replace(run, hold=()),
        check,
        given.value if given is not None else None,
        any(event.type == "run.resumed" for event in events),
        dict(_replies(unit, run.origin or run.run_id)),
        tuple(rows),
        tuple(unit.checkpoints.list(run.run_id, limit=sys.maxsize)),
        rejected,
        told.value if told is not None else {},
    )


def _hint(data: Mapping[str, Any]) -> str:
    if data["verdict"] != "FAIL":
        return ""
    return str(data["hint"] or f"The last output was rejected: {data['error_class']}.")


def _events(unit: Unit, run_id: str) -> Iterator[Event]:
    after = 0
    while page := unit.tx.events.list(run_id, after=after):
        yield from page
        after = page[-1].seq


def _replies(unit: Unit, scope: str) -> Iterator[tuple[str, Any]]:
    after = None
    while page := unit.records.list(_REPLIES, prefix=f"{scope}/", after=after, limit=500):
        after = page[-1].key
        yield from ((record.key, record.value) for record in page)


def _clean(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _clean(item, redact) for key, item in value.items()}
    return [_clean(item, redact) for item in value] if isinstance(value, list | tuple) else value


def _made(head: Mapping[str, Any], parts: list[dict[str, Any]]) -> Recorded:
    kinds: dict[str, list[dict[str, Any]]] = {"reply": [], "call": [], "step": [], "rejected": []}
    for part in parts:
        kinds[part.pop("kind")].append(part)
    run = RunRecord(**{**head["run"], "status": RunStatus(head["run"]["status"])})
    return Recorded(
        run,
        head["check"],
        head["input"],
        head["resumed"],
        {part["key"]: part["value"] for part in kinds["reply"]},
        tuple(_call(part) for part in kinds["call"]),
        tuple(Checkpoint(run.run_id, entry=0, verdict="null", **part) for part in kinds["step"]),
        {part["path"]: part["hints"] for part in kinds["rejected"]},
        head.get("repaired", {}),
    )


def _call(part: dict[str, Any]) -> CallRecord:
    plain = {"effect": Effect(part["effect"]), "state": CallState(part["state"]), "entry": 0, "touched": 0, "owner": ""}
    return CallRecord(**{**part, **plain})
