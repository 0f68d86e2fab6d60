"""The command ``surefoot bench reliability``: a table, JSON, and a plot of reliability against length."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from surefoot_bench.faults import Cell
from surefoot_bench.killed import killings
from surefoot_bench.live import confusion
from surefoot_bench.reliability import PARITY, Tally, baseline, guarded, parity
from surefoot_cli.context import as_json, print_json, table

__all__ = ["plot", "reliability"]

_LENGTHS: Final = (5, 10, 15, 20)
_HERE: Final = Cell(10, 0.10)
_VARIATIONS: Final[Mapping[str, Cell]] = {
    "independent streams": _HERE,
    "hints are useless": replace(_HERE, improvement=1.0),
    "the judge misses the same fault again": replace(_HERE, repeats=1.0, improvement=1.0),
    "a fault in every other attempt": replace(_HERE, p_fail=0.5, improvement=1.0),
    "one attempt in ten raises after its effect": replace(_HERE, breaks=0.1),
    "one answer in ten to an effect comes too late": replace(_HERE, late=0.1),
    "the judge is away one time in ten": replace(_HERE, away=0.1),
    "one attempt only": replace(_HERE, max_attempts=1),
}
_SIDES: Final = ("surefoot", "run anew as a whole", "verified once at the end", "unprotected")
_COLOURS: Final = ("#1a7f37", "#0969da", "#9a6700", "#cf222e")


@click.command()
@click.option("--trials", default=1000, type=click.IntRange(1), show_default=True, help="Paired trials of every line.")
@click.option("--seed", default=1234, show_default=True, help="Seed of the first trial; the others follow it.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Write success against length as SVG.")
@click.option("--kills", default=10, type=click.IntRange(0), show_default=True, help="Real processes to kill between effect and record.")
@click.option("--live", metavar="PROVIDER/MODEL", help="Ask a real model about labelled outputs instead, and print its confusion table.")
@as_json
def reliability(trials: int, seed: int, picture: Path | None, kills: int, live: str | None, as_json: bool) -> None:
    """Put faults into pipelines and count what is committed; through the real guard, and without.

    ``parity`` is AgentRaft's published method, whose figures any correct verify-then-commit engine gives. The rest has a stream for
    each seed, step and attempt, 95 % intervals (Wilson), and what that method leaves out.
    """
    if live is not None:
        found = confusion(live)
        print_json(live=found) if as_json else _tell_live(found)
        return
    lines = 2 * len(PARITY) + len(_VARIATIONS) + len(_LENGTHS) * len(_SIDES) + 2 * kills
    with click.progressbar(length=lines, file=sys.stderr, label="reliability") as bar:
        rows = [_ticked(parity(cell, trials, seed), bar, 2) for cell in PARITY]
        varied = [
            {"variation": name, **_ticked(guarded(cell, trials, seed, "independent"), bar).as_json()} for name, cell in _VARIATIONS.items()
        ]
        killed = killings(kills, seed, lambda: bar.update(1)) if kills else []
        lengths = [{**place, **_ticked(run(), bar).as_json()} for place, run in _by_length(trials, seed)]
    if picture is not None:
        picture.write_text(plot(lengths), encoding="utf-8")
    if as_json:
        print_json(trials=trials, seed=seed, parity=rows, variations=varied, killed=killed, lengths=lengths)
    else:
        _tell(rows, varied, killed, lengths)


def _ticked(found: Any, bar: Any, steps: int = 1) -> Any:
    bar.update(steps)
    return found


def _by_length(trials: int, seed: int) -> Iterator[tuple[dict[str, Any], Callable[[], Tally]]]:
    """Yield what is to be run for each length and side."""
    for n_steps in _LENGTHS:
        cell = Cell(n_steps, 0.10)
        yield {"n_steps": n_steps, "side": "surefoot"}, lambda cell=cell: guarded(cell, trials, seed, "independent")  # type: ignore[misc]
        for kind in ("run anew as a whole", "verified once at the end", "unprotected"):
            yield (
                {"n_steps": n_steps, "side": kind},
                lambda cell=cell, kind=kind: baseline(kind, cell, trials, seed, "independent"),  # type: ignore[misc]
            )


def _tell_live(found: Mapping[str, Any]) -> None:
    click.echo(f"{found['model']} about {found['outputs']} labelled outputs:\n")
    table(("output", "PASS", "FAIL", "UNVERIFIED"), [{"output": truth, **row} for truth, row in found["table"].items()])
    click.echo(f"\nrecall {_rate(found['recall'])}  false alarms {_rate(found['false_alarms'])}  right class {_rate(found['right_class'])}")


def _rate(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    low, high = found["interval"]
    return f"{found['rate']:.3f} ({low:.3f}-{high:.3f})"


def _tell(
    rows: Sequence[Mapping[str, Any]],
    varied: Sequence[Mapping[str, Any]],
    killed: Sequence[Mapping[str, Any]],
    lengths: Sequence[Mapping[str, Any]],
) -> None:
    click.echo("AgentRaft's method, through the real guard:\n")
    table([*rows[0]], [{name: _figure(value) for name, value in row.items()} for row in rows])
    click.echo("\n10 steps, a fault in one of ten, and what that method leaves out:\n")
    columns = ("success", "silent_corruption", "caught_failure", "generations", "cost", "cost_per_success", "duplicate_effects", "resumes")
    table(("variation", *columns), [_line(row, "variation", *columns) for row in varied])
    if killed:
        click.echo("\nProcesses killed (SIGKILL) between an effect and its record, and run again until they end:\n")
        table([*killed[0]], killed)
    click.echo("\nSuccess against length:\n")
    table(("n_steps", "side", *columns[:6]), [_line(row, "n_steps", "side", *columns[:6]) for row in lengths])


def _line(row: Mapping[str, Any], *columns: str) -> dict[str, str]:
    shown = {}
    for name in columns:
        low_high = row["intervals"].get(name)
        interval = f" ({low_high[0]:.3f}-{low_high[1]:.3f})" if low_high else ""
        shown[name] = _figure(row[name]) + interval
    return shown


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def plot(lengths: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG of the success rate of each side against the number of steps, with 95 % intervals."""
    left, top, width, height, most = 60, 30, 480, 280, max(row["n_steps"] for row in lengths)

    def at(row: Mapping[str, Any], rate: float) -> tuple[float, float]:
        return left + width * row["n_steps"] / most, top + height * (1 - rate)

    size = f"0 0 {left + width + 40} {top + height + 120}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{left}" y="18">Share of runs that end well, by number of steps (10 % faults, recall 0.9; bars: 95 %)</text>',
    ]
    for tenth in range(0, 11, 2):
        y = top + height * (1 - tenth / 10)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="#d0d7de"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tenth * 10} %</text>')
    for n_steps in dict.fromkeys(row["n_steps"] for row in lengths):
        x = left + width * n_steps / most
        parts.append(f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{n_steps}</text>')
    for number, (side, colour) in enumerate(zip(_SIDES, _COLOURS, strict=True)):
        own = [row for row in lengths if row["side"] == side]
        line = " ".join("{:.1f},{:.1f}".format(*at(row, row["success"])) for row in own)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for row in own:
            (x, low), (_, high) = (at(row, rate) for rate in row["intervals"]["success"])
            parts.append(f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}" stroke-width="2"/>')
        y = top + height + 40 + 18 * number
        parts.append(f'<rect x="{left}" y="{y - 9}" width="18" height="4" fill="{colour}"/><text x="{left + 26}" y="{y}">{side}</text>')
    return "\n".join([*parts, "</svg>", ""])
