"""What the sweeps share: a small governed agent without a framework, its effects outside of it, and the oracle."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

from surefoot import Call, CallState, Guard, InDoubt, RunStatus, Store, ToolRule
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame, LiveRun
from surefoot.engine.key import element
from surefoot.engine.program import Do
from surefoot.engine.run import Opened, RunSpec, close_run, open_run
from surefoot.engine.step import StepSpec, step
from surefoot.types import ProbeAnswer, happened, will_not_happen

__all__ = [
    "AT_MOST_ONCE",
    "SCRIPTS",
    "Agent",
    "Ask",
    "Lines",
    "Nowhere",
    "ToolError",
    "memory_folder",
    "opened_copy",
    "spec_of",
    "step_of",
    "url_of",
    "violations",
]


class ToolError(Exception):
    """What a tool raises after its effect."""


# --- files ------------------------------------------------------------------------------------------


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Give a new folder, in the memory file system where there is one: SIGKILL keeps what was written, on any disk."""
    shared = "/dev/shm"  # noqa: S108 - a folder of our own is made in it
    made = tempfile.mkdtemp(prefix="surefoot-", dir=shared if os.access(shared, os.W_OK) else None)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Lines:
    """An append-only file of lines. Each is one write, so that no signal leaves half of one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, *words: str) -> None:
        """Append one line."""
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, ("\t".join(words) + "\n").encode())
        os.close(fd)

    def all(self) -> list[list[str]]:
        """Return the words of every line so far."""
        return [line.split("\t") for line in self.path.read_text().splitlines()] if self.path.exists() else []


def url_of(folder: Path) -> str:
    """Return the URL of the folder's store."""
    return f"sqlite:///{folder}/s.db"


# --- the agent --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that the agent makes."""

    name: str
    """Names it in the effects, in the results and (as alias) in the ledger."""
    tool: str
    model: bool = False
    """Whether a model asked, who is told about a doubt in words; code gets :class:`~surefoot.InDoubt`."""


AT_MOST_ONCE: Final = frozenset({"pay", "probed", "order", "mail", "fails", "breaks"})

SCRIPTS: Final[dict[str, list[list[Ask]]]] = {
    "unsafe": [[Ask("a", "pay"), Ask("b", "look"), Ask("c", "order")], [Ask("d", "pay"), Ask("e", "fails")]],
    "unclassified": [
        [Ask("a", "mail"), Ask("b", "mail", model=True)],
        [Ask("c", "breaks"), Ask("d", "touch"), Ask("e", "mail", model=True)],
    ],
    "probed": [[Ask("a", "probed"), Ask("b", "probed")], [Ask("c", "probed"), Ask("d", "look"), Ask("e", "order")]],
}
"""Steps of calls. ``pay``, ``fails`` and ``probed`` are unsafe, ``order`` too with a business key; ``mail`` and ``breaks`` unclassified."""


class Nowhere:
    """The framework behind an agent: it keeps nothing, so its head is nowhere."""

    head = Do(lambda: None)
    behind = Do(dict)


def spec_of(what: Any, *, thread: str | None = "t") -> RunSpec:
    """Return the invocation of an agent with an input."""
    digest = hashlib.sha256(repr(what).encode()).hexdigest()
    return RunSpec("sweep", "default", thread, "input", what, digest, Nowhere.head, Nowhere.behind, lambda error: error)


def step_of(run: LiveRun, number: int) -> StepSpec:
    """Return an agent's n-th step; it depends on nothing."""
    return StepSpec(run, None, element("work", number), "work", number, f"digest of {number}")


class Agent:
    """Runs a script under a guard, appends each effect to a file outside the store, and notes what it was given.

    ``at`` is called with the name of each place outside the store that a fault may hit.
    """

    def __init__(
        self,
        folder: Path,
        script: Sequence[Sequence[Ask]],
        *,
        at: Callable[[str], object] = str,
        name: str = "t",
        store: Store | None = None,
    ) -> None:
        self.script = script
        self.name = name
        self.at = at
        self.effects = Lines(folder / "effects")
        self.results = Lines(folder / "results")
        self._store = store or url_of(folder)

    @cached_property
    def guard(self) -> Guard:
        """The guard, made on first use."""
        unsafe = partial(ToolRule, effect="unsafe")
        rules = {"pay": unsafe(), "fails": unsafe(), "probed": unsafe(probe=self.probe), "order": unsafe(key=["order"])}
        return Guard(self._store, tools={**rules, "touch": ToolRule("idempotent")}, reads=["look"], wait=10.0)

    def probe(self, call: Call) -> ProbeAnswer:
        """Look into the effects; whoever would have had this one is dead."""
        name = call.arguments["order"].split()[1]
        return next((happened(_value(*line)) for line in self.effects.all() if line[0] == name), will_not_happen())

    def body(self, ask: Ask) -> Any:
        """Have the effect; return a value that nobody can guess, or raise it. Looking has none, and sees the same again."""
        if ask.tool == "look":
            return _value(ask.name, "seen")
        token = uuid.uuid4().hex
        self.at("before the effect")
        self.effects.add(ask.name, token)
        self.at("after the effect")
        if ask.tool in {"fails", "breaks"}:
            raise ToolError(token)
        return _value(ask.name, token)

    async def before(self, _ask: Ask) -> None:
        """Wait in a body, before its effect."""
        await asyncio.sleep(0)

    def request(self, ask: Ask) -> Request:
        """Return the request of an ask."""
        arguments = {"order": f"order {ask.name} of {self.name}", "text": f"some words about {ask.name} " * 4}
        return Request(ask.tool, arguments, None, alias=ask.name, notice=_told if ask.model else None)

    def note(self, what: str, value: Any) -> None:
        """Note what was returned to the agent."""
        self.at("returned")
        self.results.add(what, self.guard.codec.dumps(value))
        self.at("noted")

    def call(self, frame: Frame, ask: Ask) -> Any:
        """Make one call, handling what its tool raises."""
        try:
            value = self.guard.call(frame, self.request(ask), partial(self.body, ask))
        except ToolError as exc:
            value = f"raised {exc}"
        self.note(ask.name, value)
        return value

    async def acall(self, frame: Frame, ask: Ask) -> Any:
        """Like :meth:`call`, from a coroutine whose body waits before and after its effect."""

        async def body() -> Any:
            await self.before(ask)
            try:
                return self.body(ask)
            finally:
                await asyncio.sleep(0)

        try:
            value = await self.guard.acall(frame, self.request(ask), body)
        except ToolError as exc:
            value = f"raised {exc}"
        self.note(ask.name, value)
        return value

    def run(self) -> None:
        """Run the script; raises :class:`~surefoot.InDoubt` when it is held or its code meets a doubt."""
        self._run(lambda frame, asks: Do(lambda: [self.call(frame, ask) for ask in asks]))

    def run_in_threads(self) -> None:
        """Like :meth:`run`, with the calls of a step beside one another in threads."""
        with ThreadPoolExecutor(4) as pool:
            self._run(lambda frame, asks: Do(lambda: list(pool.map(partial(self.call, frame), asks))))

    def _run(self, body: Callable[[Frame, Sequence[Ask]], Do]) -> None:
        drive = self.guard.drive
        opened: Opened = drive(open_run(self.guard, spec_of("go", thread=self.name)))
        try:
            for number, asks in enumerate(self.script, 1):
                output = drive(step(self.guard, step_of(opened.run, number), lambda frame, asks=asks: body(frame, asks)))
                self.note(f"step {number}", output)
        except BaseException as exc:
            drive(close_run(self.guard, opened.run, RunStatus.OPEN, str(exc)))
            raise
        drive(close_run(self.guard, opened.run, RunStatus.COMPLETED))

    async def arun(self) -> None:
        """Like :meth:`run`, from a coroutine, with the calls of a step beside one another."""
        adrive = self.guard.adrive
        opened: Opened = await adrive(open_run(self.guard, spec_of("go", thread=self.name)))
        try:
            for number, asks in enumerate(self.script, 1):
                output = await adrive(step(self.guard, step_of(opened.run, number), partial(self._beside, asks)))
                self.note(f"step {number}", output)
        except BaseException as exc:
            with nullcontext() if isinstance(exc, Exception) else suppress(InDoubt):  # cancellation comes out, held or not
                await adrive(close_run(self.guard, opened.run, RunStatus.OPEN, str(exc)))
            raise
        await adrive(close_run(self.guard, opened.run, RunStatus.COMPLETED))

    def _beside(self, asks: Sequence[Ask], frame: Frame) -> Do:
        async def body() -> list[Any]:
            answers = await asyncio.gather(*(self.acall(frame, ask) for ask in asks), return_exceptions=True)
            errors = [answer for answer in answers if isinstance(answer, BaseException)]
            for error in sorted(errors, key=lambda error: isinstance(error, Exception)):
                raise error
            return answers

        return Do(body, body)

    def settle(self) -> None:
        """Settle by hand what is in doubt, by looking at the effects."""
        seen = dict(line for line in self.effects.all())
        for record in self.guard.calls.list(state=CallState.IN_DOUBT, limit=1000):
            assert record.alias is not None
            if record.alias in seen:
                self.guard.calls.settle(record.call_id, committed=_value(record.alias, seen[record.alias]), by="maria")
            else:
                self.guard.calls.settle(record.call_id, failed=True, by="maria")


def _value(name: str, token: str) -> dict[str, Any]:
    return {"name": name, "token": token, "raw": token.encode(), "pair": (1, 2.5)}


def _told(text: str) -> str:
    return f"told: {text}"


# --- the oracle -------------------------------------------------------------------------------------


@dataclass
class _Found:
    """What lies in a folder, read around surefoot's own API."""

    effects: list[list[str]]
    results: list[list[str]]
    calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: list[tuple[str, int, str]] = field(default_factory=list)
    claims: list[int] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    sound: bool = True


@contextmanager
def opened_copy(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy of a folder's database: opening the file itself would recover it, and closing it tidy up, before the next process."""
    with tempfile.TemporaryDirectory(dir=folder) as copy:
        for name in ("s.db", "s.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(folder / name, Path(copy) / name)
        with closing(sqlite3.connect(Path(copy) / "s.db", isolation_level=None)) as db:
            yield db


@contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a folder's database to look at it, without writing its log back: nobody goes on with the folder."""
    mode = "rw" if (folder / "s.db-journal").exists() else "ro"
    with closing(sqlite3.connect(f"file:{folder}/s.db?mode={mode}", uri=True, isolation_level=None)) as db:
        yield db


def _find(folder: Path, *, thorough: bool, copied: bool) -> _Found:
    found = _Found(Lines(folder / "effects").all(), Lines(folder / "results").all())
    with opened_copy(folder) if copied else _opened(folder) as db:
        db.row_factory = sqlite3.Row
        db.execute("BEGIN")
        if db.execute("PRAGMA user_version").fetchone()[0] > 0:
            found.calls = {row["alias"]: dict(row) for row in db.execute("SELECT * FROM calls")}
            found.steps = [tuple(row) for row in db.execute("SELECT path, entry, output FROM checkpoints ORDER BY run_id, seq")]
            claims = db.execute("SELECT data FROM events WHERE type IN ('call.claimed', 'call.reentered') ORDER BY run_id, seq")
            found.claims = [json.loads(row[0])["entry"] for row in claims]
            found.runs = [json.loads(row[0]) for row in db.execute("SELECT value FROM records WHERE namespace = 'runs'")]
            found.holds = [row[0] for row in db.execute("SELECT key FROM records WHERE namespace = 'holds'")]
        if thorough:
            found.sound = [tuple(row) for row in db.execute("PRAGMA integrity_check")] == [("ok",)]
    return found


def violations(folder: Path, script: Sequence[Sequence[Ask]], *, ended: bool, thorough: bool = True, copied: bool = True) -> list[str]:
    """Return what is wrong in a folder that an agent (and its successors) worked in.

    Safety at any moment: at most one effect of every unsafe and unclassified call (I1), none without its row (I2),
    each returned result in the ledger byte for byte (I3), nothing claimed or committed by an entry that a newer
    invocation superseded (I9), a sound file. With ``ended`` (its owner is gone, and the last one came to an end):
    the run is completed, or held or in doubt with the reason. Without ``copied`` the database itself is opened, which nobody may
    need after that.
    """
    found = _find(folder, thorough=thorough, copied=copied)
    wrong = [] if found.sound else ["the database is damaged"]
    asks = {ask.name: ask for asks in script for ask in asks}
    for name, count in Counter(line[0] for line in found.effects).items():
        if count > 1 and asks[name].tool in AT_MOST_ONCE:
            wrong.append(f"{name} ({asks[name].tool}) took effect {count} times")
        if name not in found.calls:
            wrong.append(f"{name} took effect, and the ledger does not know it")
    wrong += _unreadable(found, {ask.name for ask in asks.values() if ask.tool == "look"})
    epochs = [entry >> 32 for entry in found.claims]
    if epochs != sorted(epochs):
        wrong.append(f"a superseded entry claimed a call: epochs {epochs}")
    if [entry for _, entry, _ in found.steps] != sorted(entry for _, entry, _ in found.steps):
        wrong.append(f"a superseded entry committed a step: {found.steps}")
    if ended:
        wrong += _unended(found)
    return wrong


def _unreadable(found: _Found, reads: set[str]) -> Iterator[str]:
    steps = {f"step {path.partition('#')[2]}": output for path, _, output in found.steps}
    for name, text in found.results:
        if name.startswith("step "):
            stored = steps.get(name)
        else:
            row = found.calls.get(name, {})
            stored = row.get("value")
            if text.startswith('"told: '):
                continue
            if text.startswith('"raised '):
                stored = json.dumps("raised " + json.loads(row["error"])["message"]) if row.get("error") else None
        if stored != text and not (stored is None and name in reads):  # what is not recorded of a read is read again
            yield f"{name} was returned as {text}, and the ledger has {stored}"


def _unended(found: _Found) -> Iterator[str]:
    doubts = [row for row in found.calls.values() if row["state"] == "in_doubt"]
    yield from (f"{row['alias']} is in doubt without a reason" for row in doubts if not row["reason"])
    yield from (f"{row['alias']} still has an intent, and nobody lives" for row in found.calls.values() if row["state"] == "intent")
    if [run["status"] for run in found.runs] == ["completed"]:
        return
    if len(found.runs) != 1:
        yield f"there are {len(found.runs)} runs: {found.runs}"
    elif not doubts:
        yield f"the run is {found.runs[0]['status']} and nothing is in doubt"
