"""What CrewAI itself can go on from: a process is killed by SIGKILL, and another one restores, loads or answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash import Children, Effects, look

SLOW = pytest.mark.sweep
RESTORED = ["object", *(pytest.param(how, marks=SLOW) for how in ("kickoff", "class"))]
FLOWS = ["flow checkpoint", "persisted", "streamed"]

children = Children(Path(__file__).parent / "durable_child.py")
process, killed, result = children.process, children.killed, children.result


@pytest.mark.parametrize("inputs", [pytest.param(True, marks=SLOW), False])
@pytest.mark.parametrize("point", ["call.committed", pytest.param("effect", marks=SLOW)])
@pytest.mark.parametrize("how", RESTORED)
def test_a_crew_restored_from_a_checkpoint_goes_on_with_its_run(tmp_path: Path, how: str, point: str, inputs: bool) -> None:  # noqa: FBT001 - pytest passes parameters by name
    """Killed in its second task and restored, with its inputs or without: no charge happens again, no answered question is asked again."""
    killed(tmp_path, form="checkpoint", kill=point, nth=2)
    effects = Effects(tmp_path / "effects")
    answered = effects.count("model")
    told = result(tmp_path, form="checkpoint", restore=how, inputs=inputs)
    assert told == "did 6"
    assert (effects.count("charge", 5), effects.count("charge", 6)) == (1, 1)
    assert effects.count("model") == 4
    assert answered == 3
    assert [run.status for run in look(tmp_path).runs.list()] == ["completed"]
    assert [call.state for call in look(tmp_path).calls.list(state="in_doubt")] == (["in_doubt"] if point == "effect" else [])


@pytest.mark.sweep
@pytest.mark.parametrize("how", RESTORED)
def test_negative_control_bare_a_restored_crew_charges_again(tmp_path: Path, how: str) -> None:
    """Without surefoot the unfinished task is worked on anew: it charges twice."""
    killed(tmp_path, form="checkpoint", kill="effect", nth=2, bare=True)
    result(tmp_path, form="checkpoint", restore=how, bare=True)
    assert Effects(tmp_path / "effects").count("charge", 6) == 2


@pytest.mark.parametrize("point", ["call.committed", pytest.param("step.committed", marks=SLOW)])
@pytest.mark.parametrize(
    ("form", "how"), [("flow checkpoint", "object"), ("flow checkpoint", "kickoff"), ("persisted", None), ("streamed", None)]
)
def test_a_flow_that_is_restored_or_kicked_off_again_repeats_nothing(tmp_path: Path, form: str, how: str | None, point: str) -> None:
    """Killed in its second method: methods that had ended are not run again, charges not repeated, and the state is what it would be."""
    killed(tmp_path, form=form, kill=point, nth=2)
    assert result(tmp_path, form=form, restore=how) == "charge 5 and charge 6"
    effects = Effects(tmp_path / "effects")
    assert (effects.count("charge", 5), effects.count("charge", 6), effects.count("first"), effects.count("last")) == (1, 1, 1, 1)
    assert effects.count("second") == 2 - (point == "step.committed")


@pytest.mark.parametrize("form", FLOWS)
def test_negative_control_bare_a_flow_charges_again(tmp_path: Path, form: str) -> None:
    """Without surefoot the charge that was made is made again."""
    killed(tmp_path, form=form, kill="effect", nth=2, bare=True)
    result(tmp_path, form=form, restore="object", bare=True)
    assert Effects(tmp_path / "effects").count("charge", 6) == 2


@pytest.mark.parametrize("form", FLOWS)
def test_a_flow_in_doubt_says_so(tmp_path: Path, form: str) -> None:
    """Killed in the charge itself, a flow has no model to tell: whoever goes on with it gets the doubt, and settled it completes."""
    killed(tmp_path, form=form, kill="effect", nth=2)
    again = process(tmp_path, form=form, restore="object")
    assert again.returncode == 1
    assert "InDoubt" in again.stderr
    guard = look(tmp_path)
    (doubt,) = guard.calls.list(state="in_doubt")
    guard.calls.settle(doubt.call_id, committed="charge 6", by="operator")
    assert result(tmp_path, form=form, restore="object") == "charge 5 and charge 6"
    assert Effects(tmp_path / "effects").count("charge") == 2


@pytest.mark.parametrize("name", [{}, {"unnamed": True}], ids=["named", "by its id"])
def test_as_38_one_answer_is_one_execution(tmp_path: Path, name: dict[str, Any]) -> None:
    """AS-38: a flow waits, its host dies, another one answers and dies after the charge; asked and answered again, it has charged once."""
    told = {"form": "feedback", **name}
    effects = Effects(tmp_path / "effects")
    killed(tmp_path, kill="pending", **told)
    assert [run.status for run in look(tmp_path).runs.list()] == ["suspended"]
    killed(tmp_path, answer="yes", kill="call.committed", **told)
    assert "No pending feedback" in process(tmp_path, answer="yes", **told).stderr  # CrewAI has taken the answer, and lost it
    assert result(tmp_path, **told) == "HumanFeedbackPending"
    assert result(tmp_path, answer="yes", **told) == "charge 6"
    assert [effects.count("charge", amount) for amount in (5, 6)] == [1, 1]
    assert (effects.count("first"), effects.count("asked")) == (1, 2)
    assert [run.status for run in look(tmp_path).runs.list()] == ["completed"]


def test_as_38_negative_control_bare_it_charges_twice(tmp_path: Path) -> None:
    """Without surefoot both are charged twice."""
    told = {"form": "feedback", "bare": True}
    result(tmp_path, **told)
    killed(tmp_path, answer="yes", kill="effect", **told)
    result(tmp_path, **told)
    result(tmp_path, answer="yes", **told)
    assert [Effects(tmp_path / "effects").count("charge", amount) for amount in (5, 6)] == [2, 2]
