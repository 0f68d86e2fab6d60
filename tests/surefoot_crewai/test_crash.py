"""Crews, agents and flows killed by SIGKILL and run again under their name. Effects are counted in a file that the tools write."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash import Children, Effects, look, printed

POINTS = ["before intent", "call.claimed", "effect", "call.committed", "step.committed"]
SLOW = pytest.mark.sweep
FORMS = ["kickoff", *(pytest.param(form, marks=SLOW) for form in ("akickoff", "stream", "agent", "flow"))]


children = Children(Path(__file__).parent / "crew_child.py")
process, killed, result = children.process, children.killed, children.result


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("effect", ["unclassified", "unsafe"])
@pytest.mark.parametrize("point", POINTS)
def test_as_03_at_most_one_effect_at_every_kill_point(tmp_path: Path, point: str, effect: str, form: str) -> None:
    """Killed at any point and kicked off again, the charge happened at most once: once, or somebody is told of the doubt."""
    told = {"form": form, "effect": effect}
    killed(tmp_path, kill=point, **told)
    again = process(tmp_path, **told)
    count = Effects(tmp_path / "effects").count("charge")
    in_doubt = [call for call in look(tmp_path).calls.list() if call.state == "in_doubt"]
    if point in {"call.claimed", "effect"}:
        assert count == (point == "effect")
        assert len(in_doubt) == 1
        assert again.returncode == (effect == "unsafe"), again.stderr[-2000:]
        assert ("InDoubt" in again.stderr) == (effect == "unsafe")
        assert effect == "unsafe" or "Outcome unknown" in printed(again)["seen"][0]
    else:
        assert printed(again)["raw"] == "done"
        assert (count, in_doubt) == (1, [])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("point", ["model.replied", "effect", "call.committed"])
def test_a_resumed_run_asks_the_model_nothing_that_it_had_answered(tmp_path: Path, point: str, form: str) -> None:
    """Killed after the model asked for the charge and kicked off again, it is asked for its second reply only."""
    killed(tmp_path, kill=point, form=form)
    effects = Effects(tmp_path / "effects")
    assert effects.count("model") == 1
    result(tmp_path, form=form)
    assert effects.count("model") == 2
    assert effects.count("charge") == 1


@pytest.mark.parametrize("form", FORMS)
def test_as_03_negative_control_bare_crewai_charges_twice(tmp_path: Path, form: str) -> None:
    """The same without surefoot charges twice: the matrix can fail."""
    killed(tmp_path, kill="effect", form=form, bare=True)
    result(tmp_path, form=form, bare=True)
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("form", ["kickoff", "akickoff"])
def test_as_04_a_model_that_fails_after_the_tool_costs_no_second_effect(tmp_path: Path, form: str) -> None:
    """AS-04: the model fails after the charge, the process ends, and the caller tries again in another one: one charge."""
    failed = process(tmp_path, form=form, model_fails=True)
    assert failed.returncode == 1
    assert "model is down" in failed.stderr
    assert result(tmp_path, form=form)["seen"] == ["charge 5"]
    assert Effects(tmp_path / "effects").count("charge") == 1


@pytest.mark.parametrize("form", FORMS)
def test_as_04_negative_control_bare_crewai_charges_again(tmp_path: Path, form: str) -> None:
    """Without surefoot the caller's retry charges again."""
    assert process(tmp_path, form=form, model_fails=True, bare=True).returncode == 1
    result(tmp_path, form=form, bare=True)
    assert Effects(tmp_path / "effects").count("charge") >= 2


@pytest.mark.parametrize("form", ["kickoff", "akickoff"])
def test_a_finished_task_is_not_worked_on_again(tmp_path: Path, form: str) -> None:
    """Of two tasks the second is killed: resumed, the first one's model is asked nothing, and its output reaches the second."""
    killed(tmp_path, kill="effect", nth=2, form=form, tasks=2)
    effects = Effects(tmp_path / "effects")
    asked = effects.count("model", "clerk 0")
    assert "charge 5" in result(tmp_path, form=form, tasks=2)["context"]
    assert effects.count("model", "clerk 0") == asked
    assert effects.count("charge") == 2


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("form", ["delegation", "crew in a tool", "crew in a flow"])
def test_as_94_an_agent_inside_is_entered_again(tmp_path: Path, form: str, nth: int) -> None:
    """AS-94: killed inside an agent that another one runs, its calls replay and it is entered again, not held."""
    killed(tmp_path, kill="call.committed", nth=nth, form=form, effect="unsafe")
    assert result(tmp_path, form=form, effect="unsafe")["raw"] == "done"
    assert Effects(tmp_path / "effects").count("charge") == 2
    calls = {(call.tool, str(call.effect), str(call.state)) for call in look(tmp_path).calls.list()}
    assert {state for _, _, state in calls} == {"committed"}
    assert {effect for tool, effect, _ in calls if tool != "charge"} <= {"composite"}


def test_a_kickoff_for_each_is_one_run(tmp_path: Path) -> None:
    """Killed in the second of three inputs and run again under the same name, each input charges once."""
    killed(tmp_path, kill="effect", nth=2, form="each")
    assert len(result(tmp_path, form="each")["raw"]) == 3
    assert Effects(tmp_path / "effects").count("charge") == 3


def test_a_flows_state_is_as_its_methods_left_it(tmp_path: Path) -> None:
    """A method that has ended does not run again: the next one finds the state that it left."""
    killed(tmp_path, kill="call.committed", nth=2, form="state")
    assert result(tmp_path, form="state")["raw"] == "from charge 1 noted twice"
    effects = Effects(tmp_path / "effects")
    assert (effects.count("begin"), effects.count("charge", 1), effects.count("charge", 2)) == (1, 1, 1)
