"""The command ``surefoot bench``."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from surefoot_bench.adapters import adapters
from surefoot_bench.calls import call, concurrent
from surefoot_bench.decisions import policy
from surefoot_bench.graph import langgraph
from surefoot_bench.growth import growth, memory
from surefoot_bench.mcp import mcp
from surefoot_bench.peer import REQUIREMENT, installed, peer
from surefoot_bench.plan import Plan
from surefoot_bench.processes import import_, rss
from surefoot_bench.reliability_command import reliability
from surefoot_bench.results import Result, Skip, Skipped, Spread
from surefoot_bench.slow_disk import slow_disk
from surefoot_bench.stores import stores
from surefoot_cli.context import as_json, print_json, table

__all__ = ["BENCHMARKS", "Benchmark", "bench"]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One thing to measure."""

    run: Callable[[Plan], Iterable[Result]]
    series: int = 1
    """How often it goes through the rounds."""


BENCHMARKS: Final = {
    "call": Benchmark(call),
    "concurrent": Benchmark(concurrent),
    "slow-disk": Benchmark(slow_disk),
    "stores": Benchmark(stores, series=2),
    "memory": Benchmark(memory, series=2),
    "growth": Benchmark(growth, series=2),
    "policy": Benchmark(policy),
    "langgraph": Benchmark(langgraph),
    "adapters": Benchmark(adapters, series=2),
    "mcp": Benchmark(mcp, series=6),
    "import": Benchmark(import_),
    "rss": Benchmark(rss),
    "peer": Benchmark(peer),
}
_LABEL: Final = max(map(len, BENCHMARKS))


def _peer(_context: click.Context, _parameter: click.Parameter, interpreter: Path | None) -> Path | None:
    if interpreter is not None and not installed(interpreter):
        raise click.BadParameter(f"{interpreter} does not have {REQUIREMENT}; run '{interpreter} -m pip install {REQUIREMENT}'")
    return interpreter


class _WithReliability(click.Command):
    """``bench``, of which ``bench reliability`` is a command of its own: it measures something else and has other options."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """Return the context of what the first argument names."""
        if args[:1] == [reliability.name]:
            return reliability.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the context is of."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)


@click.command(cls=_WithReliability, epilog="'surefoot bench reliability --help': how reliable steps are that are verified.")
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--rounds", default=25, type=click.IntRange(1), show_default=True, help="How often every side is measured.")
@click.option("--calls", default=200, type=click.IntRange(1), show_default=True, help="Calls a round; everything scales with it.")
@click.option("--full", is_flag=True, help="Grow ten times as far, to 100,000 calls and 10,000 runs.")
@click.option(
    "--fsync-delay-ms", default=1.0, type=click.FloatRange(0), show_default=True, help="How much slower the slow disk is; 0 leaves it out."
)
@click.option(
    "--peer",
    "interpreter",
    metavar="PYTHON",
    type=click.Path(exists=True, dir_okay=False, executable=True, path_type=Path),
    callback=_peer,
    help="Interpreter of an environment with AgentLedger.",
)
@click.option(
    "--postgres",
    metavar="URL",
    envvar="SUREFOOT_TEST_POSTGRES",
    help="A PostgreSQL database to measure too; default: SUREFOOT_TEST_POSTGRES. A schema is made in it and dropped.",
)
@click.option(
    "--dir",
    "folder",
    default=".",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    help="A folder on the disk to measure; default: the current one. Nothing is left there.",
)
@as_json
def bench(
    names: tuple[str, ...],
    rounds: int,
    calls: int,
    full: bool,
    fsync_delay_ms: float,
    interpreter: Path | None,
    postgres: str | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Measure what surefoot costs, as ratios to what the machine allows, in the same run.

    NAMES are the benchmarks to run; default: all.
    """
    chosen = {name: benchmark for name, benchmark in BENCHMARKS.items() if name in names or not names}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".surefoot-bench-") as empty:
        plan = Plan(rounds, calls, Path(empty).absolute(), lambda: None, full, fsync_delay_ms, interpreter, postgres)
        found = list(_with_progress(chosen, plan))
    if as_json:
        results = [one.as_json() for one in found if isinstance(one, Result)]
        skipped = [one.as_json() for one in found if isinstance(one, Skipped)]
        print_json(machine=_machine(), rounds=rounds, calls=calls, full=full, results=results, skipped=skipped)
    else:
        _tell(found)


def _with_progress(chosen: dict[str, Benchmark], plan: Plan) -> Iterator[Result | Skipped]:
    """Run benchmarks, each in a folder of its own, under a progress bar on standard error."""
    total = plan.rounds * sum(benchmark.series for benchmark in chosen.values())
    with click.progressbar(length=total, file=sys.stderr) as bar:
        for name, benchmark in chosen.items():
            ahead = bar.pos + plan.rounds * benchmark.series
            bar.label = name.ljust(_LABEL)
            bar.render_progress()
            own = plan.folder / name
            own.mkdir()
            try:
                yield from benchmark.run(replace(plan, folder=own, tick=lambda: bar.update(1)))
            except Skip as exc:
                yield Skipped(name, str(exc))
            bar.update(ahead - bar.pos)


def _tell(found: list[Result | Skipped]) -> None:
    columns = ("name", "measured", "anchor", "ratio", "spread", "target", "met", "against")
    table(columns, [_line(one) for one in found if isinstance(one, Result)])
    for one in found:
        if isinstance(one, Skipped):
            click.echo(f"{one.name}: skipped, {one.reason}")
    click.echo("\n" + "  ".join(f"{key} {value}" for key, value in _machine().items()))


def _line(result: Result) -> dict[str, Any]:
    ratio, met = result.ratio, {True: "yes", False: "NO", None: "-"}[result.met]
    bounds = [f"{'ratio' if t.of == 'ratio' else result.unit} {t.sign} {t.bound:g}" for t in result.targets]
    return {
        "name": result.name,
        "measured": _figure(result.measured, result.unit),
        "anchor": _figure(result.anchor, result.unit),
        "ratio": f"{ratio.median:.2f}",
        "spread": f"{ratio.low:.2f}-{ratio.high:.2f}",
        "target": ", ".join(bounds) or "-",
        "met": met,
        "against": result.against,
    }


def _figure(spread: Spread, unit: str) -> str:
    return f"{spread.median:,.{0 if spread.median >= 1000 else 1}f} {unit}"  # noqa: PLR2004 - four digits say enough


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
