"""Poison: a run that kills its process again and again is set aside, listed, and let go by a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from crash import Children, Effects, died, look, printed, store_of
from zygote import Done

from surefoot import NotFound
from surefoot_cli.main import cli
from surefoot_recovery import quarantined, released, surefoot_cli

Bank = Callable[..., Done]


@pytest.fixture
def process(tmp_path: Path, children: Children) -> Bank:
    """Transfer money in a process of its own, which may die; the third crash is one too many."""
    return lambda **told: children.process(tmp_path, **{"do": "run", "limit": "3", **told})


@pytest.fixture
def run(tmp_path: Path, process: Bank) -> str:
    """A run that has killed three processes before its first step ended, and would kill the next one."""
    for _ in range(3):
        died(process(kill="before credit"))
    return str(look(tmp_path).runs.list()[0].run_id)


def test_a_run_that_crashed_three_processes_is_set_aside_and_can_be_released(tmp_path: Path, process: Bank, run: str) -> None:
    """The fourth process is told so and lives; the run is listed with the reason; released, it goes on where it was."""
    refused = process(kill="before credit")
    assert (refused.returncode, "RunStopped" in refused.stderr, "died 3 times" in refused.stderr) == (1, True, True)
    (aside,) = quarantined(look(tmp_path))
    assert (aside.run_id, "died 3 times" in aside.reason) == (run, True)
    released(look(tmp_path), run, by="maria")
    assert quarantined(look(tmp_path)) == []
    assert printed(process()) == ["credit 10", "withdraw 10"]
    assert [effect[0] for effect in Effects(tmp_path / "effects").all()] == ["credit", "notify", "withdraw"]


def test_released_it_is_set_aside_again_only_after_as_many_crashes(tmp_path: Path, process: Bank, run: str) -> None:
    """Released, a run may crash as often as before until it is set aside again."""
    assert process().returncode == 1
    released(look(tmp_path), run, by="maria")
    for _ in range(3):
        died(process(kill="before credit"))
    assert "RunStopped" in process().stderr


def test_a_run_that_commits_steps_between_its_crashes_is_no_poison(tmp_path: Path, process: Bank) -> None:
    """Two crashes, a committed step, two crashes: the run goes on."""
    for point in ("before credit", "before credit", "before notify", "before notify"):
        died(process(kill=point))
    assert printed(process()) == ["credit 10", "withdraw 10"]


def test_an_error_is_no_crash(tmp_path: Path, process: Bank) -> None:
    """A run that raises, however often, is not set aside."""
    for _ in range(4):
        assert "withdraw is closed" in process(fails={"withdraw": 1}).stderr
    assert quarantined(look(tmp_path)) == []
    assert printed(process()) == ["credit 10", "withdraw 10"]


def test_zero_sets_nothing_aside(tmp_path: Path, process: Bank) -> None:
    """With a limit of 0 a run may crash as often as it likes."""
    for _ in range(4):
        died(process(limit="0", kill="before credit"))
    assert printed(process(limit="0")) == ["credit 10", "withdraw 10"]
    assert "no number of crashes" in process(limit="often").stderr


def test_the_commands(tmp_path: Path, process: Bank, run: str) -> None:
    """Runs that were set aside are listed and released; another run is not there to be released."""
    assert process().returncode == 1
    surefoot_cli(cli)
    asked = CliRunner().invoke(cli, ["--store", store_of(tmp_path), "runs", "quarantined", "--json"])
    assert [one["run_id"] for one in json.loads(asked.output)["runs"]] == [run]
    assert run in CliRunner().invoke(cli, ["--store", store_of(tmp_path), "runs", "quarantined"]).output
    assert CliRunner().invoke(cli, ["--store", store_of(tmp_path), "runs", "release", run, "--by", "maria"]).exit_code == 0
    assert CliRunner().invoke(cli, ["--store", store_of(tmp_path), "runs", "release", run]).exit_code == 3
    with pytest.raises(NotFound):
        released(look(tmp_path), run, by="maria")
