"""Compiled graphs: a guarded copy whose invocations are runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import RunnableSerializable
from langchain_core.runnables.config import ensure_config, merge_configs
from langgraph.channels import UntrackedValue
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.types import Command, StateSnapshot

from surefoot import ApprovalPending, Guard, InDoubt, RunStatus, SurefootError, UsageError
from surefoot_adapters import (
    ActiveCall,
    Do,
    Frame,
    LiveRun,
    Opened,
    Program,
    RunSpec,
    Tx,
    alike,
    at,
    close_run,
    composite,
    frame_at,
    here,
    is_guarded,
    join,
    named_run,
    open_run,
    owned,
    passed,
    rejected,
    thread_of,
    top,
)
from surefoot_langgraph import _approvals, _convert, _repair, _tools
from surefoot_langgraph._history import Cursor, Lineage, Written, head_id
from surefoot_langgraph._saver import SurefootSaver
from surefoot_langgraph._steps import Invocation, Step, invocation

__all__ = ["guarded"]

_CHECKPOINTER = "__pregel_checkpointer"
_SCRATCHPAD = "__pregel_scratchpad"
_NESTED = "langgraph.nested"


def guarded(graph: Pregel[Any, Any, Any, Any], guard: Guard, adapter: str = "langgraph") -> Any:
    """Return a guarded copy of a compiled graph, with the same type, interface, schemas and drawing; its runs are ``adapter``'s."""
    known = getattr(type(graph), "surefoot_binding", None)
    if is_guarded(known and known.guard, guard, f"graph {graph.get_name()!r}"):
        return graph
    _convert.register(guard.codec)
    guard.control_flow(GraphBubbleUp)
    unkept = frozenset(name for name, spec in graph.channels.items() if not hasattr(spec, "checkpoint") or isinstance(spec, UntrackedValue))
    nodes = {}
    for name, node in graph.nodes.items():
        bound = within(node.bound, guard)
        subgraphs = [bound] if isinstance(bound, Pregel) else node.subgraphs
        nodes[name] = node if name == "__start__" else node.copy({"bound": Step(name, bound, guard, unkept), "subgraphs": subgraphs})
    copy = graph.copy({"nodes": nodes})
    copy.__class__ = _class(type(graph), _Binding(guard, graph, adapter))
    return copy


def within(part: Any, guard: Guard, leaf: Callable[[Any], Any] = lambda part: part) -> Any:
    """Return a node's runnable with every graph, tool node and tool in it guarded; the same object where there is none.

    Fallbacks, retries, sequences and bindings keep what they run in fields; what a function calls cannot be seen. What holds
    nothing is as ``leaf`` makes it.
    """
    if isinstance(part, Pregel):
        return guarded(part, guard)
    if isinstance(part, ToolNode):
        return _tools.guarded_node(part, guard)
    if _tools.is_tool(part):
        return _tools.guarded(part, guard)
    if isinstance(part, (list, tuple)):
        items = [within(item, guard, leaf) for item in part]
        return type(part)(items) if _differ(items, part) else part
    if isinstance(part, Mapping):
        values = {key: within(item, guard, leaf) for key, item in part.items()}
        return values if _differ(values.values(), part.values()) else part
    if isinstance(part, RunnableSerializable) and not isinstance(part, BaseLanguageModel):
        fields = {name: within(item, guard, leaf) for name, item in vars(part).items()}
        return part.model_copy(update=fields) if _differ(fields.values(), vars(part).values()) else part
    return leaf(part)


def _differ(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return any(a is not b for a, b in zip(new, old, strict=True))


@dataclass(frozen=True, slots=True)
class _Binding:
    guard: Guard
    original: Pregel[Any, Any, Any, Any]
    adapter: str


def _class(kind: type[Any], binding: _Binding) -> type[Any]:
    """Return a subclass of ``kind`` that looks like it and governs its invocations."""

    def invoke(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _whole():
            return kind.invoke(self, *args, **kwargs)

    async def ainvoke(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _whole():
            return await kind.ainvoke(self, *args, **kwargs)

    def stream(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:
        return _stream(binding.guard, self, kind.stream, input, config, kwargs)

    def astream(self: Any, input: Any, config: Any = None, **kwargs: Any) -> AsyncIterator[Any]:
        return _astream(binding.guard, self, kind.astream, input, config, kwargs)

    def get_graph(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return binding.original.get_graph(*args, **kwargs)

    async def aget_graph(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return await binding.original.aget_graph(*args, **kwargs)

    namespace = {
        "surefoot_binding": binding,
        "invoke": invoke,
        "ainvoke": ainvoke,
        "stream": stream,
        "astream": astream,
        "get_graph": get_graph,
        "aget_graph": aget_graph,
    }
    return alike(kind, namespace)


def stop(error: BaseException) -> BaseException:
    """Return the error as one that LangGraph's own error handling lets through (``handle_tool_errors``, retries)."""
    if isinstance(error, ApprovalPending):
        return _approvals.interrupt(error)
    if isinstance(error, InDoubt):
        return _HeldDoubt(error)
    return _Held(error) if isinstance(error, SurefootError) else error


class _Held(GraphBubbleUp):
    """A stop of the run on its way to the wrapped entry point."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class _HeldDoubt(_Held, InDoubt):
    """The same for a doubt: node code that handles :class:`~surefoot.InDoubt` sees one."""

    def __init__(self, error: InDoubt) -> None:
        _Held.__init__(self, error)
        self.call_id, self.run_id = error.call_id, error.run_id


# --- the two faces of an invocation

_consumed: ContextVar[bool] = ContextVar("surefoot_langgraph_consumed", default=False)


@contextmanager
def _whole() -> Iterator[None]:
    """Note that the streams in this block are consumed to their end at once: they are never paused."""
    token = _consumed.set(True)
    try:
        yield
    finally:
        _consumed.reset(token)


def _stream(guard: Guard, graph: Any, bare: Callable[..., Any], input: Any, config: Any, kwargs: dict[str, Any]) -> Iterator[Any]:
    door = _Door(guard, graph, input, config)
    given = guard.drive(door.open())
    items = bare(graph, given, config, **kwargs)
    try:
        while True:
            try:
                with door.inside():
                    item = next(items)
            except StopIteration:
                break
            yield item
        guard.drive(door.close(RunStatus.SUSPENDED))
    except GeneratorExit:
        items.close()
        guard.drive(door.close(RunStatus.OPEN))
        raise
    except BaseException as exc:
        items.close()
        guard.drive(door.failed(exc))
        if isinstance(exc, _Held):
            raise exc.error from None
        raise


async def _astream(
    guard: Guard, graph: Any, bare: Callable[..., Any], input: Any, config: Any, kwargs: dict[str, Any]
) -> AsyncIterator[Any]:
    door = _Door(guard, graph, input, config)
    given = await guard.adrive(door.open())
    items = bare(graph, given, config, **kwargs)
    try:
        while True:
            try:
                with door.inside():
                    item = await anext(items)
            except StopAsyncIteration:
                break
            yield item
        await guard.adrive(door.close(RunStatus.SUSPENDED))
    except GeneratorExit:
        await items.aclose()
        await guard.adrive(door.close(RunStatus.OPEN))
        raise
    except BaseException as exc:
        await items.aclose()
        await guard.adrive(door.failed(exc))
        if isinstance(exc, _Held):
            raise exc.error from None
        raise


class _Door:
    """Opens and closes the run of one invocation, or enters the run that it is nested in."""

    def __init__(self, guard: Guard, graph: Any, input: Any, config: Any) -> None:
        self._guard = guard
        self._graph = graph
        self._input = input
        self._config = merge_configs(graph.config, ensure_config(config))
        self._conf = self._config.get("configurable", {})
        self._place = here()
        self._invocation: Invocation | None = None
        self._pauses = self._place is None and not _consumed.get()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Make this invocation the current one while the framework works on the next item."""
        current = self._invocation
        assert current is not None  # noqa: S101 - opened before
        if self._pauses:
            current.run.paused = False
        token = invocation.set(current)
        try:
            with at(current.parent):
                yield
        finally:
            invocation.reset(token)
            if self._pauses:
                current.run.paused = True

    def open(self) -> Program[Any]:
        """Find the run; return the input to feed the framework."""
        if self._place is not None:
            yield from self._nest(self._place)
            return self._input
        fork = yield from self._fork()
        opened: Opened = yield from open_run(self._guard, self._spec(fork))
        goes_on = opened.feed == "nothing" or (opened.feed == "given" and kind_of(self._input) != "input")
        done = goes_on and self._conf.get("checkpoint_id") is None
        try:
            given = {"given": self._input, "stored": opened.stored, "nothing": None}[opened.feed]
            if isinstance(self._input, Command) and self._guard.admissions:
                left = yield from _approvals.decided(self._guard, opened.run.record.run_id, self._input, self._waiting)
                given = left if opened.feed == "given" else given
            behind = (yield from self._behind(opened.run.record.first, "", done=done)) if opened.run.resumed else {}
        except BaseException:
            yield from close_run(self._guard, opened.run, opened.run.record.status)
            raise
        self._invocation = Invocation(opened.run, "", None, Cursor(behind))
        return (yield from self._whole(opened.run, given)) if kind_of(given) == "input" else given

    def _whole(self, run: LiveRun, given: Any) -> Program[Any]:
        """Return a new turn's input; where the conversation lacks answers, with them."""
        before: Any = ()
        if self._saver() is not None and run.record.head is not None and _repair.appends(self._graph):
            config = self._base()
            if (named := self._conf.get("checkpoint_id")) is not None:
                config["configurable"]["checkpoint_id"] = named
            state = yield Do(lambda: self._graph.get_state(config), lambda: self._graph.aget_state(config))
            found = state.values
            before = (found.get("messages") if isinstance(found, Mapping) else getattr(found, "messages", None)) or ()
        return (yield from _repair.whole(self._guard, run, given, before))

    def close(self, unfinished: RunStatus | None) -> Program[None]:
        """End the invocation; a nested one has nothing to end.

        ``unfinished`` is where the run stands if the framework has something left to do; ``None``: it raised.
        """
        if self._place is not None or self._invocation is None:
            return
        status = RunStatus.OPEN
        if unfinished is not None:
            left = (yield from self._left()) if self._saver() is not None else False
            status = unfinished if left else RunStatus.COMPLETED
        yield from close_run(self._guard, self._invocation.run, status)

    def failed(self, exc: BaseException) -> Program[None]:
        """End an invocation that raised. That the run is held is news to whoever gets another error; cancellation comes out."""
        try:
            yield from self.close(None)
        except InDoubt:
            if isinstance(exc, Exception):
                raise

    # --- which run

    def _saver(self) -> Any:
        saver = self._conf.get(_CHECKPOINTER, self._graph.checkpointer)
        if isinstance(saver, SurefootSaver):
            saver.redact_with(self._guard)
        return saver if hasattr(saver, "get_tuple") and "thread_id" in self._conf else None

    def _thread(self) -> str | None:
        named, kept = named_run(), self._conf.get("thread_id")
        return str(kept) if named.thread is None and kept is not None else thread_of(named)

    def _spec(self, fork: str | None) -> RunSpec:
        value = self._input
        thread = self._thread()
        if thread is None and self._guard.strict:
            raise UsageError("strict=True needs a name for the run: give a thread_id, or use 'with surefoot.run(name):'")
        head = self._head()
        return RunSpec(
            type(self._graph).surefoot_binding.adapter,
            named_run().tenant,
            thread,
            kind_of(value),
            value,
            _convert.input_digest(self._guard.codec, value),
            head,
            Do(self._behind_open, self._abehind_open),
            stop,
            fork=fork,
        )

    def _base(self) -> dict[str, Any]:
        """Return the config of the thread's head: the invocation's, without a checkpoint id."""
        keep = {key: self._conf[key] for key in ("thread_id", "checkpoint_ns", _CHECKPOINTER) if key in self._conf}
        return {"configurable": keep}

    def _head(self) -> Do:
        saver = self._saver()
        if saver is None:
            return Do(lambda: None)
        config = {"configurable": {"checkpoint_ns": "", **self._base()["configurable"]}}

        async def later() -> str | None:
            return head_id(await saver.aget_tuple(config))

        return Do(lambda: head_id(saver.get_tuple(config)), later)

    def _fork(self) -> Program[str | None]:
        named = self._conf.get("checkpoint_id") or None
        if named is None or self._saver() is None:
            return named
        written = Written(named)
        yield self._history(written.feed)
        return written.fork()

    def _left(self) -> Program[bool]:
        return bool((yield self._state()).next)

    def _waiting(self) -> Program[list[str]]:
        """Return the ids of the interrupts that wait for an answer."""
        return [interrupt.id for interrupt in (yield self._state()).interrupts] if self._saver() is not None else []

    def _state(self) -> Do:
        config = self._base()
        return Do(lambda: self._graph.get_state(config), lambda: self._graph.aget_state(config))

    # --- how far the framework is

    def _behind_open(self) -> dict[str, int]:
        return self._guard.drive(self._behind(None, ""))  # type: ignore[no-any-return]

    async def _abehind_open(self) -> dict[str, int]:
        return await self._guard.adrive(self._behind(None, ""))  # type: ignore[no-any-return]

    def _behind(self, first: str | None, prefix: str, *, done: bool = False) -> Program[dict[str, int]]:
        if self._saver() is None:
            return {}
        lineage = Lineage(first, done=done)
        start = self._conf.get("checkpoint_id")
        yield self._history(lambda snapshot: _reached(snapshot, start) and lineage.feed(snapshot))
        found: Any = ()
        if lineage.gaps and self._invocation is None:
            found = yield Tx(lambda unit: _committed(unit, self._thread(), named_run().tenant), write=False)
        return lineage.behind(found, prefix)

    def _history(self, feed: Callable[[StateSnapshot], bool]) -> Do:
        """Return what shows the thread's history, newest first, until ``feed`` has enough."""
        config = self._base()

        def plain() -> None:
            for snapshot in self._graph.get_state_history(config):
                if feed(snapshot):
                    return

        async def coro() -> None:
            async for snapshot in self._graph.aget_state_history(config):
                if feed(snapshot):
                    return

        return Do(plain, coro)

    def _nest(self, place: Frame | ActiveCall) -> Program[None]:
        """Enter the run that this invocation is nested in; a call that does so is a composite from now on."""
        yield from composite(place)
        frame = frame_at(place, self._guard, f"graph {self._graph.get_name()!r}")
        frame.nested += 1
        prefix = frame.path if frame.nested == 1 else join(frame.path, f"~{frame.nested}")
        if self._saver() is None:
            self._invocation = Invocation(frame.run, prefix, frame, Cursor())
            return
        number = getattr(self._conf.get(_SCRATCHPAD), "upcoming", None)
        number = frame.nested - 1 if number is None else number
        if number and self._conf.get("checkpoint_ns"):
            self._conf = {**self._conf, "checkpoint_ns": f"{self._conf['checkpoint_ns']}|{number}"}
        head = yield self._head()
        key = f"{frame.run.record.run_id}/{prefix}"
        first = yield Tx(lambda unit: unit.records.get(_NESTED, key), write=False)
        if first is None:
            yield Tx(lambda unit: unit.records.put(_NESTED, key, head))
        started = first.value if first is not None else head
        behind = (yield from self._behind(started, prefix, done=True)) if head != started else {}
        if behind:
            yield Tx(lambda unit: _closed(unit, frame, prefix, behind))
        self._invocation = Invocation(frame.run, prefix, frame, Cursor(behind))


def _closed(unit: Any, frame: Frame, prefix: str, behind: Mapping[str, int]) -> None:
    """Count the calls of the steps that a nested graph has behind it as asked for by the entry that goes on from there."""
    below = ((row, *top(row.path.removeprefix(f"{prefix}/"))) for row in unit.calls.under(frame.run.scope, prefix) if row.path != prefix)
    rows = [row for row, name, number in below if 0 < number <= behind.get(name, 0)]
    passed(unit, rows, frame.run.next_entry(), rejected(frame))


def kind_of(given: Any) -> Literal["input", "resume", "continue"]:
    """Return what an invocation brings: a new input, an answer to an interrupt, or nothing."""
    if given is None:
        return "continue"
    return "resume" if isinstance(given, Command) and given.resume is not None else "input"


def _reached(snapshot: Any, start: str | None) -> bool:
    """Return whether a history, newest first, has come to the checkpoint to start from."""
    return start is None or snapshot.config["configurable"]["checkpoint_id"] <= start


def _committed(unit: Any, thread: str | None, tenant: str) -> Any:
    known = unit.records.get("threads", owned(tenant, f"{thread}"))
    return unit.checkpoints.list(known.value["run"], limit=100_000) if known else ()
