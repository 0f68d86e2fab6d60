"""Compiled graphs: a guarded copy whose invocations are runs."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ClassVar

from langchain_core.runnables.config import ensure_config, merge_configs
from langgraph.channels import UntrackedValue
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.types import Command

from surefoot import Effect, Guard, InDoubt, RunStatus, SurefootError, UsageError
from surefoot._api import named_run
from surefoot.engine.frames import ActiveCall, Frame, at, here, innermost, join
from surefoot.engine.program import Do, Program, Tx
from surefoot.engine.run import Opened, RunSpec, close_run, open_run
from surefoot.engine.transitions import CallEvent
from surefoot_langgraph import _convert, _tools
from surefoot_langgraph._history import Cursor, Lineage, head_id
from surefoot_langgraph._steps import Invocation, Step, invocation

__all__ = ["guarded"]

_CHECKPOINTER = "__pregel_checkpointer"
_NESTED = "langgraph.nested"


def guarded(graph: Pregel[Any, Any, Any, Any], guard: Guard) -> Any:
    """Return a guarded copy of a compiled graph, with the same type, interface, schemas and drawing."""
    known = getattr(type(graph), "surefoot_binding", None)
    if known is not None:
        if known.guard is not guard:
            raise UsageError(f"graph {graph.get_name()!r} is guarded by another guard already; wrap it once, or give guard=")
        return graph
    _convert.register(guard.codec)
    guard.control_flow(GraphBubbleUp)
    unkept = frozenset(name for name, spec in graph.channels.items() if not hasattr(spec, "checkpoint") or isinstance(spec, UntrackedValue))
    nodes = {}
    for name, node in graph.nodes.items():
        bound, subgraphs = node.bound, node.subgraphs
        if isinstance(bound, Pregel):
            bound = guarded(bound, guard)
            subgraphs = [bound]
        elif isinstance(bound, ToolNode):
            bound = _tools.guarded_node(bound, guard)
        nodes[name] = node if name == "__start__" else node.copy({"bound": Step(name, bound, guard, unkept), "subgraphs": subgraphs})
    copy = graph.copy({"nodes": nodes})
    copy.__class__ = _class(type(graph), _Binding(guard, graph))
    return copy


@dataclass(frozen=True, slots=True)
class _Binding:
    guard: Guard
    original: Pregel[Any, Any, Any, Any]


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
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__annotations__": {"surefoot_binding": ClassVar[Any]},
        "surefoot_binding": binding,
        "invoke": invoke,
        "ainvoke": ainvoke,
        "stream": stream,
        "astream": astream,
        "get_graph": get_graph,
        "aget_graph": aget_graph,
    }
    made: type[Any] = types.new_class(kind.__name__, (kind,), exec_body=lambda body: body.update(namespace))
    return made


def stop(error: BaseException) -> BaseException:
    """Return the error as one that LangGraph's own error handling lets through (``handle_tool_errors``, retries)."""
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
        guard.drive(door.close(None))
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
        await guard.adrive(door.close(None))
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
        opened: Opened = yield from open_run(self._guard, self._spec())
        behind = (yield from self._behind(opened.run.record.first, "")) if opened.run.resumed else {}
        self._invocation = Invocation(opened.run, "", None, Cursor(behind))
        return {"given": self._input, "stored": opened.stored, "nothing": None}[opened.feed]

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

    # --- which run

    def _saver(self) -> Any:
        saver = self._conf.get(_CHECKPOINTER, self._graph.checkpointer)
        return saver if hasattr(saver, "get_tuple") and "thread_id" in self._conf else None

    def _thread(self) -> str | None:
        named = named_run()
        thread = named.thread or self._conf.get("thread_id")
        if thread is None and named.name is not None:
            return f"run:{named.name}"
        return str(thread) if thread is not None else None

    def _spec(self) -> RunSpec:
        value = self._input
        resumes = isinstance(value, Command) and value.resume is not None
        kind = "continue" if value is None else "resume" if resumes else "input"
        thread = self._thread()
        if thread is None and self._guard.strict:
            raise UsageError("strict=True needs a name for the run: give a thread_id, or use 'with surefoot.run(name):'")
        head = self._head()
        return RunSpec(
            "langgraph",
            named_run().tenant,
            thread,
            kind,  # type: ignore[arg-type]
            value,
            _convert.input_digest(self._guard.codec, value),
            head,
            Do(self._behind_open, self._abehind_open),
            stop,
            fork=self._conf.get("checkpoint_id") or None,
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

    def _left(self) -> Program[bool]:
        config = self._base()
        state = yield Do(lambda: self._graph.get_state(config), lambda: self._graph.aget_state(config))
        return bool(state.next)

    # --- how far the framework is

    def _behind_open(self) -> dict[str, int]:
        return self._guard.drive(self._behind(None, ""))  # type: ignore[no-any-return]

    async def _abehind_open(self) -> dict[str, int]:
        return await self._guard.adrive(self._behind(None, ""))  # type: ignore[no-any-return]

    def _behind(self, first: str | None, prefix: str) -> Program[dict[str, int]]:
        if self._saver() is None:
            return {}
        config = self._base()
        lineage = Lineage(first)
        start = self._conf.get("checkpoint_id")

        def plain() -> None:
            for snapshot in self._graph.get_state_history(config):
                if _reached(snapshot, start) and lineage.feed(snapshot):
                    return

        async def coro() -> None:
            async for snapshot in self._graph.aget_state_history(config):
                if _reached(snapshot, start) and lineage.feed(snapshot):
                    return

        yield Do(plain, coro)
        found: Any = ()
        if lineage.gaps and self._invocation is None:
            found = yield Tx(lambda unit: _committed(unit, self._thread(), named_run().tenant), write=False)
        return lineage.behind(found, prefix)

    def _nest(self, place: Frame | ActiveCall) -> Program[None]:
        """Enter the run that this invocation is nested in; a call that does so is a composite from now on."""
        frame = innermost(place)
        assert frame is not None  # noqa: S101 - there is a place
        if isinstance(place, ActiveCall) and not place.composite:
            call_id = place.call.call_id
            yield Tx(lambda unit: _composite(unit, call_id))
            place.composite = True
        frame.nested += 1
        prefix = frame.path if frame.nested == 1 else join(frame.path, f"~{frame.nested}")
        if self._saver() is None:
            self._invocation = Invocation(frame.run, prefix, frame, Cursor())
            return
        if frame.nested > 1 and self._conf.get("checkpoint_ns"):
            self._conf = {**self._conf, "checkpoint_ns": f"{self._conf['checkpoint_ns']}|{frame.nested - 1}"}
        head = yield self._head()
        key = f"{frame.run.record.run_id}/{prefix}"
        first = yield Tx(lambda unit: unit.records.get(_NESTED, key), write=False)
        if first is None:
            yield Tx(lambda unit: unit.records.put(_NESTED, key, head))
        started = first.value if first is not None else head
        behind = (yield from self._behind(started, prefix)) if head != started else {}
        self._invocation = Invocation(frame.run, prefix, frame, Cursor(behind))


def _reached(snapshot: Any, start: str | None) -> bool:
    """Return whether a history, newest first, has come to the checkpoint to start from."""
    return start is None or snapshot.config["configurable"]["checkpoint_id"] <= start


def _committed(unit: Any, thread: str | None, tenant: str) -> Any:
    known = unit.records.get("threads", f"{tenant}/{thread}")
    return unit.checkpoints.list(known.value["run"], limit=100_000) if known else ()


def _composite(unit: Any, call_id: str) -> None:
    record = unit.calls.get(call_id)
    unit.move(record, CallEvent.RECLASSIFIED, effect=Effect.COMPOSITE)
