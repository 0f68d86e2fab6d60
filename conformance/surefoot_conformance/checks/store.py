"""The store contract, looked at through the API and around it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, Final

from surefoot_conformance.keepers import StoreBench, row
from surefoot_conformance.report import files
from surefoot_conformance.table import Fault, check, equal, expect

HOSTILE: Final = {
    "empty": "",
    "quote": "a'b",
    "double quote": '" OR 1=1 --',
    "drop": "'); DROP TABLE calls; --",
    "json path": "$.x') = 1 --",
    "filter key CVE-2025-67644": "' ) -- ",
    "operator CVE-2025-8709": "x' OR '1'='1' /*",
    "constructor CVE-2025-68664": '{"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}',
    "unicode": "e\u0301\u00e9\U0001f600\u202e",
    "nul": "a\x00b",
    "pattern": "%_*?[a-z]",
    "long": "a" * 5000,
}


def refused(kind: str, work: Callable[[], Any], sentence: str) -> None:
    """Expect ``work`` to raise an error of the class named ``kind``."""
    try:
        work()
    except Exception as exc:  # noqa: BLE001 - which one it is, is the question
        expect(kind in {base.__name__ for base in type(exc).__mro__}, f"{sentence}: {type(exc).__name__} was raised, not {kind}")
    else:
        expect(False, f"{sentence}: nothing was raised, not {kind}")  # noqa: FBT003 - it failed


@check("store", "L1")
def a_call_comes_back_as_it_was_written(bench: StoreBench) -> None:
    """Every field of a row survives insert and update, and an update counts the version up."""
    from surefoot import CallState

    full = {"sticky": True, "entered": False, "value": '"v"', "error": "{}", "reason": "why", "settled_by": "probe", "alias": "id"}
    record = row(1, occurrence="2@x", interrupts=('"yes"', None), **full)
    bench.store.run(lambda tx: tx.calls.insert(record))
    equal("the row", bench.store.run(lambda tx: tx.calls.get("call_1")), record)
    equal("another row", bench.store.run(lambda tx: tx.calls.get("call_2")), None)
    changed = record.changed(state=CallState.COMMITTED, sticky=False, value=None, interrupts=("1",))
    bench.store.run(lambda tx: tx.calls.update(changed))
    equal("the updated row", bench.store.run(lambda tx: tx.calls.get("call_1"), write=False), changed.changed(version=1))


@check("store", "L1", variants=list(HOSTILE))
def a_hostile_string_is_only_a_string(bench: StoreBench) -> None:
    """I25: whatever a key, name, filter or value contains, it is stored, found and returned as it is, and finds nothing else."""
    from surefoot import Event

    text = HOSTILE[bench.variant]
    named = row(2, call_id=f"c{text}", tool=f"t{text}", run_id=f"r{text}", scope=f"s{text}", tenant=f"x{text}", value=text, sticky=True)
    with bench.store.transaction() as tx:
        tx.calls.insert(row(1))
        tx.calls.insert(named)
        tx.records.put(text, text, {text: text})
        tx.records.put("n", f"{text}/1", 1)
        tx.records.put("n", f"x{text}/2", 2)
        tx.counters.reserve(text, 2, None)
        tx.events.append(Event(f"r{text}", text, 1.0, {"v": text}))
        tx.leases.take(text, text)
    with bench.store.transaction(write=False) as tx:
        equal("calls of the run", [found.call_id for found in tx.calls.list(run_id=f"r{text}")], [f"c{text}"])
        equal("calls below the scope", [found.value for found in tx.calls.under(f"s{text}", "a#1", tool=f"t{text}")], [text])
        equal("sticky calls", [found.value for found in tx.calls.sticky(f"x{text}", "thread", f"t{text}", "digest")], [text])
        equal("the record", getattr(tx.records.get(text, text), "value", None), {text: text})
        equal("keys by prefix", [found.key for found in tx.records.list("n", prefix=f"{text}/")], [f"{text}/1"])
        equal("the counter", tx.counters.value(text), 2)
        equal("the event", [(event.type, event.data) for event in tx.events.list(f"r{text}")], [(text, {"v": text})])
        equal("the lease", getattr(tx.leases.get(text), "owner", None), text)
        equal("all calls", len(tx.calls.list()), 2)


@check("store", "L1")
def a_row_that_exists_is_not_inserted_again(bench: StoreBench) -> None:
    """A second row with the same id raises IntegrityError and changes nothing."""
    bench.store.run(lambda tx: tx.calls.insert(row(1)))
    refused("IntegrityError", lambda: bench.store.run(lambda tx: tx.calls.insert(row(1, value='"other"'))), "inserting it twice")
    equal("the row", bench.store.run(lambda tx: tx.calls.get("call_1")), row(1))


@check("store", "L1")
def every_update_is_compare_and_set(bench: StoreBench) -> None:
    """Only the holder of the newest version updates a row; an unknown row cannot be updated."""
    bench.store.run(lambda tx: tx.calls.insert(row(1)))
    bench.store.run(lambda tx: tx.calls.update(row(1, reason="first")))
    refused("LeaseLost", lambda: bench.store.run(lambda tx: tx.calls.update(row(1, reason="second"))), "updating a stale version")
    refused("LeaseLost", lambda: bench.store.run(lambda tx: tx.calls.update(row(2))), "updating what is not there")
    equal("the reason", bench.store.run(lambda tx: tx.calls.get("call_1")).reason, "first")  # type: ignore[union-attr]


@check("store", "L1")
def a_call_that_is_entered_again_belongs_to_who_entered_it(bench: StoreBench) -> None:
    """An update to ``intent`` moves a row to another conversation, run and path: it is found there, and no longer where it was."""
    from surefoot import CallState

    bench.store.run(lambda tx: tx.calls.insert(row(1, sticky=True, alias="a")))
    moved = {"conversation": "c2", "run_id": "r2", "scope": "s2", "path": "b#1/c#1", "alias": None, "occurrence": "3"}
    failed = bench.store.run(lambda tx: tx.calls.update(row(1, state=CallState.FAILED, sticky=True, alias="a")))
    bench.store.run(lambda tx: tx.calls.update(failed.changed(state=CallState.INTENT, **moved)))
    with bench.store.transaction() as tx:  # one that is committed, in the transaction that says so as well
        entered = tx.calls.get("call_1")
        assert entered is not None  # noqa: S101 - it was written above
        equal("the row", entered, row(1, version=2, sticky=True, **moved))
        tx.calls.update(entered.changed(state=CallState.COMMITTED))
    with bench.store.transaction(write=False) as tx:
        equal("calls of the runs", [[found.call_id for found in tx.calls.list(run_id=run)] for run in ("run", "r2")], [[], ["call_1"]])
        below = [[found.call_id for found in tx.calls.under(*place)] for place in (("scope", "a#1"), ("s2", "b#1"))]
        equal("calls below the paths", (below, tx.calls.touches("scope", "a#1")), ([[], ["call_1"]], False))
        sticky = [[found.call_id for found in tx.calls.sticky("acme", name, "pay", "digest")] for name in ("thread", "c2")]
        equal("sticky calls", sticky, [[], ["call_1"]])
        equal("unsettled calls", [list(tx.calls.unsettled(run)) for run in ("run", "r2")], [[], []])


@check("store", "L1", variants=("put", "put over", "delete", "insert", "update", "lease", "counter", "event", "checkpoint"))
def a_transaction_that_raises_has_not_happened(bench: StoreBench) -> None:
    """Nothing of a transaction that raises is there afterwards, in any table."""
    from surefoot import CallState, Checkpoint, Event

    with bench.store.transaction() as tx:
        tx.calls.insert(row(1))
        tx.records.put("n", "k", 1)
        tx.leases.take("l", "me")
        tx.counters.reserve("c", 1, None)
    work: dict[str, Callable[[Any], Any]] = {
        "put": lambda tx: tx.records.put("n", "k2", 2),
        "put over": lambda tx: tx.records.put("n", "k", 2),
        "delete": lambda tx: tx.records.delete("n", "k"),
        "insert": lambda tx: tx.calls.insert(row(2, sticky=True)),
        "update": lambda tx: tx.calls.update(row(1, state=CallState.COMMITTED, sticky=True)),
        "lease": lambda tx: tx.leases.take("l", "you"),
        "counter": lambda tx: tx.counters.reserve("c", 5, None),
        "event": lambda tx: tx.events.append(Event("run", "t", 1.0)),
        "checkpoint": lambda tx: tx.checkpoints.append(Checkpoint("run", "a#1", "", 1, 1, "d", None, "null")),
    }

    def raises(tx: Any) -> None:
        work[bench.variant](tx)
        raise ZeroDivisionError

    refused("ZeroDivisionError", lambda: bench.store.run(raises), "raising in a transaction")
    with bench.store.transaction(write=False) as tx:
        equal("calls", list(tx.calls.list()), [row(1)])
        equal("unsettled calls", list(tx.calls.unsettled("run")), [row(1)])
        equal("sticky calls", list(tx.calls.sticky("acme", "thread", "pay", "digest")), [])
        equal("records", [found.value for found in tx.records.list("n")], [1])
        equal("the lease", (tx.leases.get("l").owner, tx.leases.get("l").epoch), ("me", 1))  # type: ignore[union-attr]
        equal("the counter", tx.counters.value("c"), 1)
        equal("events and checkpoints", (list(tx.events.list("run")), list(tx.checkpoints.list("run"))), ([], []))


@check("store", "L1")
def a_path_has_below_it_only_what_is_below_it(bench: StoreBench) -> None:
    """``a#1`` covers itself and ``a#1/…``, never ``a#10``, ``a#1x`` or another slot space."""
    paths = ["a#1", "a#1/b#1", "a#1/b#1/c#2", "a#10", "a#1x", "a#1[x]", "a#", "b#1"]
    with bench.store.transaction() as tx:
        for number, path in enumerate(paths):
            tx.calls.insert(row(number, path=path, tool="x" if number % 2 else "pay"))
        tx.calls.insert(row(99, scope="other"))
        equal("below a#1", [found.path for found in tx.calls.under("scope", "a#1")], paths[:3])
        equal("of one tool", [found.path for found in tx.calls.under("scope", "a#1", tool="x")], ["a#1/b#1"])
        equal("before an entry", [found.path for found in tx.calls.under("scope", "a#1", before=(7 << 32) + 1)], ["a#1"])
        equal("touched", [tx.calls.touches("scope", path) for path in ("a#1/b#1/c#2", "a#1/b#2")], [True, False])


@check("store", "L1")
def sticky_and_unsettled_follow_the_row(bench: StoreBench) -> None:
    """A row is found as sticky or unsettled exactly while it is, the oldest by creation first, whatever the clock says (I10)."""
    from surefoot import CallState

    with bench.store.transaction() as tx:
        tx.calls.insert(row(1, sticky=True, state=CallState.IN_DOUBT, created=5.0))
        tx.calls.insert(row(2, sticky=True, created=4.0))
        tx.calls.insert(row(3, sticky=True, tenant="other"))
        equal("sticky", [found.call_id for found in tx.calls.sticky("acme", "thread", "pay", "digest")], ["call_1", "call_2"])
        left = tx.calls.update(row(1, sticky=False, state=CallState.COMMITTED, created=5.0))
        equal("sticky after one left", [found.call_id for found in tx.calls.sticky("acme", "thread", "pay", "digest")], ["call_2"])
        equal("unsettled", [found.call_id for found in tx.calls.unsettled("run")], ["call_2", "call_3"])
        tx.calls.update(left.changed(sticky=True, state=CallState.IN_DOUBT))
        equal("back again", [found.call_id for found in tx.calls.sticky("acme", "thread", "pay", "digest")], ["call_1", "call_2"])


@check("store", "L1")
def listing_is_in_order_and_goes_on_where_it_stopped(bench: StoreBench) -> None:
    """Calls, events, checkpoints and records come in their order, filtered, in pages."""
    from surefoot import CallState, Checkpoint, Event

    with bench.store.transaction() as tx:
        for number in range(5):
            tx.calls.insert(row(number, state=CallState.COMMITTED if number % 2 else CallState.INTENT))
            tx.events.append(Event("run", "t", float(-number), {"n": number}))
            tx.checkpoints.append(Checkpoint("run", f"a#{number % 2}", "b", 1, 2, "d", '"o"', "null", 3, 4.0))
            tx.records.put("n", f"k{4 - number}", number)
        equal("calls", [found.call_id for found in tx.calls.list(after="call_1", limit=2)], ["call_2", "call_3"])
        equal("committed calls", [found.call_id for found in tx.calls.list(state=CallState.COMMITTED)], ["call_1", "call_3"])
        equal("events", [(event.seq, event.data["n"]) for event in tx.events.list("run", after=2, limit=2)], [(3, 2), (4, 3)])
        equal("checkpoints", [found.seq for found in tx.checkpoints.list("run", after=3)], [4, 5])
        equal("checkpoints of a path", [found.seq for found in tx.checkpoints.at("run", "a#1")], [2, 4])
        equal("records", [found.key for found in tx.records.list("n", after="k1", limit=2)], ["k2", "k3"])


@check("store", "L1")
def events_are_one_chain(bench: StoreBench) -> None:
    """I21: a run's log verifies as it is read back, and a changed, missing or swapped event is found at its place."""
    import dataclasses

    from surefoot import Event
    from surefoot.engine.events import verify

    with bench.store.transaction() as tx:
        for number in range(4):
            tx.events.append(Event("run", "t", number, {"n": number, "text": "é"}, "a#1", "call", schema=2))
    events = list(bench.store.run(lambda tx: tx.events.list("run"), write=False))
    equal("numbers", [event.seq for event in events], [1, 2, 3, 4])
    equal("the first bad one", verify(events), None)
    changed = dataclasses.replace(events[2], data={"n": 9})
    equal("the first bad one when one was changed", verify([*events[:2], changed, events[3]]), 3)
    equal("the first bad one when one is missing", verify([events[0], events[2]]), 3)
    equal("the first bad one when two were swapped", verify([events[1], events[0]]), 2)


@check("store", "L1")
def a_lease_counts_its_epochs(bench: StoreBench) -> None:
    """I9: taking a lease gives a higher epoch each time, and only its newest holder can release it."""
    with bench.store.transaction() as tx:
        mine, yours = tx.leases.take("t", "me"), tx.leases.take("t", "you")
        equal("epochs", (mine.epoch, yours.epoch), (1, 2))
        equal("released by the old holder and the new one", [tx.leases.release(mine), tx.leases.release(yours)], [False, True])
        expect(not tx.leases.get("t").held, "a released lease is held")  # type: ignore[union-attr]
        equal("taken again", tx.leases.take("t", "me").epoch, 3)


@check("store", "L1")
def a_record_is_compare_and_set(bench: StoreBench) -> None:
    """A record is written only over the version that the writer saw; what was put or got is nobody's to change."""
    value = {"calls": ["a"]}
    with bench.store.transaction() as tx:
        equal("the first version", tx.records.put("n", "k", value, version=0).version, 1)
        equal("the second", tx.records.put("n", "k", value, version=1).version, 2)
    for version in (0, 1, 3):
        refused("LeaseLost", lambda v=version: bench.store.run(lambda tx: tx.records.put("n", "k", 9, version=v)), f"version {version}")  # type: ignore[misc]
    value["calls"].append("b")
    bench.store.run(lambda tx: tx.records.get("n", "k")).value["calls"].append("c")  # type: ignore[union-attr]
    equal("the stored value", bench.store.run(lambda tx: tx.records.get("n", "k")).value, {"calls": ["a"]})  # type: ignore[union-attr]


@check("store", "L1")
def a_reading_transaction_cannot_write(bench: StoreBench) -> None:
    """Writing in a transaction that only reads is refused, and so is a transaction inside another one."""
    refused("UsageError", lambda: bench.store.run(lambda tx: tx.counters.reserve("c", 1, None), write=False), "writing in it")
    refused("UsageError", lambda: bench.store.run(lambda _tx: bench.store.run(lambda _inner: None)), "nesting")
    equal("the counter", bench.store.run(lambda tx: tx.counters.value("c")), 0)


@check("store", "L1", variants=("big value", "big integer", "deep", "nan", "surrogate", "many"))
def limits_are_kept_orrefused(bench: StoreBench) -> None:
    """A megabyte, 2**70, a hundred levels, NaN, a lone surrogate, a thousand rows: given back as they were, or refused whole."""
    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    values = {
        "big value": "x" * 2**20,
        "big integer": 2**70,
        "deep": deep,
        "nan": [float("inf")],
        "surrogate": "\ud800",
        "many": list(range(1000)),
    }
    value = values[bench.variant]
    try:
        bench.store.run(lambda tx: tx.records.put("n", "k", value))
    except Exception as exc:  # noqa: BLE001 - refused: the rest says what must be true then
        expect(type(exc).__module__.startswith("surefoot"), f"it was refused with {type(exc).__name__}, which no caller expects")
        equal("what is there", bench.store.run(lambda tx: tx.records.get("n", "k")), None)
        return
    equal("what was given back", bench.store.run(lambda tx: tx.records.get("n", "k")).value, value)  # type: ignore[union-attr]
    big = row(1, value="y" * 2**20)
    bench.store.run(lambda tx: tx.calls.insert(big))
    equal("a call with a megabyte", bench.store.run(lambda tx: tx.calls.get("call_1")), big)


@check("store", "harness", capability="has_oracle")
def the_oracle_uses_no_code_of_the_store(bench: StoreBench) -> None:
    """The oracle reads the storage by itself: nothing of the packages that are certified runs while it does."""
    bench.store.run(lambda tx: tx.calls.insert(row(1)))
    harness = bench.harness
    own = {inspect.getsourcefile(type(harness)), inspect.getsourcefile(type(harness.oracle(bench.folder)))}
    theirs = {str(file) for name in harness.packages for _, file in files(name)} - own
    ran: set[str] = set()
    sys.setprofile(lambda frame, _event, _arg: ran.add(frame.f_code.co_filename))
    try:
        oracle = harness.oracle(bench.folder)
        for _ in (oracle.calls(), oracle.events("run"), oracle.value("n", "k"), oracle.counter("c"), oracle.sound()):
            pass
    finally:
        sys.setprofile(None)
    if ran & theirs:
        raise Fault(f"the oracle runs the store's own code: {', '.join(sorted(ran & theirs))}")


@check("store", "L1", capability="has_oracle")
def the_oracle_sees_what_was_committed(bench: StoreBench) -> None:
    """Read around the store, the storage holds what was committed, nothing of what was not, and is sound."""
    from surefoot import CallState, Event

    with bench.store.transaction() as tx:
        tx.calls.insert(row(1))
        tx.calls.update(row(1, state=CallState.COMMITTED))
        tx.events.append(Event("run", "t", 1.0))
        tx.records.put("n", "k", {"a": 1})
        tx.counters.reserve("c", 3, 5)
    oracle = bench.oracle()
    equal("calls", oracle.calls(), {"call_1": ("committed", 1)})
    equal("events", oracle.events("run"), [1])
    equal("the record", oracle.value("n", "k"), {"a": 1})
    equal("the counter", oracle.counter("c"), 3)
    with bench.store.transaction() as tx:
        tx.calls.insert(row(2))
        equal("calls while another is written", set(oracle.calls()), {"call_1"})
    equal("calls after that", set(oracle.calls()), {"call_1", "call_2"})
    equal("what is wrong with it", oracle.sound(), "")


@check("store", "L1", capability="has_migrations")
def a_newer_format_is_refused(bench: StoreBench) -> None:
    """I35: a storage that a newer release wrote is refused with a sentence, and not changed."""
    bench.store.run(lambda tx: tx.records.put("n", "k", 1))
    bench.store.close()
    bench.harness.age(bench.folder)
    refused("StoreUnavailable", lambda: bench.open().run(lambda tx: tx.records.put("n", "k", 2)), "opening it")
    if bench.harness.has_oracle:
        equal("the record", bench.oracle().value("n", "k"), 1)
