"""Agents killed by SIGKILL and resumed in a new process. Effects are counted in a file that the tools write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, look
from zygote import Done

POINTS = ["before intent", "call.claimed", "effect", "call.committed", "step.committed", "after checkpoint"]


children = Children(Path(__file__).parent / "child.py")


@pytest.fixture(autouse=True, scope="module")
def closed() -> Iterator[None]:
    """Nothing outlives the tests."""
    yield
    children.close()


def child(folder: Path, scenario: str, **told: Any) -> Done:
    """Run one process of a scenario to its end."""
    return children.process(folder, scenario=scenario, **told)


def killed(folder: Path, scenario: str, **told: Any) -> None:
    """Run a process that must die of SIGKILL."""
    children.killed(folder, scenario=scenario, **told)


def resumed(folder: Path, scenario: str, **told: Any) -> list[Any]:
    """Run a process that must end well; return its messages as (type, content, tool_call_id, asked ids)."""
    messages: list[Any] = children.result(folder, scenario=scenario, **told)
    return messages


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
def test_as_03_at_most_one_effect_at_every_kill_point(tmp_path: Path, effect: str, point: str) -> None:
    """Killed at any point and resumed, the charge happened at most once, and once or the run says that it is in doubt."""
    told: dict[str, Any] = {"tools": {"charge": effect}}
    killed(tmp_path, "pay", kill=point, input="go", **told)
    after = child(tmp_path, "pay", input=None, **told)
    count = Effects(tmp_path / "effects").count("charge")
    in_doubt = [c for c in look(tmp_path).calls.list() if c.state == "in_doubt"]
    assert count <= 1
    if point in {"call.claimed", "effect"}:
        assert len(in_doubt) == 1
        assert after.returncode == (1 if effect == "unsafe" else 0), after.stderr[-500:]
        assert ("InDoubt" in after.stderr) == (effect == "unsafe")
        assert effect == "unsafe" or "Outcome unknown" in after.stdout
    else:
        assert after.returncode == 0, after.stderr[-2000:]
        assert (count, in_doubt) == (1, [])


def test_as_03_negative_control_a_bare_graph_charges_twice(tmp_path: Path) -> None:
    """The same agent without surefoot charges twice: the matrix can fail."""
    killed(tmp_path, "pay", kill="effect", input="go", bare=True)
    resumed(tmp_path, "pay", input=None, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


def test_as_03_an_idempotent_tool_runs_again(tmp_path: Path) -> None:
    """A tool declared idempotent is simply run again after a kill in its body."""
    told: dict[str, Any] = {"tools": {"charge": "idempotent"}}
    killed(tmp_path, "pay", kill="effect", input="go", **told)
    messages = resumed(tmp_path, "pay", input=None, **told)
    assert [m[1] for m in messages if m[0] == "tool"] == ["charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize(("durability", "slow"), [("sync", False), ("async", False), ("async", True), ("exit", False)])
@pytest.mark.parametrize("again", ["continue", "same input"])
@pytest.mark.parametrize("scenario", ["pay", "fickle"])
def test_as_89_resumed_or_sent_again_in_every_durability(
    tmp_path: Path,
    durability: str,
    slow: bool,  # noqa: FBT001 - pytest passes parameters by name
    again: str,
    scenario: str,
) -> None:
    """Killed after the charge is recorded, then resumed or given the same input, with a planner that answers differently: 1 effect."""
    told = {"durability": durability}
    killed(tmp_path, scenario, kill="call.committed", input="go", slow=slow, **told)
    messages = resumed(tmp_path, scenario, input="go" if again == "same input" else None, **told)
    assert [m[1] for m in messages if m[0] == "tool"] == ["charged 5"]
    assert Effects(tmp_path / "effects").count("charge") == 1


@pytest.mark.parametrize("mode", [False, True])
def test_as_01_an_interrupted_sibling_resumed_in_a_new_process(tmp_path: Path, mode: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """A tool asks a person beside a charge; answered in a new process, the charge ran once and its message is the first result."""
    resumed(tmp_path, "asking", input="go", **{"async": mode})
    messages = resumed(tmp_path, "asking", resume="yes", **{"async": mode})
    assert [m[1] for m in messages if m[0] == "tool"] == ["charged 5", "1: yes"]
    assert Effects(tmp_path / "effects").count("charge") == 1


def test_as_01_a_finished_sibling_is_not_repeated(tmp_path: Path) -> None:
    """Killed in one of two parallel calls, the other is not run again, and its message is the first result."""
    killed(tmp_path, "sibling", kill="sibling", input="go", tools={"dies": "idempotent"})
    messages = resumed(tmp_path, "sibling", input=None, tools={"dies": "idempotent"})
    assert [m[1] for m in messages if m[0] == "tool"] == ["charged 5", "lived 1"]
    assert Effects(tmp_path / "effects").count("charge") == 1


@pytest.mark.parametrize("mode", [False, True])
def test_as_32_history_is_valid_and_true_after_a_kill(tmp_path: Path, mode: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """After a kill between effect and tool message, every request has exactly one answer right behind it: the true result."""
    killed(tmp_path, "pay", kill="call.committed", input="go", **{"async": mode})
    messages = resumed(tmp_path, "pay", input=None, **{"async": mode})
    asked: list[str] = []
    for kind, content, answers, asks in messages:
        if kind == "tool":
            assert content == "charged 5"
            asked.remove(answers)
        else:
            assert asked == []
            asked = list(asks)
    assert asked == []
    assert Effects(tmp_path / "effects").count("charge") == 1


@pytest.mark.parametrize(("point", "nth"), [("effect", 1), ("effect", 2), ("call.committed", 1)])
@pytest.mark.parametrize("scenario", ["loop", "subgraph", "graph_in_tool", "fan_out", "swarm"])
def test_as_90_as_94_as_96_as_97_each_request_once(tmp_path: Path, scenario: str, point: str, nth: int) -> None:
    """The same charge asked for twice (a loop, a sub-graph, a graph in a tool, equal branches, two visits): killed at either, 2 effects."""
    told: dict[str, Any] = {"tools": {"charge": "idempotent"} if point == "effect" else {}}
    killed(tmp_path, scenario, kill=point, nth=nth, input="go", **told)
    resumed(tmp_path, scenario, input=None, **told)
    extra = 1 if point == "effect" else 0  # declared idempotent, so the killed one was run again
    assert Effects(tmp_path / "effects").count("charge") == 2 + extra


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("scenario", ["loop", "subgraph", "graph_in_tool", "swarm"])
def test_as_90_as_97_killed_between_a_tasks_output_and_its_checkpoint(tmp_path: Path, scenario: str, nth: int) -> None:
    """The framework kept the charging task's output but no checkpoint of it: it is not run again, and the next equal charge is its own."""
    killed(tmp_path, scenario, kill="before checkpoint", nth=nth, input="go")
    resumed(tmp_path, scenario, input=None)
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("scenario", ["loop", "subgraph", "graph_in_tool", "swarm"])
def test_as_90_an_unsafe_call_killed_in_its_body_is_not_repeated(tmp_path: Path, scenario: str) -> None:
    """The second of two equal charges is killed in its body: resumed, it is held, and settled by hand the run completes with 2 effects."""
    told: dict[str, Any] = {"tools": {"charge": "unsafe"}}
    killed(tmp_path, scenario, kill="effect", nth=2, input="go", **told)
    held = child(tmp_path, scenario, input=None, **told)
    assert "InDoubt" in held.stderr
    (doubt,) = look(tmp_path).calls.list(state="in_doubt")
    look(tmp_path).calls.settle(doubt.call_id, committed="charged 5", by="maria")
    resumed(tmp_path, scenario, input=None, **told)
    assert Effects(tmp_path / "effects").count("charge") == 2
    assert look(tmp_path).calls.show(doubt.call_id).settled_by == "maria"


def test_as_98_a_doubt_outlives_the_run_that_was_abandoned(tmp_path: Path) -> None:
    """Killed in the charge, the user says "try again": the model is told that it may have happened, and nothing is charged."""
    killed(tmp_path, "pay", kill="effect", input="go")
    messages = resumed(tmp_path, "loop", input="did it work? try again")
    told = [m[1] for m in messages if m[0] == "tool"]
    assert told
    assert all("Outcome unknown" in text for text in told)
    assert Effects(tmp_path / "effects").count("charge") == 1
