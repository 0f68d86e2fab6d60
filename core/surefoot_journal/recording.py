"""Recorded replies of one agent at one place: asked again, the recorded answer is the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from surefoot import Guard, NotStorable, UsageError, current_call
from surefoot.engine.claims import fence
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do, Program, Tx
from surefoot.engine.unit import Unit
from surefoot.types import Record
from surefoot_journal.replay import Replay, current_replay

__all__ = ["Form", "Kept", "Question", "Recording"]

_NAMESPACE: Final = "journal"
_COUNTED: Final = ("input_tokens", "output_tokens", "cost_usd")
_Digests: TypeAlias = dict[str, Any]
_DECIDES: Final = ("agent", "model", "tools", "said", "results")
"""What must agree for a recorded reply to be the answer, as :class:`Question` has it."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked, as far as it decides whether a recorded reply is the answer. Plain data."""

    agent: str
    """Name of the agent that asks."""
    model: str
    tools: Sequence[str]
    """Names of the tools that the model may ask for."""
    said: Any
    """The newest words of the user."""
    results: Sequence[Any]
    """What tools have answered since, in the order in which they stand in the conversation."""
    prompt: Any
    """All that the model is given. Where only this differs, the reply is replayed and the change is evented."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a framework's reply becomes plain data and comes back."""

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]
    usage: Callable[[Any], Mapping[str, Any]] = lambda _reply: {}
    """What the reply cost, for the event log."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A recorded reply."""

    data: Any


class Recording:
    """The recorded replies of one step: those that it gave, in order, and those that it is about to give."""

    def __init__(self, guard: Guard, frame: Frame, *, behind: int = 0) -> None:
        """Stand at the first model call of an entry; ``behind`` is how many replies the framework itself has already."""
        self._guard = guard
        self._frame = frame
        self._ordinal = behind
        self._asked: tuple[Question | None, _Digests] = (None, {})
        self._said: tuple[Any, str] = (None, "")
        """The newest words of the user and their digest: they stay the same for many questions."""
        self._prefix = f"{frame.run.scope}/{frame.path}@{frame.attempt}."

    def reply(self, question: Question, ask: Do, form: Form) -> Program[Any]:
        """Return the recorded reply, or ask the model and make its reply durable."""
        recorded = yield from self.find(question)
        if recorded is not None:
            return form.load(recorded.data)
        answer = yield ask
        yield from self.keep(question, form.dump(answer), form.usage(answer))
        return answer

    def find(self, question: Question) -> Program[Kept | None]:
        """Return the reply that is recorded here if it answers this question; else forget the rest and return ``None``."""
        digests = self._digests(question)
        self._asked = (question, digests)
        if (replay := current_replay()) is not None:
            return self._again(replay, digests)
        if not (self._frame.run.resumed or self._frame.reentered) and not self._superseded():
            return None  # nobody was here before
        record = yield Tx(self._recorded, write=False)
        if record is None or record.value["reply"] is None:
            return None
        found = yield Tx(partial(self._look, record=record, digests=digests))
        if found is None:
            return None
        self._ordinal += 1
        return Kept(self._guard.codec.loads(found))

    def _superseded(self) -> bool:
        """Return whether this process has begun a newer entry; of another process's the store knows, where the reply is kept."""
        run = self._frame.run
        return any(run.entries.get(frame.path, frame.entry) > frame.entry for frame in self._frame.chain())

    def _again(self, replay: Replay, digests: _Digests) -> Kept:
        """Return the recorded reply in an offline replay, where any difference is one."""
        which = f"model call {self._ordinal + 1} of {self._frame.path}"
        recorded = replay.reply(self._key(self._ordinal))
        stop = self._frame.run.stop
        if recorded is None or recorded["reply"] is None:
            raise stop(replay.missing(f"{which} has no recorded reply"))
        differs = [name for name in (*_DECIDES, *(["prompt"] if replay.exact else [])) if recorded[name] != digests[name]]
        if differs:
            shown = [json.dumps({name: found[name] for name in differs}) for found in (recorded, digests)]
            raise stop(replay.differs(f"{which} asks otherwise ({', '.join(differs)})", recorded=shown[0], now=shown[1]))
        self._ordinal += 1
        replay.replies.append(f"{self._frame.path}.{self._ordinal}")
        return Kept(self._guard.codec.loads(recorded["reply"]))

    def keep(self, question: Question, data: Any, usage: Mapping[str, Any]) -> Program[None]:
        """Make a reply durable, before anybody acts on it. One that cannot be stored as it is, is not kept (AS-68)."""
        try:
            text = self._guard.codec.dumps(data, whole=True)
        except NotStorable as problem:
            text, usage = None, {**usage, "unrecorded": str(problem)}
        asked, digests = self._asked
        call, digests = current_call(), digests if asked is question else self._digests(question)
        told = {"model": question.model, "agent": question.agent, "tool": call.tool if call is not None else ""}
        yield Tx(partial(self._write, digests=digests, text=text, usage=usage, told=told))
        self._ordinal += 1

    # --- in transactions

    def _key(self, ordinal: int) -> str:
        return f"{self._prefix}{ordinal:06d}"

    def _recorded(self, unit: Unit) -> Record | None:
        fence(unit, self._frame)
        return unit.records.get(_NAMESPACE, self._key(self._ordinal))

    def _look(self, unit: Unit, record: Record, digests: _Digests) -> str | None:
        fence(unit, self._frame)
        differs = [name for name in _DECIDES if record.value[name] != digests[name]]
        if differs:
            self._forget(unit)
            self._emit(unit, "model.diverged", differs=", ".join(differs))
            return None
        if record.value["prompt"] != digests["prompt"]:
            self._emit(unit, "model.prompt_changed")
        self._emit(unit, "model.replayed")
        return str(record.value["reply"])

    def _forget(self, unit: Unit) -> None:
        """Drop what is recorded from here on: it answered other questions."""
        first, after = self._key(self._ordinal), None
        while page := unit.records.list(_NAMESPACE, prefix=self._prefix, after=after, limit=500):
            after = page[-1].key
            for record in page:
                if record.key >= first:
                    unit.records.delete(_NAMESPACE, record.key)

    def _write(self, unit: Unit, digests: _Digests, text: str | None, usage: Mapping[str, Any], told: Mapping[str, str]) -> None:
        fence(unit, self._frame)
        unit.records.put(_NAMESPACE, self._key(self._ordinal), {**digests, "reply": text, "usage": dict(usage)})
        self._emit(unit, "model.replied", **usage)
        if (spend := _spending(self._guard)) is not None:
            spend(unit, self._frame, **told, **{name: usage[name] for name in _COUNTED if name in usage})

    def _emit(self, unit: Unit, kind: str, **data: Any) -> None:
        unit.emit(self._frame.run.record.run_id, kind, step=self._frame.path, attempt=self._frame.attempt, ordinal=self._ordinal, **data)

    def _digests(self, question: Question) -> _Digests:
        digest = self._guard.codec.digest
        if type(question.said) is not str or question.said != self._said[0]:
            self._said = question.said, digest(_summary(question.said))
        return {
            "agent": question.agent,
            "model": question.model,
            "tools": sorted(question.tools),
            "said": self._said[1],
            "results": digest(_summary(list(question.results))),
            "prompt": digest(_summary(question.prompt)),
        }


def _spending(guard: Guard) -> Any:
    """Return what counts the usage of models for a guard that limits anything, or ``None``."""
    if not guard.admissions:
        return None
    if guard not in _spends:
        try:
            _spends[guard] = guard.plugins.view("spending", guard)
        except UsageError:  # another policy than ours, that does not want to know
            _spends[guard] = None
    return _spends[guard]


_spends: WeakKeyDictionary[Guard, Any] = WeakKeyDictionary()
_text_of: Final = json.JSONEncoder(check_circular=False, default=repr).encode


def _summary(asked: Any) -> str:
    """Return a short text for what may be a whole conversation, and is read at every turn: what is written alike has an equal one."""
    try:
        text = _text_of(asked)
    except (TypeError, ValueError, RecursionError):
        text = repr(asked)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()
