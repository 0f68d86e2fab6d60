"""Agents killed by SIGKILL and run again. Effects and questions to the model are counted in a file that the children write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, at_most_one_effect, look
from maf_support import FACES

POINTS = ["model 0", "model.replied", "before intent", "call.claimed", "effect", "call.committed", "model 2", "step.committed"]
ANSWER = "done: 7 costs 5, charged 5"

children = Children(Path(__file__).parent / "maf_child.py")
process, killed, result = children.process, children.killed, children.result


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize("face", ["run", *(pytest.param(face, marks=pytest.mark.sweep) for face in FACES if face != "run")])
def test_as_03_at_most_one_effect_at_every_kill_point(tmp_path: Path, face: str, effect: str, point: str) -> None:
    """Killed at any point and run again under its name, the agent charges at most once, and the model is asked nothing again."""
    at_most_one_effect(children, tmp_path, point, face=face, effect=effect)


@pytest.mark.parametrize("face", ["run", "stream"])
def test_as_03_negative_control_a_bare_agent_charges_twice(tmp_path: Path, face: str) -> None:
    """The same agent without surefoot charges twice: the matrix can fail."""
    killed(tmp_path, face=face, kill="effect", bare=True)
    result(tmp_path, face=face, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


def test_a_run_killed_in_one_face_goes_on_in_the_other(tmp_path: Path) -> None:
    """What was recorded of a stream is given where it is not streamed, and the other way round."""
    killed(tmp_path, face="stream", kill="call.committed")
    killed(tmp_path, face="run", kill="model 2")
    assert result(tmp_path, face="stream") == ANSWER
    effects = Effects(tmp_path / "effects")
    assert (effects.count("charge"), effects.count("model")) == (1, 4)


@pytest.mark.parametrize("point", ["call.committed", "effect", "model 2"])
@pytest.mark.parametrize("face", ["run", "stream"])
def test_as_94_an_agent_as_a_tool_is_entered_again(tmp_path: Path, face: str, point: str) -> None:
    """Killed inside an agent that is a tool, the outer one is not held: the inner one is entered again and its calls replay."""
    killed(tmp_path, face=face, shape="delegated", kill=point)
    again = result(tmp_path, face=face, shape="delegated")
    effects = Effects(tmp_path / "effects")
    assert effects.count("charge") == 1
    assert ("Outcome unknown" if point == "effect" else f"boss: {ANSWER}") in again
    assert effects.count("model", "boss") == 2
    assert effects.count("model", "cashier") == 3 + (point == "model 2")
    (outer,) = [row for row in look(tmp_path).calls.list() if row.tool == "cashier"]
    assert (outer.effect, outer.state) == ("composite", "committed")


@pytest.mark.parametrize(("how", "count"), [({"committed": "charged 5"}, 1), ({"failed": True}, 2)])
def test_as_03_settled_by_hand_the_run_completes(tmp_path: Path, how: dict[str, Any], count: int) -> None:
    """Killed after the effect and settled, the run goes on: with the given result, or running the body again."""
    killed(tmp_path, kill="effect", effect="unsafe")
    assert process(tmp_path, effect="unsafe").returncode == 1
    guard = look(tmp_path)
    (doubt,) = guard.calls.list(state="in_doubt")
    guard.calls.settle(doubt.call_id, by="operator", **how)
    assert result(tmp_path, effect="unsafe") == ANSWER
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
    assert result(tmp_path, approve=True, **told) == ANSWER
    assert (effects.count("charge"), effects.count("look_up")) == (1, 1)
    assert effects.count("model") == 3 + (point == "model 2")


def test_as_38_negative_control_bare_it_charges_twice(tmp_path: Path) -> None:
    """The same without surefoot charges once for each host."""
    killed(tmp_path, shape="approved", kill="pending", bare=True)
    killed(tmp_path, shape="approved", approve=True, kill="effect", bare=True)
    result(tmp_path, shape="approved", approve=True, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("point", ["effect", "call.committed", "model 2"])
def test_r13_a_workflow_is_resumed_from_its_newest_checkpoint(tmp_path: Path, point: str) -> None:
    """R13: killed in the super-step of its second agent and resumed from the checkpoint before it, a workflow charges once."""
    killed(tmp_path, shape="workflow", kill=point)
    again = result(tmp_path, shape="workflow")
    assert ("Outcome unknown" if point == "effect" else ANSWER) in again
    assert Effects(tmp_path / "effects").count("charge") == 1


def test_r13_negative_control_a_bare_workflow_charges_twice(tmp_path: Path) -> None:
    """The same without surefoot charges twice."""
    killed(tmp_path, shape="workflow", kill="model 2", bare=True)
    result(tmp_path, shape="workflow", bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2
