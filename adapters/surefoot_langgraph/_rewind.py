"""Taking a thread back: the state after an earlier super-step becomes its newest one. Nothing of its history is removed."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from surefoot import RunRecord, UsageError

__all__ = ["place", "rewind"]


def place(graph: Any, run: RunRecord, mark: int | None) -> dict[str, Any]:
    """Return the config of the checkpoint after the super-step ``mark`` of a run, to invoke the graph with.

    Raises :class:`~surefoot.UsageError` where the graph has no checkpointer, or it did not keep that checkpoint.
    """
    found = _after(_saver(graph), run, mark)
    where: Any = found.config
    return {"configurable": {key: where["configurable"][key] for key in ("thread_id", "checkpoint_ns", "checkpoint_id")}}


def rewind(graph: Any, run: RunRecord, mark: int | None) -> None:
    """Make the state after the super-step ``mark`` the newest one of the run's thread; ``None``: the state before the run.

    A thread that began with the run has no state before it, and is deleted in the checkpointer. Raises as :func:`place`. A graph
    without a checkpointer keeps no state.
    """
    if graph.checkpointer is None:
        return
    saver = _saver(graph)
    if mark is None and run.head is None:
        saver.delete_thread(run.thread)
        return
    found = _after(saver, run, mark)
    step = int(found.metadata.get("step", -1)) + 1
    # The child of the one that it repeats, as update_state would make it: so the super-steps behind it are counted (_history).
    metadata: Any = {"source": "update", "step": step, "parents": found.metadata.get("parents", {})}
    saver.put(found.config, {**found.checkpoint, "id": str(uuid6(clock_seq=step))}, metadata, {})


def _saver(graph: Any) -> Any:
    saver = graph.checkpointer
    if not hasattr(saver, "get_tuple"):
        raise UsageError(f"graph {graph.get_name()!r} has no checkpointer of its own, so no state of it can be gone back to")
    return saver


def _after(saver: Any, run: RunRecord, mark: int | None) -> CheckpointTuple:
    """Return the newest checkpoint that a super-step of the thread's present past ended with, or the one before the run."""
    config: Any = {"configurable": {"thread_id": run.thread, "checkpoint_ns": ""}}
    want: str | None = None
    for found in saver.list(config):
        here = found.config["configurable"]["checkpoint_id"]
        if want is not None and here != want:
            continue  # of another branch
        wanted = here == run.head if mark is None else found.metadata.get("step") == mark and found.metadata.get("source") == "loop"
        if wanted:
            return found  # type: ignore[no-any-return]
        if here == run.head or found.parent_config is None:
            break
        want = found.parent_config["configurable"]["checkpoint_id"]
    what = "before it" if mark is None else f"after super-step {mark}"
    raise UsageError(f"the checkpointer of thread {run.thread} has no state {what} of run {run.run_id}; was it durability='exit'?")
