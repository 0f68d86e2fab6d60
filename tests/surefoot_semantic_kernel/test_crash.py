"""Agents and kernels killed by SIGKILL and run again. Effects and questions to the model are counted in a file that the children write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, at_most_one_effect, look, printed
from sk_support import FACES

POINTS = ["model 0", "model.replied", "before body", "call.claimed", "effect", "call.committed", "model 2", "step.committed"]

children = Children(Path(__file__).parent / "sk_child.py")
process, killed, result = children.process, children.killed, children.result


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize(
    ("shape", "face"),
    [
        ("agent", "response"),
        *(pytest.param("agent", face, marks=pytest.mark.sweep) for face in FACES if face != "response"),
        pytest.param("chat", "response", marks=pytest.mark.sweep),
        pytest.param("chat", "stream", marks=pytest.mark.sweep),
    ],
)
def test_as_03_at_most_one_effect_at_every_kill_point(tmp_path: Path, shape: str, face: str, effect: str, point: str) -> None:
    """Killed at any point and run again under its name, agent and kernel charge at most once, and the model is asked nothing again."""
    told = {"shape": shape, "face": face, "effect": effect}
    at_most_one_effect(children, tmp_path, point, unknown={"before body", "call.claimed", "effect"}, **told)


@pytest.mark.parametrize("shape", ["agent", "chat", "direct"])
def test_as_03_negative_control_bare_it_charges_twice(tmp_path: Path, shape: str) -> None:
    """The same without surefoot charges twice: the matrix can fail."""
    killed(tmp_path, shape=shape, kill="effect", bare=True)
    result(tmp_path, shape=shape, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("point", ["call.claimed", "effect", "call.committed", "step.committed"])
def test_as_03_a_function_that_code_calls(tmp_path: Path, point: str) -> None:
    """A function called by ``kernel.invoke`` has a run of its own: killed and called again, it charges at most once."""
    killed(tmp_path, shape="direct", kill=point)
    again = process(tmp_path, shape="direct")
    assert Effects(tmp_path / "effects").count("charge") == (point != "call.claimed")
    if point in {"call.claimed", "effect"}:
        assert "InDoubt" in again.stderr
    else:
        assert printed(again) == "charged 5"


@pytest.mark.parametrize("point", ["call.committed", "effect", "model 2"])
@pytest.mark.parametrize("face", ["response", "stream"])
def test_as_94_an_agent_inside_a_function_is_entered_again(tmp_path: Path, face: str, point: str) -> None:
    """Killed inside an agent that a function runs, the outer one is not held: the inner one is entered again and its calls replay."""
    killed(tmp_path, face=face, shape="delegated", kill=point)
    again = result(tmp_path, face=face, shape="delegated")
    effects = Effects(tmp_path / "effects")
    assert effects.count("charge") == 1
    assert ("Outcome unknown" if point == "effect" else "boss: done: 7 costs 5, charged 5") in again
    assert effects.count("model", "boss") == 2
    assert effects.count("model", "cashier") == 3 + (point == "model 2")
    (outer,) = [row for row in look(tmp_path).calls.list() if row.tool == "bank-serve"]
    assert (outer.effect, outer.state) == ("composite", "committed")


@pytest.mark.parametrize(("how", "count"), [({"committed": "charged 5"}, 1), ({"failed": True}, 2)])
def test_as_03_settled_by_hand_the_run_completes(tmp_path: Path, how: dict[str, Any], count: int) -> None:
    """Killed after the effect and settled, the run goes on: with the given result, or running the body again."""
    killed(tmp_path, kill="effect", effect="unsafe")
    assert process(tmp_path, effect="unsafe").returncode == 1
    guard = look(tmp_path)
    (doubt,) = guard.calls.list(state="in_doubt")
    guard.calls.settle(doubt.call_id, by="operator", **how)
    assert result(tmp_path, effect="unsafe") == "done: 7 costs 5, charged 5"
    assert Effects(tmp_path / "effects").count("charge") == count
    assert [run.status for run in guard.runs.list()] == ["completed"]


def test_as_03_a_step_of_a_process_is_not_repeated(tmp_path: Path) -> None:
    """Killed in the second step and run again, the first one is not: what it emitted is emitted again, and the second goes on from it."""
    killed(tmp_path, shape="process", kill="before shipping")
    assert "InDoubt" in process(tmp_path, shape="process").stderr  # the process itself makes an event of it
    guard = look(tmp_path)
    (doubt,) = guard.calls.list(state="in_doubt")
    guard.calls.settle(doubt.call_id, by="operator", failed=True)
    assert result(tmp_path, shape="process") == "7, charged 1x"
    effects = Effects(tmp_path / "effects")
    assert (effects.count("charge"), effects.count("ship")) == (1, 1)


def test_as_03_negative_control_a_bare_process_repeats_its_steps(tmp_path: Path) -> None:
    """The same without surefoot charges once for each start."""
    killed(tmp_path, shape="process", kill="before shipping", bare=True)
    assert result(tmp_path, shape="process", bare=True) == "7, charged 1x"
    assert Effects(tmp_path / "effects").count("charge") == 2
