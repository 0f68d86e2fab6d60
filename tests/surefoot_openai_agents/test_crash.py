"""Agents killed by SIGKILL and run again. Effects and questions to the model are counted in a file that the children write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, at_most_one_effect, look

POINTS = ["model 0", "model.replied", "before intent", "call.claimed", "effect", "call.committed", "model 2", "step.committed"]
FACES = ["sync", "async", "stream"]


children = Children(Path(__file__).parent / "oai_child.py")
process, killed, result = children.process, children.killed, children.result


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize("face", FACES)
def test_as_03_at_most_one_effect_at_every_kill_point(tmp_path: Path, face: str, effect: str, point: str) -> None:
    """Killed at any point and run again under its name, the agent charges at most once, and the model is asked nothing again."""
    told = {"face": face, "effect": effect}
    at_most_one_effect(children, tmp_path, point, **told)


@pytest.mark.parametrize("shape", ["loop", "delegated", "handed_off"])
@pytest.mark.parametrize("face", FACES)
def test_as_03_negative_control_a_bare_agent_charges_twice(tmp_path: Path, face: str, shape: str) -> None:
    """The same agents without surefoot charge twice: the matrix can fail."""
    killed(tmp_path, face=face, shape=shape, kill="effect", bare=True)
    result(tmp_path, face=face, shape=shape, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("point", ["call.committed", "model 2"])
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
def test_as_03_a_session_is_a_thread(tmp_path: Path, effect: str, point: str) -> None:
    """Killed and run again with the same session and no name, the agent charges once."""
    killed(tmp_path, session=True, effect=effect, kill=point)
    assert result(tmp_path, session=True, effect=effect) == "done: 7 costs 5, charged 5"
    assert Effects(tmp_path / "effects").count("charge") == 1
    assert Effects(tmp_path / "effects").count("model") == 3 + (point == "model 2")


@pytest.mark.parametrize("point", ["call.committed", "effect", "model 2"])
@pytest.mark.parametrize("face", FACES)
def test_as_94_an_agent_as_tool_is_entered_again(tmp_path: Path, face: str, point: str) -> None:
    """Killed inside an agent that is a tool, the outer agent is not held: the inner one is entered again and its calls replay."""
    killed(tmp_path, face=face, shape="delegated", kill=point)
    again = result(tmp_path, face=face, shape="delegated")
    effects = Effects(tmp_path / "effects")
    assert effects.count("charge") == 1
    if point == "effect":
        assert "Outcome unknown" in again
    else:
        assert again == "boss: done: 7 costs 5, charged 5"
    assert effects.count("model", "boss") == 2
    assert effects.count("model", "cashier") == 3 + (point == "model 2")
    (outer,) = [row for row in look(tmp_path).calls.list() if row.tool == "cashier"]
    assert (outer.effect, outer.state) == ("composite", "committed")


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("point", ["call.committed", "model 1"])
def test_as_94_as_97_a_hand_off_is_one_run(tmp_path: Path, face: str, point: str) -> None:
    """Killed after a hand-off, the second agent's charge is not repeated, and neither model is asked again."""
    killed(tmp_path, face=face, shape="handed_off", kill=point)
    assert result(tmp_path, face=face, shape="handed_off") == "done: charged 5"
    effects = Effects(tmp_path / "effects")
    assert (effects.count("charge"), effects.count("model", "triage")) == (1, 1)


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


@pytest.mark.parametrize("point", ["call.committed", "model 2"])
def test_as_38_one_approval_is_one_execution_over_three_hosts(tmp_path: Path, point: str) -> None:
    """AS-38: a host dies while an approval is pending, another one after the charge; a third one resumes: one charge, no question twice."""
    told = {"shape": "approved"}
    killed(tmp_path, kill="pending", **told)
    effects = Effects(tmp_path / "effects")
    assert (effects.count("charge"), effects.count("model")) == (0, 2)
    killed(tmp_path, approve=True, kill=point, **told)
    assert result(tmp_path, approve=True, **told) == "done: 7 costs 5, charged 5"
    assert (effects.count("charge"), effects.count("look_up")) == (1, 1)
    assert effects.count("model") == 3 + (point == "model 2")


def test_as_38_negative_control_bare_it_charges_twice(tmp_path: Path) -> None:
    """The same without surefoot charges once for each host."""
    killed(tmp_path, shape="approved", kill="pending", bare=True)
    killed(tmp_path, shape="approved", approve=True, kill="effect", bare=True)
    result(tmp_path, shape="approved", approve=True, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2
