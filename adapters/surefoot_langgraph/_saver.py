"""A LangGraph checkpointer in the store of the ledger: data only, one transaction a call, and one writer a thread."""

from __future__ import annotations

import secrets
import sys
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote, unquote
from weakref import WeakSet

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from surefoot import Guard, LeaseLost, Store, UsageError
from surefoot.contracts import Transaction
from surefoot.plugins import Plugins
from surefoot_adapters import Codec
from surefoot_langgraph import _convert

__all__ = ["SurefootSaver"]

_CHECKPOINTS: Final = "langgraph.checkpoints"
_BLOBS: Final = "langgraph.blobs"
_WRITES: Final = "langgraph.writes"
_HEADS: Final = "langgraph.heads"
_ALL: Final = (_CHECKPOINTS, _BLOBS, _WRITES, _HEADS)
_REMEMBERED: Final = 10_000
"""So many of them are remembered."""


def _through(redacts: Sequence[Callable[[str], str]], text: str) -> str:
    for redact in redacts:
        text = redact(text)
    return text


def _key(*parts: object) -> str:
    """Return parts as one key, whatever characters they have; a key of fewer parts is what all keys below it start with."""
    return "".join(f"{quote(str(part), safe='')}/" for part in parts)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a config points to."""

    thread: str
    namespace: str
    checkpoint: str | None

    @classmethod
    def of(cls, config: RunnableConfig) -> _Place:
        given = config.get("configurable", {})
        if "thread_id" not in given:
            raise UsageError("this config names no thread; give {'configurable': {'thread_id': …}}")
        return cls(str(given["thread_id"]), given.get("checkpoint_ns") or "", get_checkpoint_id(config))

    @property
    def key(self) -> str:
        """Key of the thread and namespace."""
        return _key(self.thread, self.namespace)

    def config(self, checkpoint: str) -> RunnableConfig:
        """Return the config of one checkpoint here."""
        return {"configurable": {"thread_id": self.thread, "checkpoint_ns": self.namespace, "checkpoint_id": checkpoint}}


class SurefootSaver(BaseCheckpointSaver[str]):
    """Keeps LangGraph's checkpoints in a surefoot store, beside the ledger: ``graph.compile(checkpointer=SurefootSaver(store))``.

    What it stores is data: loading builds LangGraph's and LangChain's own types from a fixed table and nothing else (AS-54), and
    a state that has no such form raises :class:`~surefoot.errors.NotStorable`, which names the part. A writer that would go on from
    the end of a thread when another writer has moved it raises :class:`~surefoot.LeaseLost`, and nothing of it is written (AS-49).
    Going on from a checkpoint that was asked for by its id is a fork, and allowed.

    :param store: a URL, as for :func:`surefoot.wrap`, or a :class:`~surefoot.Store`.
    """

    def __init__(self, store: str | Store) -> None:
        super().__init__()
        plugins = Plugins.default()
        self.store = plugins.open_store(store)
        self._codec = Codec(self._redactor, self.store.digest_key)
        self._guards: WeakSet[Guard] = WeakSet()
        _convert.register(self._codec)
        self._heads: OrderedDict[tuple[str, str | None], None] = OrderedDict()
        """Checkpoints that were given as the newest of their thread, or written as such: who goes on from one goes on from the end."""
        self._lock = threading.Lock()

    def redact_with(self, guard: Guard) -> None:
        """Keep what a guard redacts out of what is stored here, too: its graph has its checkpoints here."""
        self._guards.add(guard)

    def _redactor(self) -> Callable[[str], str] | None:
        asked = [guard.redactor for guard in list(self._guards)] or [Plugins.default().redactor]
        found = [redact for ask in asked if (redact := ask()) is not None]
        return partial(_through, found) if found else None

    def get_next_version(self, current: str | int | None, channel: None) -> str:  # noqa: ARG002 - LangGraph's signature
        """Return a version behind ``current`` that no fork of the thread has too."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:032}.{secrets.token_hex(8)}"

    # --- writing

    def put(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:
        """Store a checkpoint. Raises :class:`~surefoot.LeaseLost` where another writer has moved the head that it goes on from."""
        return self._saw(self.store.run(self._putting(config, checkpoint, metadata, new_versions)))

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> RunnableConfig:
        """Like :meth:`put`, from a coroutine."""
        return self._saw(await self.store.arun(self._putting(config, checkpoint, metadata, new_versions)))

    def _putting(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata, versions: ChannelVersions
    ) -> Callable[[Transaction], tuple[_Place, str]]:
        place = _Place.of(config)
        rest: dict[str, Any] = dict(checkpoint)
        values = rest.pop("channel_values")
        row = {
            "parent": place.checkpoint,
            "checkpoint": self._dumps(rest),
            "metadata": self._dumps(dict(get_checkpoint_metadata(config, metadata))),
        }
        blobs = {
            _key(place.thread, place.namespace, name, version): self._dumps(values[name]) if name in values else None
            for name, version in versions.items()
        }
        at_the_end = (place.key, place.checkpoint) in self._heads

        def work(tx: Transaction) -> tuple[_Place, str]:
            head = tx.records.get(_HEADS, place.key)
            now = head.value["id"] if head else None
            if at_the_end and now not in {place.checkpoint, checkpoint["id"]}:
                what = f"checkpoint {place.checkpoint} of" if place.checkpoint else "the beginning of"
                msg = f"another writer has gone on from {what} thread {place.thread}, and this one may not; read the thread anew"
                raise LeaseLost(msg)
            for key, text in blobs.items():
                tx.records.put(_BLOBS, key, text)
            tx.records.put(_CHECKPOINTS, _key(place.thread, place.namespace, checkpoint["id"]), row)
            newest = max(now or "", checkpoint["id"])
            if newest != now:
                tx.records.put(_HEADS, place.key, {"id": newest})
            return place, checkpoint["id"]

        return work

    def _saw(self, written: tuple[_Place, str]) -> RunnableConfig:
        place, checkpoint = written
        self._remember(place.key, checkpoint)
        return place.config(checkpoint)

    def _remember(self, key: str, head: str | None) -> None:
        with self._lock:
            self._heads[key, head] = None
            self._heads.move_to_end((key, head))
            while len(self._heads) > _REMEMBERED:
                self._heads.popitem(last=False)

    def put_writes(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Store what a task wrote before its super-step is over; what is there already stays, but for errors and interrupts."""
        self.store.run(self._writing(config, writes, task_id, task_path))

    async def aput_writes(self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Like :meth:`put_writes`, from a coroutine."""
        await self.store.arun(self._writing(config, writes, task_id, task_path))

    def _writing(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Callable[[Transaction], None]:
        place = _Place.of(config)
        rows = [(WRITES_IDX_MAP.get(channel, number), channel, self._dumps(value)) for number, (channel, value) in enumerate(writes)]

        def work(tx: Transaction) -> None:
            for number, channel, text in rows:
                key = _key(place.thread, place.namespace, place.checkpoint, task_id, number)
                if number < 0 or tx.records.get(_WRITES, key) is None:
                    tx.records.put(_WRITES, key, {"at": [task_path, task_id, number], "channel": channel, "value": text})

        return work

    def _dumps(self, value: Any) -> str:
        if isinstance(value, BaseException):
            value = repr(value)  # for people: LangGraph shows it and rebuilds nothing of it
        return self._codec.dumps(value, whole=True)

    # --- reading

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that the config names, or the newest one of its thread."""
        return self._got(config, self.store.run(partial(self._find, place=_Place.of(config)), write=False))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Like :meth:`get_tuple`, from a coroutine."""
        return self._got(config, await self.store.arun(partial(self._find, place=_Place.of(config)), write=False))

    def _find(self, tx: Transaction, place: _Place) -> _Found | None:
        checkpoint = place.checkpoint
        if checkpoint is None:
            head = tx.records.get(_HEADS, place.key)
            checkpoint = head.value["id"] if head else None
        row = tx.records.get(_CHECKPOINTS, _key(place.thread, place.namespace, checkpoint)) if checkpoint else None
        return self._load(tx, place, checkpoint, row.value) if row and checkpoint else None

    def _load(self, tx: Transaction, place: _Place, checkpoint: str, row: Mapping[str, Any]) -> _Found:
        rest = self._codec.loads(row["checkpoint"])
        values = {}
        for name, version in rest["channel_versions"].items():
            blob = tx.records.get(_BLOBS, _key(place.thread, place.namespace, name, version))
            if blob is not None and blob.value is not None:
                values[name] = blob.value
        writes = tx.records.list(_WRITES, prefix=_key(place.thread, place.namespace, checkpoint), limit=sys.maxsize)
        return _Found(place, checkpoint, row, rest, values, [record.value for record in writes])

    def _got(self, config: RunnableConfig, found: _Found | None) -> CheckpointTuple | None:
        place = _Place.of(config)
        if place.checkpoint is None:
            self._remember(place.key, found.checkpoint if found else None)
        else:
            with self._lock:
                self._heads.pop((place.key, place.checkpoint), None)  # it was asked for by name: who goes on from it means to fork
        return self._tuple(found) if found else None

    def _tuple(self, found: _Found) -> CheckpointTuple:
        loads = self._codec.loads
        checkpoint: Any = {**found.rest, "channel_values": {name: loads(text) for name, text in found.values.items()}}
        writes = sorted(found.writes, key=lambda row: row["at"])
        return CheckpointTuple(
            config=found.place.config(found.checkpoint),
            checkpoint=checkpoint,
            metadata=loads(found.row["metadata"]),
            parent_config=found.place.config(found.row["parent"]) if found.row["parent"] else None,
            pending_writes=[(row["at"][1], row["channel"], loads(row["value"])) for row in writes],
        )

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield the checkpoints of a thread (of all: ``None``), newest first; ``filter`` keeps those with equal metadata."""
        found = self.store.run(partial(self._listed, config=config, wanted=filter or {}, before=before, limit=limit), write=False)
        yield from map(self._tuple, found)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Like :meth:`list`, from a coroutine."""
        work = partial(self._listed, config=config, wanted=filter or {}, before=before, limit=limit)
        for found in await self.store.arun(work, write=False):
            yield self._tuple(found)

    def _listed(
        self, tx: Transaction, config: RunnableConfig | None, wanted: Mapping[str, Any], before: RunnableConfig | None, limit: int | None
    ) -> Sequence[_Found]:
        given = (config or {}).get("configurable", {})
        parts = [given[name] for name in ("thread_id", "checkpoint_ns") if name in given]
        only = get_checkpoint_id(config) if config else None
        end = get_checkpoint_id(before) if before else None
        found: list[_Found] = []
        for place, checkpoint, row in sorted(_rows(tx, *parts), key=lambda entry: entry[1], reverse=True):
            if limit is not None and len(found) >= limit:
                break
            if (only and checkpoint != only) or (end and checkpoint >= end):
                continue
            metadata = self._codec.loads(row["metadata"]) if wanted else {}
            if all(metadata.get(name) == value for name, value in wanted.items()):
                found.append(self._load(tx, place, checkpoint, row))
        return found

    # --- removing and copying

    def delete_thread(self, thread_id: str) -> None:
        """Remove everything of a thread."""
        self.store.run(partial(_remove_below, key=_key(thread_id)))

    async def adelete_thread(self, thread_id: str) -> None:
        """Like :meth:`delete_thread`, from a coroutine."""
        await self.store.arun(partial(_remove_below, key=_key(thread_id)))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata names one of these runs, and what was written to them. Looks at every thread."""
        self.store.run(partial(self._remove_runs, run_ids=set(run_ids)))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Like :meth:`delete_for_runs`, from a coroutine."""
        await self.store.arun(partial(self._remove_runs, run_ids=set(run_ids)))

    def _remove_runs(self, tx: Transaction, run_ids: set[str]) -> None:
        self._remove(tx, [entry for entry in _rows(tx) if self._codec.loads(entry[2]["metadata"]).get("run_id") in run_ids])

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy everything of a thread to another one."""
        self.store.run(partial(_copy, source=source_thread_id, target=target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Like :meth:`copy_thread`, from a coroutine."""
        await self.store.arun(partial(_copy, source=source_thread_id, target=target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Remove all checkpoints of these threads (``delete``), or all but the newest one of each namespace (``keep_latest``)."""
        self.store.run(partial(self._prune, thread_ids=thread_ids, strategy=strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Like :meth:`prune`, from a coroutine."""
        await self.store.arun(partial(self._prune, thread_ids=thread_ids, strategy=strategy))

    def _prune(self, tx: Transaction, thread_ids: Sequence[str], strategy: str) -> None:
        if strategy not in {"keep_latest", "delete"}:
            raise UsageError(f"the strategy {strategy!r} is not known; give 'keep_latest' or 'delete'")
        for thread in thread_ids:
            if strategy == "delete":
                _remove_below(tx, _key(thread))
                continue
            rows = list(_rows(tx, thread))
            newest = {place.key: checkpoint for place, checkpoint, _ in sorted(rows, key=lambda entry: entry[1])}
            self._remove(tx, [entry for entry in rows if newest[entry[0].key] != entry[1]])

    def _remove(self, tx: Transaction, entries: Sequence[tuple[_Place, str, Mapping[str, Any]]]) -> None:
        """Remove some checkpoints, what was written to them, and the values that no other checkpoint of their thread has."""
        for place, checkpoint, _ in entries:
            tx.records.delete(_CHECKPOINTS, _key(place.thread, place.namespace, checkpoint))
            _remove_in(tx, _WRITES, _key(place.thread, place.namespace, checkpoint))
        for place in {place.key: place for place, _, _ in entries}.values():
            left = list(_rows(tx, place.thread, place.namespace))
            if not left:
                _remove_below(tx, place.key)
                continue
            tx.records.put(_HEADS, place.key, {"id": max(checkpoint for _, checkpoint, _ in left)})
            versions = (self._codec.loads(row["checkpoint"])["channel_versions"] for _, _, row in left)
            used = {_key(place.thread, place.namespace, *pair) for known in versions for pair in known.items()}
            for record in tx.records.list(_BLOBS, prefix=place.key, limit=sys.maxsize):
                if record.key not in used:
                    tx.records.delete(_BLOBS, record.key)


@dataclass(frozen=True, slots=True)
class _Found:
    """A stored checkpoint, as text: it is decoded outside of the transaction."""

    place: _Place
    checkpoint: str
    row: Mapping[str, Any]
    rest: Mapping[str, Any]
    values: Mapping[str, str]
    writes: Sequence[Mapping[str, Any]]


def _rows(tx: Transaction, *parts: object) -> Iterator[tuple[_Place, str, Mapping[str, Any]]]:
    """Yield the checkpoints below a key."""
    for record in tx.records.list(_CHECKPOINTS, prefix=_key(*parts), limit=sys.maxsize):
        thread, namespace, checkpoint, _ = map(unquote, record.key.split("/"))
        yield _Place(thread, namespace, checkpoint), checkpoint, record.value


def _remove_in(tx: Transaction, table: str, key: str) -> None:
    for record in tx.records.list(table, prefix=key, limit=sys.maxsize):
        tx.records.delete(table, record.key)


def _remove_below(tx: Transaction, key: str) -> None:
    for table in _ALL:
        _remove_in(tx, table, key)


def _copy(tx: Transaction, source: str, target: str) -> None:
    for table in _ALL:
        for record in tx.records.list(table, prefix=_key(source), limit=sys.maxsize):
            tx.records.put(table, _key(target) + record.key.removeprefix(_key(source)), record.value)
