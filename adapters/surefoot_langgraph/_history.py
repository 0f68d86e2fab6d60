"""How far is the framework? Counting step instances behind its head, from its own history and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langgraph.types import StateSnapshot

from surefoot import Checkpoint
from surefoot_adapters import quote

__all__ = ["Cursor", "Lineage", "Written", "head_id"]


def head_id(found: Any) -> str | None:
    """Return the id in a checkpoint tuple, or ``None`` where there is none."""
    return _id(found.config) if found is not None else None


def _id(config: Any) -> str:
    name: str = config["configurable"]["checkpoint_id"]
    return name


class Written:
    """The checkpoint that a run wrote, of the one that is named: itself, or what ``update_state`` changed. Fed newest first."""

    def __init__(self, named: str) -> None:
        self._named = self._want = named
        self._newest: str | None = None

    def feed(self, snapshot: StateSnapshot) -> bool:
        """Take the next snapshot; return whether it is the one."""
        here = _id(snapshot.config)
        by_hand = (snapshot.metadata or {}).get("source") == "update" and snapshot.parent_config is not None
        if self._newest is None and not by_hand:
            self._newest = here
        if here == self._want and by_hand:
            self._want = _id(snapshot.parent_config)
            return False
        return here == self._want

    def fork(self) -> str:
        """Return the checkpoint that a branch begins at; the named one, where the thread goes on from the newest with the change."""
        return self._named if self._want == self._newest else self._want


class Lineage:
    """The parent chain from a head back to a run's first checkpoint, fed with snapshots newest first.

    ``done``: the invocation goes on from the head, and tasks whose output is kept beside it will not run again.
    """

    def __init__(self, first: str | None, *, done: bool = False) -> None:
        self._first = first
        self._done = done
        self._want: str | None = None
        self._child: StateSnapshot | None = None
        self.counts: dict[str, int] = {}
        self.gaps: list[tuple[int, int]] = []
        """Super-steps ``(after, up to)`` that the framework did not keep (durability ``exit``)."""

    def feed(self, snapshot: StateSnapshot) -> bool:
        """Take the next snapshot; return whether the chain is complete."""
        here = _id(snapshot.config)
        if self._want is not None and here != self._want:
            return False
        if self._child is not None:
            self._between(snapshot)
        elif self._done:
            self._count({task.name for task in snapshot.tasks} - {task.name for task in snapshot.tasks if task.result is None})
        parent = snapshot.parent_config
        self._child = snapshot
        if here == self._first or parent is None:
            if here != self._first:
                self._between(None)
            return True
        self._want = _id(parent)
        return False

    def _between(self, parent: StateSnapshot | None) -> None:
        child = self._child
        assert child is not None  # noqa: S101 - set by feed
        if (child.metadata or {}).get("source") != "loop":
            return
        done, begun = _step(child), _step(parent) if parent is not None else -1
        if parent is not None and done == begun + 1:
            self._count({task.name for task in parent.tasks})
        else:
            self.gaps.append((begun, done))

    def _count(self, names: set[str]) -> None:
        for name in names:
            self.counts[name] = self.counts.get(name, 0) + 1

    def behind(self, checkpoints: Iterable[Checkpoint], prefix: str) -> dict[str, int]:
        """Return instances by quoted step name; super-steps that the framework did not keep are taken from our commits."""
        counts = {quote(name): number for name, number in self.counts.items()}
        hidden: set[tuple[str, int]] = set()
        for checkpoint in checkpoints:
            path = checkpoint.path.removeprefix(prefix + "/" if prefix else "")
            mark = checkpoint.mark
            if "/" not in path and mark is not None and any(low < mark <= high for low, high in self.gaps):
                hidden.add((path.split("#", 1)[0], mark))
        for name, _ in hidden:
            counts[name] = counts.get(name, 0) + 1
        return counts


def _step(snapshot: StateSnapshot) -> int:
    step: int = (snapshot.metadata or {}).get("step", -1)
    return step


class Cursor:
    """The n-th instance of each step name, counted on from what the framework has behind it."""

    def __init__(self, behind: dict[str, int] | None = None) -> None:
        self._behind = behind or {}
        self._seen: dict[str, tuple[int, int]] = {}

    def instance(self, name: str, superstep: int) -> int:
        """Return the instance number of the step that runs in ``superstep``; parallel tasks of one name share it."""
        last, number = self._seen.get(name, (None, self._behind.get(quote(name), 0)))
        if last != superstep:
            number += 1
            self._seen[name] = (superstep, number)
        return number


def branch_of(path: Sequence[Any], digest: str | None) -> str:
    """Return the name of a fan-out branch: digest of its input and index in the task path; ``""`` for an ordinary task."""
    return f"{(digest or '?')[:12]}:{path[1]}" if path and path[0] == "__pregel_push" else ""
