"""``surefoot tools``: which tools an agent has, and the declarations to fill in, as code or as a policy file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from surefoot import Guard, UsageError
from surefoot_adapters.places import AlreadyGuarded
from surefoot_cli import lint as boundary
from surefoot_cli.context import as_json, load_object, print_json

__all__ = ["tools"]


@click.group()
def tools() -> None:
    """Work on what is declared about tools."""


@tools.command()
@click.argument("target", metavar="MODULE:OBJECT")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the file here; never over an existing one.")
@as_json
def init(target: str, output: Path | None, as_json: bool) -> None:
    """Write the declarations of the tools that nobody classified, to fill in; as a policy file where FILE ends in .yaml."""
    guard = Guard("memory://")
    found = load_object(target)
    try:
        guard.plugins.adapter_for(found).wrap(found, guard)
    except AlreadyGuarded as exc:
        raise UsageError(f"{target} is wrapped already; name the object as it is before surefoot.wrap()") from exc
    names = guard.unclassified()
    if as_json:
        print_json(target=target, unclassified=names)
        return
    as_policy = output is not None and output.suffix in {".yaml", ".yml"}
    text = _policy(target, names) if as_policy else _declarations(target, names)
    if output is None:
        click.echo(text, nl=False)
        return
    if output.exists():
        raise UsageError(f"{output} exists; give another --output, or move it away")
    output.write_text(text)
    click.echo(f"wrote {output}: {len(names)} tools to classify")


@tools.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@as_json
def lint(paths: tuple[Path, ...], as_json: bool) -> None:
    """Find effects in source that go round the guard: requests, processes, mails and writes that are in no tool's body.

    A file that cannot be read is reported like that, and the others are looked at. A line that is
    meant as it is ends in '# surefoot: ignore - ' and the reason.
    """
    files, found = boundary.lint(paths)
    if not files and found:
        raise UsageError(f"{found[0].path}: {found[0].text}; only Python can be looked at")
    if not files:
        raise UsageError(f"there is no Python file in {', '.join(map(str, paths))}, so it would prove nothing")
    if as_json:
        print_json(files=files, findings=[asdict(finding) for finding in found])
    else:
        for finding in found:
            click.echo(f"{finding.path}:{finding.line}: {finding.text}")
        click.echo(f"{files} files, {len(found)} findings")
    if found:
        raise SystemExit(1)


def _declarations(target: str, names: list[str]) -> str:
    lines = "".join(f'    "{name}": ToolRule(effect="unclassified"),\n' for name in names)
    return (
        f'"""What the tools of {target} do to the world.\n\n'
        "read: changes nothing.  idempotent: twice is as good as once.  unsafe: at most once, and the run is held when in doubt\n"
        '(a probe= settles that without you).  unclassified: at most once, never holds a run.\n"""\n\n'
        f"from surefoot import ToolRule\n\nTOOLS = {{\n{lines}}}\n\n# graph = surefoot.wrap(graph, tools=TOOLS)\n"
    )


def _policy(target: str, names: list[str]) -> str:
    entries = "".join(f"  - tool: {json.dumps(name)}\n    effect: unclassified\n" for name in names)
    return (
        f"# What the tools of {target} do to the world, and what they may do. Keys and their meaning: surefoot policy schema.\n"
        "# read: changes nothing.  idempotent: twice is as good as once.  unsafe: at most once, and the run is held when in doubt.\n"
        "# unclassified: at most once, never holds a run.  decision: allow, deny or approve.\n"
        f"version: 1\ndefault: allow\ntools:{' []' if not names else ''}\n{entries}"
        'budgets: []   # like {calls: 50, per: run}\n\n# graph = surefoot.wrap(graph, policy="surefoot.yaml")\n'
    )
