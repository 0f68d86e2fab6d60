"""The checkpointer in surefoot's store: what LangGraph asks of one, and what its own suite does not ask."""

from __future__ import annotations

import json
import operator
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from crash import Effects
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel
from support import ask, config, planner, react
from typing_extensions import TypedDict

import surefoot
from surefoot import Guard, IntegrityError, LeaseLost, Store, UsageError
from surefoot.errors import NotStorable
from surefoot_langgraph import SurefootSaver
from surefoot_stores import EncryptedStore, MemoryStore, PostgresStore, SqliteStore

STORES = ["memory", "sqlite", *(pytest.param(name, marks=pytest.mark.sweep) for name in ("encrypted", "postgres"))]


@pytest.fixture(params=STORES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each store, new and empty."""
    made: Store
    match request.param:
        case "memory":
            made = MemoryStore()
        case "sqlite":
            made = SqliteStore(f"sqlite:///{tmp_path}/saver.db")
        case "encrypted":
            made = EncryptedStore(SqliteStore(f"sqlite:///{tmp_path}/saver.db"), key=b"k" * 32)
        case _:
            made = PostgresStore(request.getfixturevalue("postgres_url"))
    yield made
    made.close()


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[SurefootSaver]:
    """A saver in a SQLite store."""
    made = SurefootSaver(SqliteStore(f"sqlite:///{tmp_path}/saver.db"))
    yield made
    made.store.close()


class Log(TypedDict):
    """A state that grows."""

    n: Annotated[list[str], operator.add]


def chain(checkpointer: Any, *names: str, body: Any = lambda name: [name]) -> Any:
    """Return a graph of nodes in a row, each of which adds to the log."""
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Log)
    last = START
    for name in names:
        builder.add_node(name, lambda _state, name=name: {"n": body(name)})  # type: ignore[misc]
        builder.add_edge(last, name)
        last = name
    builder.add_edge(last, END)
    return builder.compile(checkpointer=checkpointer)


def written(saver: SurefootSaver, thread: str, text: str, parent: Any = None, **metadata: Any) -> Any:
    """Put a checkpoint with one value into a thread."""
    versions: Any = {"v": uuid.uuid4().hex}
    checkpoint: Any = {**empty_checkpoint(), "channel_values": {"v": text}, "channel_versions": versions}
    given = parent or {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    return saver.put(given, checkpoint, {"source": "loop", "step": 1, **metadata}, versions)  # type: ignore[typeddict-unknown-key]


async def test_langgraphs_own_suite_base_and_extended(kept: Store) -> None:
    """langgraph-checkpoint-conformance passes on every store, the extended capabilities included, and none is skipped."""

    @checkpointer_test(name="SurefootSaver")
    async def make() -> Any:
        yield SurefootSaver(kept)

    report = await validate(make)
    assert {name: found.passed for name, found in report.results.items()} == dict.fromkeys(report.results, True)
    assert len(report.results) == 8


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
async def test_both_faces_and_every_durability_keep_a_conversation(kept: Store, durability: Any) -> None:
    """A graph that ran on the synchronous face goes on in another saver on the asynchronous one, and its history is the same."""
    thread: Any = config("t")
    chain(SurefootSaver(kept), "a", "b").invoke({"n": ["x"]}, thread, durability=durability)
    graph = chain(SurefootSaver(kept), "a", "b")
    assert await graph.ainvoke({"n": ["y"]}, thread, durability=durability) == {"n": ["x", "a", "b", "y", "a", "b"]}
    again = chain(SurefootSaver(kept), "a", "b")
    assert [found.values for found in again.get_state_history(thread)] == [found.values async for found in again.aget_state_history(thread)]


def test_an_interrupt_is_answered_in_another_process(kept: Store) -> None:
    """What a node asked a person is there for another saver, which resumes with the answer."""

    def graph() -> Any:
        return chain(SurefootSaver(kept), "a", "b", body=lambda name: [name if name == "a" else interrupt("go on?")])

    asked = graph().invoke({"n": []}, config("t"))
    assert asked["__interrupt__"][0].value == "go on?"
    assert graph().invoke(Command(resume="yes"), config("t")) == {"n": ["a", "yes"]}


def test_time_travel_forks_without_touching_the_other_branch(kept: Store) -> None:
    """A run from an earlier checkpoint has values of its own; the later checkpoints of the first branch keep theirs."""
    graph = chain(SurefootSaver(kept), "a", "b")
    graph.invoke({"n": ["x"]}, config("t"))
    history = list(graph.get_state_history(config("t")))
    early = next(found for found in history if found.next == ("a",))
    forked = graph.update_state(early.config, {"n": ["instead"]})
    assert graph.invoke(None, forked) == {"n": ["x", "instead", "a", "b"]}
    assert graph.get_state(history[0].config).values == {"n": ["x", "a", "b"]}


def test_as_49_r8_two_writers_of_one_thread_one_is_refused(kept: Store) -> None:
    """Two graphs on savers of their own run one thread at the same time: one returns, one gets LeaseLost, and no update is lost."""
    met, results = threading.Barrier(2), dict[str, Any]()

    def body(name: str) -> list[str]:
        met.wait(30)
        return [threading.current_thread().name]

    def run(name: str) -> None:
        try:
            results[name] = chain(SurefootSaver(kept), "a", body=body).invoke({"n": [f"in {name}"]}, config("t"), durability="sync")
        except LeaseLost:
            results[name] = "refused"
            met.abort()
        except threading.BrokenBarrierError:
            results[name] = "alone"

    threads = [threading.Thread(target=run, args=(name,), name=name) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(results.values()).count("refused") == 1
    [first] = [name for name, result in results.items() if result != "refused"]
    stored = SurefootSaver(kept).get_tuple(config("t")).checkpoint["channel_values"].get("n", [])  # type: ignore[union-attr]
    if results[first] == "alone":  # the other was refused before they met
        assert stored in ([], [f"in {first}"])
    else:  # the other one's input was there when this one began
        assert stored == results[first]["n"]
        assert stored[-2:] == [f"in {first}", first]


def test_as_49_who_goes_on_from_a_head_that_moved_is_refused(kept: Store) -> None:
    """A writer that read the end of a thread may not go on from it once another has; after it has read anew it may."""
    mine, yours = SurefootSaver(kept), SurefootSaver(kept)
    first = written(mine, "t", "first")
    thread: Any = config("t")
    yours.get_tuple(thread)
    written(mine, "t", "second", first)
    with pytest.raises(LeaseLost, match="another writer"):
        written(yours, "t", "lost", first)
    assert [found.checkpoint["channel_values"]["v"] for found in yours.list(thread)] == ["second", "first"]
    head = yours.get_tuple(thread)
    assert head is not None
    written(yours, "t", "third", head.config)
    assert yours.get_tuple(first) is not None
    written(yours, "t", "a fork", first)


MARKER = "surefoot_marker_that_nobody_may_import"
FORGED = [
    {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": "true"}},
    {"lc": 2, "type": "constructor", "id": [MARKER, "Evil"], "method": "__init__"},
    {"__type__": f"{MARKER}.Evil", "py/object": f"{MARKER}.Evil"},
    {"$lc.AIMessage": {"content": "forged"}},
]


@pytest.mark.parametrize("value", FORGED, ids=["constructor", "lc 2", "pickle-like", "own tag"])
def test_as_54_a_value_that_names_a_class_comes_back_as_plain_data(saver: SurefootSaver, value: Any) -> None:
    """Whatever a state contains that looks like a stored object, it is loaded as the dict that it was, and nothing is imported."""
    seen: list[str] = []
    sys.meta_path.insert(0, _Watch(seen))
    try:
        written(saver, "t", value)
        found = saver.get_tuple(config("t"))
    finally:
        sys.meta_path.pop(0)
    assert found is not None
    assert found.checkpoint["channel_values"]["v"] == value
    assert [name for name in seen if MARKER in name] == []


class _Watch:
    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def find_spec(self, name: str, *_: Any) -> None:
        """Note what is about to be imported."""
        self._seen.append(name)


@pytest.mark.parametrize("text", ['{"$lc.Evil": {}}', '{"$os.system": "true"}', '{"$dict": 7}', "not json", '{"$lc.AIMessage": {"x": 1}}'])
def test_as_54_r7_a_row_that_was_changed_in_the_store_is_refused(saver: SurefootSaver, text: str) -> None:
    """A stored value with an unknown tag, or of the wrong shape, raises IntegrityError; no class is looked up by its name."""
    written(saver, "t", "good")
    [key] = [record.key for record in saver.store.run(lambda tx: tx.records.list("langgraph.blobs"))]
    saver.store.run(lambda tx: tx.records.put("langgraph.blobs", key, text))
    with pytest.raises(IntegrityError):
        saver.get_tuple(config("t"))


@pytest.mark.parametrize("name", ["' ) -- ", "x' OR '1'='1' /*", "$.x') = 1 --", "source') OR 1=1 --", "%", "a\x00b", "é"])
def test_as_55_a_filter_is_only_a_filter(kept: Store, name: str) -> None:
    """Filters, threads and namespaces with the characters of known attacks find what has them, and nothing else."""
    saver = SurefootSaver(kept)
    written(saver, "t", "plain")
    written(saver, name, "hostile", **{name.replace("\0", ""): "v"})
    assert list(saver.list(None, filter={name: "1"})) == []
    assert list(saver.list(config("t"), filter={name: "v"})) == []
    assert [found.checkpoint["channel_values"]["v"] for found in saver.list(config(name))] == ["hostile"]
    assert len(list(saver.list(None, filter={name.replace("\0", ""): "v"}))) == 1
    saver.delete_thread(name)
    assert [found.checkpoint["channel_values"]["v"] for found in saver.list(None)] == ["plain"]


class _Model(BaseModel):
    x: int = 1


def test_a_state_that_is_not_data_is_refused_with_its_place(saver: SurefootSaver) -> None:
    """What has no data-only form raises NotStorable, which names the part; nothing of the checkpoint is written."""
    with pytest.raises(NotStorable, match="_Model"):
        written(saver, "t", _Model())  # type: ignore[arg-type]
    assert saver.get_tuple(config("t")) is None


def test_a_config_without_a_thread_and_an_unknown_strategy_are_refused(saver: SurefootSaver) -> None:
    """Bad input is one clear sentence."""
    with pytest.raises(UsageError, match="thread_id"):
        saver.get_tuple({"configurable": {}})
    with pytest.raises(UsageError, match="keep_latest"):
        saver.prune(["t"], strategy="some")


@pytest.mark.parametrize("method", ["put", "put_writes"])
def test_as_50_i17_killed_at_any_write_a_checkpoint_is_there_whole_or_not_at_all(tmp_path: Path, method: str) -> None:
    """SIGKILL before each write of put and put_writes, and before their commit: the next reader finds what was before, whole."""
    killed = 0
    for point in range(100):
        folder = tmp_path / str(point)
        folder.mkdir()
        url = f"sqlite:///{folder}/saver.db"
        first = written(SurefootSaver(SqliteStore(url)), "t", "first")
        pid = os.fork()
        if pid == 0:
            saver = SurefootSaver(SqliteStore(url))
            _dies_at(saver.store, point)
            if method == "put":
                written(saver, "t", "second", first)
            else:
                saver.put_writes(first, [("a", 1), ("b", 2), ("c", 3)], "task")
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        saver = SurefootSaver(SqliteStore(url))
        found = saver.get_tuple(config("t"))
        assert found is not None
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        killed += 1
        assert found.checkpoint["channel_values"] == {"v": "first"}
        assert found.pending_writes == []
        written(saver, "t", "after", found.config)
    assert killed >= 4
    assert found.checkpoint["channel_values"] == {"v": "second" if method == "put" else "first"}
    assert len(found.pending_writes or []) == (0 if method == "put" else 3)


def _dies_at(store: Store, point: int) -> None:
    """Have this process die before the point-th write of the next transaction; the one after the last is its commit."""
    run = store.run

    def dying(work: Any, *, write: bool = True) -> Any:
        if not write:
            return run(work, write=write)
        left = iter(range(point))

        def die() -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        def counted(tx: Any) -> Any:
            put = tx.records.put

            def watched(*args: Any, **options: Any) -> Any:
                die()
                return put(*args, **options)

            tx.records.put = watched
            try:
                answer = work(tx)
            finally:
                del tx.records.put
            die()
            return answer

        return run(counted, write=write)

    store.run = dying  # type: ignore[method-assign]


def test_the_ledger_and_the_checkpoints_are_one_store(kept: Store, tmp_path: Path) -> None:
    """A wrapped graph whose checkpoints are in its guard's store charges once, is resumed from there, and shows its messages again."""
    effects = Effects(tmp_path / "effects")

    def graph(guard: Guard) -> Any:
        plan = planner([ask("charge", amount=5)])
        charge = _charge(effects)
        return surefoot.wrap(react(plan, [charge]).compile(checkpointer=SurefootSaver(guard.store)), guard=guard)

    done = graph(Guard(kept)).invoke({"messages": [HumanMessage("pay", id=str(uuid.uuid4()))]}, config("t"))
    assert effects.count("charge") == 1
    shown = graph(Guard(kept)).get_state(config("t")).values["messages"]
    assert [type(message) for message in shown] == [type(message) for message in done["messages"]]
    assert isinstance(shown[1], AIMessage)
    assert json.dumps(shown[1].tool_calls[0]["args"]) == '{"amount": 5}'


def _charge(effects: Effects) -> Any:
    from langchain_core.tools import tool

    @tool
    def charge(amount: int) -> str:
        """Charge a customer."""
        effects.add("charge", amount)
        return f"charged {amount}"

    return charge


def test_as_67_a_pattern_of_the_guards_policy_is_kept_out_of_checkpoints(tmp_path: Path) -> None:
    """AS-67: a state with what the policy of the graph's guard redacts is refused by the saver, whole, as one with a secret is."""
    path = tmp_path / "surefoot.yaml"
    path.write_text("redaction: [{pattern: 'card-[0-9]{4}'}]")
    saver = SurefootSaver(f"sqlite:///{tmp_path}/checkpoints.db")

    def node(state: Any) -> Any:
        return {"messages": [("ai", "paid with card-4111")]}

    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    guard = Guard(f"sqlite:///{tmp_path}/s.db", policy=str(path))
    with pytest.raises(NotStorable, match="text that must be redacted"):
        surefoot.wrap(builder.compile(checkpointer=saver), guard=guard).invoke({"messages": [("user", "go")]}, config("t"))
    guard.close()
    saver.store.close()
    files = [*tmp_path.glob("*.db*")]
    assert len(files) > 1
    assert [file.name for file in files if b"card-4111" in file.read_bytes()] == []
