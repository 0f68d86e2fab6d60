"""A store whose values are encrypted before the store inside of it sees them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from surefoot.contracts import Store, Transaction
from surefoot.errors import IntegrityError, StoreUnavailable, UsageError
from surefoot.types import Record
from surefoot_stores.encrypted.box import VARIABLE, Box, keys_of
from surefoot_stores.encrypted.tables import Tables, sealed_in
from surefoot_stores.rows import ENDS

__all__ = ["EncryptedStore", "damaged_seals", "expect_plain"]

T = TypeVar("T")
Keys: TypeAlias = str | bytes | Sequence[str | bytes]

_MARKER: Final = ("surefoot.encryption", "keys")
"""The record that says which keys the rows need, and whose store id they are bound to."""


class EncryptedStore(Store):
    """Any :class:`~surefoot.Store`, with its values encrypted and its rows protected against change.

    What a store looks rows up by stays as it is: ids, names, keys, states, times. Arguments, results, errors, reasons, answers,
    step outputs, verdicts, the data of events and the values of records are sealed with AES-256-GCM, each bound to its row, so that
    one which was changed or moved is refused with :class:`~surefoot.IntegrityError`.

    :param store: Where the rows go; it must be new, or have been written through this.
    :param key: 32 bytes or their base64, several as a list or with commas between, or a function that returns them, which is called
        when the store is first used. The first seals; the others open what they have sealed. ``None``: ``SUREFOOT_STORE_KEY``.
        Raises :class:`~surefoot.UsageError` where there is none, and for what is none.
    """

    def __init__(self, store: Store, key: Keys | Callable[[], Keys] | None = None) -> None:
        if isinstance(store, EncryptedStore):
            raise UsageError(f"{store.url} is encrypted already")
        self.store = store
        """The store inside."""
        self.url = f"encrypted+{store.url}"
        given = (os.environ.get(VARIABLE) or None) if key is None else key
        if given is None:
            raise UsageError(f"{self.url} needs its key: set {VARIABLE}, or give EncryptedStore(store, key=...)")
        self._keys: Callable[[], Keys] = given if callable(given) else partial(keys_of, keys_of(given))
        self._box: Box | None = None

    def _ready(self) -> Box:
        """Return the box, once the store has been found to be one that its keys open; until then nothing is written."""
        if self._box is None:
            box = Box(keys_of(self._keys()), self.url)
            admit = partial(_admitted, box)
            self._box = self.store.run(partial(admit, write=False), write=False) or self.store.run(partial(admit, write=True))
        assert self._box is not None  # noqa: S101 - what may write has answered
        return self._box

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """Open a transaction (see :meth:`surefoot.Store.transaction`)."""
        box = self._ready()
        with self.store.transaction(write=write) as tx:
            tables = Tables(tx, box)
            yield tables
            tables.finish()

    def run(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction (see :meth:`surefoot.Store.run`)."""
        return self.store.run(partial(_sealed, self._ready(), work), write=write)

    async def arun(self, work: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Run ``work`` in one transaction (see :meth:`surefoot.Store.arun`)."""
        return await self.store.arun(partial(_sealed, self._ready(), work), write=write)

    def collect(self) -> int:
        """Delete large values that nothing refers to any more; return how many."""
        collect: Callable[[], int] = getattr(self.store, "collect", int)
        return collect()

    def owner(self) -> str:
        """Return this process's owner id in the store inside."""
        return self.store.owner()

    def alive(self, owner: str) -> bool:
        """Return whether that owner of the store inside may still act."""
        return self.store.alive(owner)

    def close(self) -> None:
        """Close the store inside."""
        self.store.close()


def expect_plain(store: Store) -> None:
    """Raise :class:`~surefoot.StoreUnavailable` for a store that is encrypted and was opened as if it were not."""
    if not isinstance(store, EncryptedStore) and store.run(lambda tx: tx.records.get(*_MARKER), write=False) is not None:
        raise StoreUnavailable(f"{store.url} is encrypted: open encrypted+{store.url}, with its key in {VARIABLE}")


def damaged_seals(namespaces: Sequence[str], tx: Transaction) -> list[str]:
    """Return what is wrong with the records of an encrypted store, and with where the logs of its runs end."""
    found = []
    for namespace in namespaces:
        if namespace == _MARKER[0]:
            continue
        after: str | None = ""
        while after is not None:
            try:
                page = tx.records.list(namespace, after=after or None)
            except IntegrityError as exc:
                found.append(str(exc))
                break
            found += [f"the log of the run {record.key} was cut" for record in page if namespace == ENDS and not _ends_there(tx, record)]
            after = page[-1].key if page else None
    return found


def _ends_there(tx: Transaction, end: Record) -> bool:
    last = end.value["events"]
    return not last or [event.link for event in tx.events.list(end.key, after=last - 1, limit=2)] == [end.value["link"]]


def _sealed(box: Box, work: Callable[[Transaction], T], tx: Transaction) -> T:
    tables = Tables(tx, box)
    answer = work(tables)
    tables.finish()
    return answer


def _admitted(box: Box, tx: Transaction, *, write: bool) -> Box | None:
    """Return the box for this store, ``None`` where that must be told first that the box's first key seals in it.

    Raises :class:`~surefoot.StoreUnavailable` for a store with rows that the keys do not open.
    """
    record = box.asked(tx.records.get, *_MARKER)
    if record is not None:
        known = _marker(box, record.value)
    elif tx.calls.list(limit=1) or tx.records.list("surefoot", limit=1) or tx.records.list("runs", limit=1):
        raise StoreUnavailable(f"{box.name} has rows that are not encrypted; encryption begins with a store that is new")
    else:
        known = {"store": secrets.token_hex(16), "keys": []}
    if box.ids[0] not in known["keys"]:
        if not write:
            return None
        known["keys"].append(box.ids[0])
        tx.records.put(*_MARKER, {"keys": known["keys"], "sealed": box.seal(json.dumps(known), "record", *_MARKER)})
    return box.of(known["store"])


def _marker(box: Box, value: Any) -> dict[str, Any]:
    """Return what the marker says, which is bound to no store: it says which one this is."""
    named = value.get("keys") if isinstance(value, dict) else None
    missing = [name for name in named if name not in box.ids] if isinstance(named, list) else []
    if missing:
        msg = f"{box.name} has rows that were encrypted with the key {' and '.join(map(str, missing))}, which was not given"
        raise StoreUnavailable(f"{msg}; name it in {VARIABLE}, behind the one that is to seal")
    known: dict[str, Any] = json.loads(box.open(sealed_in(value), "record", *_MARKER))
    if known["keys"] != named:
        raise IntegrityError(f"the keys that {box.name} names were changed; restore the store from a backup")
    return known
