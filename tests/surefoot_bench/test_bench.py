"""``surefoot bench``: every benchmark runs, and prints figures of the right shape. No figure is judged here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from surefoot import SurefootError
from surefoot_bench import plan
from surefoot_bench.cli import BENCHMARKS, bench
from surefoot_bench.peer import REQUIREMENT
from surefoot_bench.results import Spread, Target, costs, extra, rates
from surefoot_bench.workers import Worker

ROOT = Path(__file__).parent.parent.parent
LINES = {
    "call": ["call"],
    "concurrent": ["concurrent", "concurrent/one"],
    "slow-disk": ["slow-disk"],
    "stores": ["stores/sqlite", "stores/sqlite/64", "stores/postgres", "stores/postgres/64"],
    "memory": ["memory/call", "memory/step", "memory/step"],
    "growth": ["growth/calls", "growth/runs"],
    "policy": ["policy"],
    "langgraph": ["langgraph"],
    "adapters": [
        f"adapters/{name}"
        for name in ("agent-framework-core", "openai-agents", "autogen-agentchat", "llama-index-core", "pydantic-ai-slim", "langchain")
    ],
    "mcp": [*["mcp/stdio"] * 7, *["mcp/http"] * 7],
    "import": ["import"],
    "rss": ["rss"],
}


def run(folder: Path, *arguments: str) -> Result:
    """Run the command, tiny, on a folder."""
    return CliRunner().invoke(bench, ["--calls", "20", "--rounds", "1", "--dir", str(folder), *arguments])


def measured(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the command and return its JSON."""
    done = run(folder, "--json", *arguments)
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("name", LINES)
def test_each_benchmark_measures_something(name: str, tmp_path: Path) -> None:
    """A benchmark prints its lines with positive figures, least <= median <= greatest, and leaves nothing behind."""
    report = measured(tmp_path, name)
    assert report["schema_version"] == 1
    without_server = name == "stores" and not os.environ.get("SUREFOOT_TEST_POSTGRES")
    assert [skipped["name"] for skipped in report["skipped"]] == (["stores"] if without_server else [])
    assert [re.split(r"[ ,]", result["name"])[0] for result in report["results"]] == LINES[name][: 2 if without_server else None]
    for result in report["results"]:
        for spread in (result["measured"], result["anchor"], result["ratio"]):
            assert spread["min"] <= spread["median"] <= spread["max"]
        assert result["anchor"]["min"] > 0
        if name not in {"langgraph", "adapters", "mcp"}:  # a difference, which noise makes negative in so few calls
            assert result["measured"]["min"] > 0
            assert result["ratio"]["min"] > 0
        assert (result["met"] is None) == (result["targets"] == [])
    assert list(tmp_path.iterdir()) == []


def test_every_benchmark_is_tested() -> None:
    """The benchmarks that run here are all but the peer's, which has an environment of its own."""
    assert {*LINES, "peer"} == set(BENCHMARKS)


def test_every_benchmark_is_documented() -> None:
    """The page on benchmarks names each."""
    page = (ROOT / "docs" / "how-to" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in BENCHMARKS if not re.search(rf"^\| `{name}[`/]", page, re.MULTILINE)] == []


def test_the_table_is_for_people(tmp_path: Path) -> None:
    """Without --json there is a line for each figure with its target, and one for what was skipped, with the reason."""
    done = run(tmp_path, "import", "slow-disk", "--fsync-delay-ms", "0")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["name", "measured", "anchor", "ratio", "spread", "target", "met", "against"]
    assert re.match(r"import  +[\d.]+ ms +[\d.]+ ms +[\d.]+ +[\d.]+-[\d.]+ +ms < 40 +(yes|NO) +import pluggy", lines[1])
    assert lines[2] == "slow-disk: skipped, left out, as --fsync-delay-ms 0 says"


def test_the_command_is_a_plugin(tmp_path: Path) -> None:
    """``surefoot bench`` is there where surefoot is installed."""
    command = [Path(sys.executable).parent / "surefoot", "bench", "import", "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [result["name"] for result in json.loads(done.stdout)["results"]] == ["import"]


def test_a_benchmark_that_is_none_is_refused(tmp_path: Path) -> None:
    """A name that is no benchmark is a usage error that lists the names."""
    done = run(tmp_path, "speed")
    assert done.exit_code == 2
    assert "concurrent" in done.stderr


def test_the_peer_needs_its_interpreter(tmp_path: Path) -> None:
    """Without --peer the peer is skipped with what to do; with an interpreter that does not have it, the command is refused."""
    assert "make bench" in measured(tmp_path, "peer")["skipped"][0]["skipped"]
    done = run(tmp_path, "peer", "--peer", sys.executable)
    assert done.exit_code == 2
    assert f"pip install {REQUIREMENT}" in " ".join(done.stderr.split())


def test_make_bench_installs_the_peer_that_is_measured() -> None:
    """The Makefile installs exactly the peer that the benchmark asks for."""
    assert f" {REQUIREMENT}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.sweep
@pytest.mark.timeout(300)
def test_the_peer_is_measured(tmp_path: Path) -> None:
    """In an environment with the peer, both sides have positive figures."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT], check=True)
    (result,) = measured(tmp_path, "peer", "--peer", str(python))["results"]
    assert result["measured"]["min"] > 0
    assert result["anchor"]["min"] > 0


def test_a_process_that_fails_is_one_sentence(tmp_path: Path) -> None:
    """When a worker ends, measuring its side raises what it said last."""
    program = "import sys; sys.exit('no such disk')"
    with Worker([sys.executable, "-c", program], folder=tmp_path) as worker, pytest.raises(SurefootError, match=r"failed: no such disk$"):
        worker.side("any")(1)


def test_without_a_compiler_the_slow_disk_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no gcc the reason is given, and nothing is measured in its place."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    report = measured(tmp_path, "slow-disk")
    assert report["results"] == []
    assert "install gcc" in report["skipped"][0]["skipped"]


def test_the_sides_take_turns(tmp_path: Path) -> None:
    """After a warm-up that does not count, each round measures every side once, in order."""
    seen: list[tuple[str, int]] = []
    ticks: list[int] = []

    def side(name: str, cost: float) -> plan.Side:
        def measure(number: int) -> float:
            seen.append((name, number))
            return cost

        return measure

    given = plan.Plan(rounds=2, calls=10, folder=tmp_path, tick=lambda: ticks.append(len(seen)))
    found = plan.interleaved(given, {"floor": (side("floor", 1.0), 20), "ours": (side("ours", 2.0), 10)})
    assert found == {"floor": [1.0, 1.0], "ours": [2.0, 2.0]}
    assert seen == [("floor", 2), ("ours", 1), ("floor", 20), ("ours", 10), ("floor", 20), ("ours", 10)]
    assert ticks == [4, 6]


def test_a_ratio_belongs_to_its_round() -> None:
    """The ratio's spread is that of the rounds' own ratios, not the ratio of two medians."""
    result = rates("r", [0.5, 0.1, 0.2], "floor", [0.25, 0.1, 0.4], Target("ratio", ">=", 1.0))
    assert result.measured == Spread(5.0, 2.0, 10.0)
    assert result.anchor == Spread(4.0, 2.5, 10.0)
    assert result.ratio == Spread(1.0, 0.5, 2.0)
    assert result.met is True


def test_a_target_bounds_the_median() -> None:
    """Every target has to be kept; one of them missed is missed, and without any there is nothing to meet."""
    assert costs("c", [2e-6], "floor", [1e-6], Target("measured", "<", 2)).met is False
    assert costs("c", [2e-6], "floor", [1e-6], Target("measured", "<", 3), Target("ratio", "<=", 2)).met is True
    assert costs("c", [2e-6], "floor", [1e-6], Target("measured", "<", 3), Target("ratio", "<=", 1.9)).met is False
    assert costs("c", [2e-6], "floor", [1e-6]).met is None
    assert extra("e", [3.0], "part", [2.0], unit="s", scale=1).ratio == Spread(0.5, 0.5, 0.5)
