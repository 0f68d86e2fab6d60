"""A caller that names its own operation: the ledger's key is its name, in every run, and other arguments under it are a conflict."""

from __future__ import annotations

from typing import Any

import pytest

from surefoot import Guard, InDoubt, KeyConflict, ToolRule
from surefoot.engine.claims import Request
from surefoot.engine.frames import Frame
from surefoot.engine.program import Do
from surefoot.engine.run import RunSpec, open_run
from surefoot_stores import MemoryStore


def ask(guard: Guard, key: str | None, done: list[int], **arguments: Any) -> Any:
    """Ask for a charge, in a run of its own."""
    spec = RunSpec("test", "default", None, "input", {}, "d", Do(lambda: None), Do(dict), lambda error: error)
    run = guard.drive(open_run(guard, spec)).run
    frame = Frame(run, None, "s#1", run.next_entry())

    def body() -> int:
        done.append(1)
        return len(done)

    return guard.call(frame, Request("charge", arguments, None, key=key), body)


@pytest.mark.parametrize("declared", [(), ("order",)], ids=["slot", "declared key"])
def test_one_key_is_one_effect_i1(declared: tuple[str, ...]) -> None:
    """I1: equal requests under one given key have one effect, whatever run they come from, and it counts before a declared key."""
    guard, done = Guard(MemoryStore(), tools={"charge": ToolRule("unclassified", key=declared)}), list[int]()
    assert [ask(guard, key, done, order=7) for key in ("a", "a", "b", "b")] == [1, 1, 2, 2]


@pytest.mark.parametrize(("effect", "error"), [("unclassified", KeyConflict), ("unsafe", InDoubt)])
def test_other_arguments_conflict_i5(effect: Any, error: type[Exception]) -> None:
    """I5: a given key with other arguments has no effect."""
    guard, done = Guard(MemoryStore(), tools={"charge": ToolRule(effect)}), list[int]()
    assert ask(guard, "a", done, order=7) == 1
    with pytest.raises(error):
        ask(guard, "a", done, order=8)
    assert done == [1]
