"""Agents and teams killed by SIGKILL and run again. Effects and questions to the model are counted in a file that the children write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_support import FACES
from crash import Children, Effects, at_most_one_effect, look

POINTS = ["model 0", "model.replied", "before intent", "call.claimed", "effect", "call.committed", "model 2", "step.committed"]
TEAMS = ["round_robin", "selector", "swarm", "with_runtime"]
"""Teams of a clerk, who says something else each time, and a cashier, who charges; the last one runs in a runtime of the caller's."""

NESTED = pytest.param(
    "team_of_teams", marks=pytest.mark.skipif(not hasattr(RoundRobinGroupChat, "name"), reason="teams are in teams since AutoGen 0.7")
)

children = Children(Path(__file__).parent / "autogen_child.py")
process, killed, result = children.process, children.killed, children.result


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize("face", ["run", *(pytest.param(face, marks=pytest.mark.sweep) for face in FACES if face != "run")])
def test_as03_at_most_one_effect_at_every_kill_point(tmp_path: Path, face: str, effect: str, point: str) -> None:
    """Killed at any point and run again under its name, the agent charges at most once, and the model is asked nothing again."""
    told = {"face": face, "effect": effect}
    at_most_one_effect(children, tmp_path, point, **told)


@pytest.mark.parametrize("face", ["run", "stream"])
def test_as03_negative_control_a_bare_agent_charges_twice(tmp_path: Path, face: str) -> None:
    """The same agent without surefoot charges twice: the matrix can fail."""
    killed(tmp_path, face=face, kill="effect", bare=True)
    result(tmp_path, face=face, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("point", ["call.committed", "effect", "model 2"])
@pytest.mark.parametrize("shape", [*TEAMS, NESTED])
def test_as03_a_team_is_resumed_where_it_was(tmp_path: Path, shape: str, point: str) -> None:
    """Killed in the second turn, a team run again asks nobody again who has answered, its selector included, and charges once."""
    killed(tmp_path, shape=shape, kill=point)
    again = result(tmp_path, shape=shape)
    effects = Effects(tmp_path / "effects")
    assert effects.count("charge") == 1
    assert "Outcome unknown" in again if point == "effect" else again == "done: 7 costs 5, charged 5"
    assert effects.count("model", "clerk") == 1
    assert effects.count("model", "selector") == (shape == "selector")
    assert effects.count("model", "cashier") == 3 + (point == "model 2")
    assert [run.status for run in look(tmp_path).runs.list()] == ["completed"]


@pytest.mark.parametrize("shape", ["round_robin", "with_runtime"])
def test_as03_negative_control_a_bare_team_charges_twice(tmp_path: Path, shape: str) -> None:
    """The same teams without surefoot charge twice."""
    killed(tmp_path, shape=shape, kill="effect", bare=True)
    result(tmp_path, shape=shape, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("shape", ["agent", "round_robin", "swarm", NESTED, "agent_tool", "team_tool", "with_runtime"])
def test_as91_a_held_run_says_so_from_wherever_it_is_held(tmp_path: Path, shape: str) -> None:
    """AS-91: a declared unsafe call in doubt is InDoubt for the caller: no workbench, tool or team makes words or another error of it."""
    killed(tmp_path, shape=shape, kill="effect", effect="unsafe")
    again = process(tmp_path, shape=shape, effect="unsafe")
    assert again.returncode == 1
    assert again.stderr.strip().splitlines()[-1].startswith("surefoot.errors.InDoubt")
    assert Effects(tmp_path / "effects").count("charge") == 1


@pytest.mark.parametrize("point", ["call.committed", "effect", "model 2"])
@pytest.mark.parametrize("face", ["run", "stream"])
@pytest.mark.parametrize("shape", ["agent_tool", "team_tool"])
def test_as94_an_agent_or_a_team_inside_a_tool_is_entered_again(tmp_path: Path, shape: str, face: str, point: str) -> None:
    """AS-94: killed inside an AgentTool or a TeamTool, the outer one is not held: the inner one is entered again and its calls replay."""
    killed(tmp_path, face=face, shape=shape, kill=point)
    again = result(tmp_path, face=face, shape=shape)
    effects = Effects(tmp_path / "effects")
    assert effects.count("charge") == 1
    assert ("Outcome unknown" if point == "effect" else "boss: done: 7 costs 5, charged 5") in again
    assert effects.count("model", "boss") == 2
    assert effects.count("model", "cashier") == 3 + (point == "model 2")
    (outer,) = [row for row in look(tmp_path).calls.list() if row.tool == "cashier"]
    assert (outer.effect, outer.state) == ("composite", "committed")


@pytest.mark.parametrize(("how", "count"), [({"committed": "charged 5"}, 1), ({"failed": True}, 2)])
def test_as03_settled_by_hand_the_run_completes(tmp_path: Path, how: dict[str, Any], count: int) -> None:
    """Killed after the effect and settled, the run goes on: with the given result, or running the body again."""
    killed(tmp_path, kill="effect", effect="unsafe")
    assert process(tmp_path, effect="unsafe").returncode == 1
    guard = look(tmp_path)
    (doubt,) = guard.calls.list(state="in_doubt")
    guard.calls.settle(doubt.call_id, by="operator", **how)
    assert result(tmp_path, effect="unsafe") == "done: 7 costs 5, charged 5"
    assert Effects(tmp_path / "effects").count("charge") == count
    assert [run.status for run in guard.runs.list()] == ["completed"]
