"""``surefoot bench reliability``: AgentRaft's figures cell for cell, and a simulation that can be trusted beyond them."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from provider import GOOD, provider

from surefoot import UsageError
from surefoot_bench.cli import bench
from surefoot_bench.faults import Cell, Faults
from surefoot_bench.killed import killings
from surefoot_bench.live import LABELLED
from surefoot_bench.reliability import PARITY, baseline, guarded, parity, wilson
from surefoot_bench.reliability_command import plot

PUBLISHED = [
    (0.767, 0.969, 0.031, 0.0),
    (0.360, 0.894, 0.106, 0.0),
    (0.131, 0.811, 0.189, 0.0),
    (0.580, 0.944, 0.056, 0.0),
    (0.220, 0.840, 0.160, 0.0),
    (0.220, 0.462, 0.538, 0.0),
    (0.220, 0.624, 0.376, 0.0),
    (0.220, 0.980, 0.020, 0.0),
]
"""AgentRaft's own 1,000-trial run with seed 1234: baseline, success, silent corruption, caught failure; a row for each of PARITY."""


def closed_form(cell: Cell) -> tuple[float, float]:
    """Return the probabilities of success and of silent corruption, computed, not simulated."""
    good = bad = 0.0
    reach = 1.0
    for attempt in range(cell.max_attempts):
        fails = cell.p_fail * cell.improvement**attempt
        good += reach * (1 - fails) * (1 - cell.fpr)
        bad += reach * fails * (1 - cell.recall)
        reach *= fails * cell.recall + (1 - fails) * cell.fpr
    return good**cell.n_steps, (good + bad) ** cell.n_steps - good**cell.n_steps


def run(*arguments: str) -> dict[str, Any]:
    """Run the command and return its JSON, which has no number that JSON does not have."""
    done = CliRunner().invoke(bench, ["reliability", "--json", *arguments])
    assert done.exit_code == 0, done.output

    def never(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    report: dict[str, Any] = json.loads(done.stdout, parse_constant=never)
    return report


@pytest.mark.sweep
@pytest.mark.parametrize("number", range(len(PARITY)))
def test_parity_with_the_published_figures(number: int) -> None:
    """1,000 trials of each workload through the real guard give AgentRaft's figures, each to its last digit."""
    row = parity(PARITY[number], 1000, 1234)
    assert (row["baseline_success"], row["success"], row["silent_corruption"], row["caught_failure"]) == PUBLISHED[number]


def test_the_real_guard_draws_what_a_bare_loop_draws() -> None:
    """The same trials in ten lines without surefoot: every outcome and the number of generations agree, and a changed seed differs."""
    cell = Cell(10, 0.3, recall=0.7)

    def bare(seed: int) -> tuple[str, int]:
        faults, corrupt, generations = Faults(cell, seed, "shared"), False, 0
        for step in range(cell.n_steps):
            for attempt in range(cell.max_attempts):
                fault = faults.fault(step, attempt)
                generations += 1
                if faults.rejection(step, attempt, fault) is None:
                    corrupt |= fault is not None
                    break
            else:
                return "caught_failure", generations
        return "silent_corruption" if corrupt else "success", generations

    for seed in range(40):
        tally = guarded(cell, 1, seed, "shared")
        assert ([*tally.outcomes], tally.generations) == ([bare(seed)[0]], bare(seed)[1])
    assert len({bare(seed) for seed in range(40)}) > 5


def test_independent_streams_agree_with_the_closed_form() -> None:
    """Without shared streams the success rate lies where it is computed to be (five standard deviations of 200 trials)."""
    cell = Cell(10, 0.3, recall=0.8)
    success, silent = closed_form(cell)
    tally = guarded(cell, 200, 7, "independent")
    for outcome, expected in (("success", success), ("silent_corruption", silent)):
        assert abs(tally.rate(outcome) - expected) < 5 * math.sqrt(expected * (1 - expected) / 200)  # type: ignore[arg-type]


def test_a_retry_changes_no_other_draw() -> None:
    """Independent streams: first attempts are the same whatever was tried before; shared ones are not (what the method gets wrong)."""
    cell = Cell(5, 0.5)

    def first(streams: Any, retries: int) -> list[str | None]:
        faults = Faults(cell, 3, streams)
        for attempt in range(retries):
            faults.fault(0, attempt)
        return [faults.fault(step, 0) for step in range(1, 30)]

    assert first("independent", 0) == first("independent", 5)
    assert first("shared", 0) != first("shared", 5)


def test_what_the_published_method_leaves_out() -> None:
    """Correlated misses change the rates; what raised is resumed and nothing happens twice; an absent judge costs no attempt."""
    plain = Cell(10, 0.5, improvement=1.0)
    correlated = guarded(Cell(10, 0.5, improvement=1.0, repeats=1.0), 60, 5, "independent")
    assert correlated.rate("silent_corruption") != guarded(plain, 60, 5, "independent").rate("silent_corruption")
    breaking = guarded(Cell(5, 0.1, breaks=0.3), 40, 5, "independent")
    assert breaking.resumes > 0
    assert (breaking.effects, breaking.duplicates) == (200, 0)
    away = guarded(Cell(5, 0.1, away=0.2), 40, 5, "independent")
    assert away.generations == guarded(Cell(5, 0.1), 40, 5, "independent").generations


def test_an_answer_that_comes_too_late_repeats_no_effect() -> None:
    """A tool that did it and timed out is in doubt: its probe settles that, the run is resumed, and nothing happens twice."""
    late = guarded(Cell(5, 0.1, late=0.3), 40, 5, "independent")
    assert late.resumes > 20
    assert (late.effects, late.duplicates) == (200, 0)
    assert late.outcomes == guarded(Cell(5, 0.1), 40, 5, "independent").outcomes


def test_a_killed_process_repeats_no_effect_and_the_baseline_does() -> None:
    """Real processes are killed between an effect and its record: with surefoot each effect happens once, begun anew they happen again."""
    ours, anew = killings(2, 7, lambda: None)
    assert (ours["killed"], ours["ended"], ours["effects"], ours["duplicate_effects"]) == (2, 2, 10, 0)
    assert (anew["killed"], anew["ended"]) == (2, 2)
    assert anew["duplicate_effects"] >= 2


def test_live_prints_a_confusion_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that finds half of the faults, rejects one good output and once fails: each is counted where it belongs."""
    bad = [output for _, _, output, fault in LABELLED if fault is not None]
    rejected = {output: fault for _, _, output, fault in LABELLED if fault is not None and output in bad[:5]}
    rejected[LABELLED[0][2]] = "GOAL_DRIFT"
    with provider() as fake:
        known = fake.reply

        def reply(path: str) -> dict[str, Any]:
            asked = json.dumps(fake.requests[-1][1])
            found = next((fault for output, fault in rejected.items() if json.dumps(json.dumps(output)[1:-1])[1:-1] in asked), None)
            fake.text = GOOD if found is None else json.dumps({"verdict": "FAIL", "error_class": found, "hint": "No.", "confidence": 0.9})
            return known(path) if len(fake.requests) != 3 else {}

        monkeypatch.setattr(fake, "reply", reply)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("SUREFOOT_VERIFIER_BASE_URL", f"{fake.url}/v1")
        live = run("--live", "openai/judge-1")["live"]
        told = CliRunner().invoke(bench, ["reliability", "--live", "openai/judge-1"]).stdout
    assert live["table"] == {"good": {"PASS": 8, "FAIL": 1, "UNVERIFIED": 1}, "bad": {"PASS": 5, "FAIL": 5, "UNVERIFIED": 0}}
    assert (live["recall"]["rate"], live["recall"]["of"], live["false_alarms"]["of"]) == (0.5, 10, 9)
    assert live["right_class"]["rate"] == 1.0
    assert [line.split()[:1] for line in told.splitlines() if line.startswith(("good", "bad"))] == [["good"], ["bad"]]


def test_live_without_a_key_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands in for a provider that is not there."""
    for name in ("OPENAI_API_KEY", "SUREFOOT_VERIFIER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(bench, ["reliability", "--live", "openai/judge-1"])
    assert isinstance(done.exception, UsageError)


def test_baselines_are_what_they_say() -> None:
    """Verified once, the bad ones are caught or slip through; run anew, more succeed at more cost; unprotected, none is caught."""
    cell = Cell(10, 0.1)
    bare, once, anew = (
        baseline(kind, cell, 300, 9, "independent") for kind in ("unprotected", "verified once at the end", "run anew as a whole")
    )
    assert bare.outcomes["caught_failure"] == 0
    assert once.outcomes["caught_failure"] > once.outcomes["silent_corruption"] > 0
    assert anew.rate("success") > once.rate("success")
    assert (bare.generations, once.generations) == (3000, 3000)
    assert anew.generations > 3000


def test_wilson_intervals() -> None:
    """The interval of 894 of 1,000 is 87.3 to 91.2 %; none leaves 0 to 1."""
    assert [round(bound, 3) for bound in wilson(894, 1000)] == [0.873, 0.912]
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0


def test_the_command_prints_json_and_draws_a_plot(tmp_path: Path) -> None:
    """Parity has eight rows of the agreed fields; nothing is infinite, not even the cost of no success; the plot is an SVG."""
    picture = tmp_path / "plot.svg"
    report = run("--trials", "2", "--kills", "1", "--plot", str(picture))
    fields = ["n_steps", "p_fail", "recall", "baseline_success", "success", "silent_corruption", "caught_failure", "generations"]
    assert [[*row] for row in report["parity"]] == [fields] * 8
    assert [(row["n_steps"], row["p_fail"], row["recall"]) for row in report["parity"]] == [(c.n_steps, c.p_fail, c.recall) for c in PARITY]
    assert [(row["side"], row["duplicate_effects"] > 0) for row in report["killed"]] == [("surefoot", False), ("run anew as a whole", True)]
    assert any(row["cost_per_success"] is None for row in report["lengths"])
    drawn = ET.fromstring(picture.read_text(encoding="utf-8"))  # noqa: S314 - written a line above
    assert len(drawn.findall("{http://www.w3.org/2000/svg}polyline")) == 4


def test_the_table_and_the_other_benchmarks_are_there() -> None:
    """Without ``--json`` a table is printed; ``bench --help`` names the command; a misspelt name is a usage error."""
    done = CliRunner().invoke(bench, ["reliability", "--trials", "1", "--kills", "0"])
    assert done.exit_code == 0, done.output
    assert "independent streams" in done.stdout
    assert "bench reliability" in CliRunner().invoke(bench, ["--help"]).stdout
    assert CliRunner().invoke(bench, ["reliable"]).exit_code == 2


def test_plot_of_one_length() -> None:
    """A plot of few lengths has its axis to the longest of them."""
    row = {"n_steps": 5, "success": 0.5, "intervals": {"success": [0.4, 0.6]}}
    assert ">5</text>" in plot([{**row, "side": "surefoot"}])
