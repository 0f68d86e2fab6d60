"""``surefoot certify``: run the suite, verify a certificate, or let the saboteurs loose on the suite itself."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import click

from surefoot import UsageError
from surefoot_conformance import render, signing
from surefoot_conformance.environments import environment
from surefoot_conformance.harnesses import KNOWN
from surefoot_conformance.report import Report
from surefoot_conformance.runner import expected_failures, run
from surefoot_conformance.table import LEVELS

__all__ = ["certify"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("name", required=False)
@click.option("--framework-version", "end", type=click.Choice(["oldest", "latest"]), help="In an environment with that end of the range.")
@click.option("--json", "as_json", is_flag=True, help="Print the certificate as JSON.")
@click.option("--html", "as_html", is_flag=True, help="Print the certificate as a page.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Write JSON, JUnit, badge and page into this folder.")
@click.option("--only", multiple=True, metavar="CHECK", help="Run only these checks or cells; the result is no certificate.")
@click.option("--require", type=click.Choice(list(LEVELS)), default="L1", show_default=True, help="Fail below this level.")
@click.option("--expected-failures", "known", type=_FILE, help='TOML: "<cell>" = "why it is known to fail".')
@click.option("--seed", type=int, help="Order of the cells; default: a new one, which is printed.")
@click.option("--jobs", type=click.IntRange(0), default=0, help="Cells at a time; default: one per processor.")
@click.option("--sign", "private", type=_FILE, help="Sign with this Ed25519 private key (PEM).")
@click.option("--verify", "certificate", type=_FILE, help="Verify this certificate instead of running anything.")
@click.option("--key", "public", type=_FILE, help="The public key (PEM) for --verify.")
@click.option("--saboteurs", is_flag=True, help="Break surefoot on purpose in every known way, and see whether the suite finds it.")
def certify(
    name: str | None,
    end: Literal["oldest", "latest"] | None,
    as_json: bool,
    as_html: bool,
    output: Path | None,
    only: tuple[str, ...],
    require: str,
    known: Path | None,
    seed: int | None,
    jobs: int,
    private: Path | None,
    certificate: Path | None,
    public: Path | None,
    saboteurs: bool,
) -> None:
    """Certify an adapter, store or verifier: NAME is one of surefoot's own, or the MODULE:CLASS of your harness."""
    if certificate is not None:
        _verify(certificate, public)
        return
    if saboteurs:
        _saboteurs(only, jobs, as_json=as_json)
        return
    if only and (private or output):
        raise UsageError("a choice of checks is no certificate: leave --only out, or --sign and --output")
    if name is None:
        raise UsageError(f"say what to certify: {', '.join(sorted(KNOWN))}, or module:Class of a harness")
    if name not in KNOWN and ":" not in name:
        raise UsageError(f"there is no harness {name!r}: take one of {', '.join(sorted(KNOWN))}, or module:Class of your own")
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    options: dict[str, Any] = {"only": only, "seed": seed, "jobs": jobs, "expected": expected_failures(known) if known else None}
    with _progress() as watch:
        report = _run_in(name, end, watch, options)
    data = report.data() | ({"framework_version": end} if end else {})
    data = signing.sign(data, private) if private else data
    if output is not None:
        _write(output, data)
    shown = json.dumps(data, indent=2) if as_json else render.as_html(data) if as_html else render.as_text(data)
    click.echo(shown)
    reached = [*LEVELS].index(report.level) if report.level in LEVELS else -1
    wanted = -1 if only else [*LEVELS].index(require)
    failed = report.problems or data["failed"] or data["faults"] or not data["passed"]
    if failed or reached < wanted:
        raise SystemExit(1)


def _run_in(
    name: str, end: Literal["oldest", "latest"] | None, watch: Callable[[Mapping[str, Any]], None], options: dict[str, Any]
) -> Report:
    if end is None:
        return run(name, watch=watch, **options)
    with environment(name, end, "postgres") as python:
        return run(name, watch=watch, python=python, **options)


class _progress:  # noqa: N801 - reads as a statement
    """Show people how far it is; say nothing where nobody looks."""

    def __init__(self) -> None:
        self._done = 0

    def __enter__(self) -> Callable[[Mapping[str, Any]], None]:
        return self._step

    def _step(self, cell: Mapping[str, Any]) -> None:
        self._done += 1
        if sys.stderr.isatty():
            click.echo(f"\r\033[K{self._done:5} {cell['status']:8} {cell['cell'][:100]}", nl=False, err=True)

    def __exit__(self, *_exc: object) -> None:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)


def _write(folder: Path, data: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{data['name']}-{data['framework_version']}" if "framework_version" in data else data["name"]
    shown = {"json": json.dumps(data, indent=2), "xml": render.as_junit(data), "svg": render.as_badge(data), "html": render.as_html(data)}
    for suffix, text in shown.items():
        (folder / f"{stem}.{suffix}").write_text(text, encoding="utf-8")


def _verify(certificate: Path, public: Path | None) -> None:
    if public is None:
        raise UsageError("--verify needs the public key: give --key PUB.pem")
    try:
        data = json.loads(certificate.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise UsageError(f"{certificate} is not a certificate: it holds no JSON ({exc})") from exc
    if not isinstance(data, dict):
        raise UsageError(f"{certificate} is not a certificate: it holds no JSON object")
    signing.verify(data, public)
    click.echo(f"{certificate}: signed by this key; {data.get('name')}: {data.get('level')}")


def _saboteurs(only: tuple[str, ...], jobs: int, *, as_json: bool) -> None:
    from surefoot_conformance.saboteurs import loose

    found = loose(only, jobs)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for saboteur, check in found["by"].items():
            click.echo(f"{saboteur:50} {check or 'NOT FOUND: ' + found['missed'][saboteur]}")
        click.echo(f"{found['found']} of {found['planted']} found")
    if found["found"] < found["planted"]:
        raise SystemExit(1)
