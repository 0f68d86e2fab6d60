"""``surefoot policy``: check a policy file, try it, ask it why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from surefoot import Denied, ToolRule, UsageError
from surefoot_cli.context import as_json, print_json
from surefoot_policy.load import find
from surefoot_policy.model import Choice
from surefoot_policy.policy import FilePolicy
from surefoot_policy.rules import Question, tightened

__all__ = ["policy"]

_file = click.option(
    "--policy", "path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Default: surefoot.yaml, or pyproject.toml."
)
_sandbox = click.option(
    "--sandbox", "installed", metavar="NAME", multiple=True, help="An executor that your program installs, and that is not seen here."
)
_KEYS = {"tool", "args", "tenant", "thread", "expect"}


def _policy(path: Path | None) -> FilePolicy:
    found = path or find(Path.cwd())
    if found is None:
        raise UsageError("there is no surefoot.yaml and no [tool.surefoot] in pyproject.toml here; give --policy FILE")
    return FilePolicy.read(found)


@click.group()
def policy() -> None:
    """Check a policy file, try it, ask it why."""


@policy.command()
@_file
@as_json
def check(path: Path | None, as_json: bool) -> None:
    """Say whether a policy file can be used, and if not, where it is wrong."""
    found = _policy(path)
    file = found.file
    counts = {"tools": len(file.tools), "budgets": len(file.budgets), "guardrails": len(file.guardrails)}
    if as_json:
        print_json(policy=found.version, default=file.default, **counts)
        return
    told = ", ".join(f"{number} {name}" for name, number in counts.items())
    click.echo(f"{found.version} is fine: {told}; whatever else is asked for: {file.default}")


@policy.command()
@click.argument("tool", metavar="TOOL")
@click.option("--args", "arguments", default="{}", metavar="JSON", help="The arguments of the call.")
@click.option("--tenant", default="default", show_default=True, metavar="NAME")
@_sandbox
@_file
@as_json
def explain(tool: str, arguments: str, tenant: str, installed: tuple[str, ...], path: Path | None, as_json: bool) -> None:
    """Say what would become of a call of TOOL, and which entries say so. Nothing runs."""
    found = _policy(path)
    try:
        args = json.loads(arguments)
    except ValueError as exc:
        raise UsageError(f"--args is not JSON ({exc})") from exc
    question = _question(found, {"tool": tool, "args": args, "tenant": tenant})
    entries = found.explain(question, installed)
    decided = found.rules.strictest(entries)
    if as_json:
        said = [{"entry": one.entry, "decision": one.decision, "reason": one.reason} for one in entries]
        print_json(policy=found.version, decision=decided.decision, entry=decided.entry, reason=decided.reason, entries=said)
        return
    click.echo(f"{decided.decision}: {decided.reason} ({decided.entry}, {found.version})")
    for one in entries:
        click.echo(f"  {one.entry:24} {one.decision:8} {one.reason}")


@policy.command()
@click.argument("examples", metavar="EXAMPLES", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_sandbox
@_file
@as_json
def test(examples: Path, installed: tuple[str, ...], path: Path | None, as_json: bool) -> None:
    """Compare what a policy decides with what EXAMPLES expect.

    EXAMPLES is a JSON file: a list of calls like {"tool": "pay", "args": {"amount": 5}, "expect": "allow"}.
    """
    found = _policy(path)
    try:
        wanted = json.loads(examples.read_text(encoding="utf-8"))
        for index, example in enumerate(wanted):
            _check(f"{examples}[{index}]", example)
        cases = [
            (example, example["expect"], found.rules.strictest(found.explain(_question(found, example), installed))) for example in wanted
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UsageError(f"{examples} is not a list of calls with 'tool' and 'expect' ({type(exc).__name__}: {exc})") from exc
    if not cases:
        raise UsageError(f"{examples} has no examples, so it would prove nothing")
    wrong = [(example, expected, got) for example, expected, got in cases if got.decision != expected]
    if as_json:
        told = [{"example": example, "got": got.decision, "entry": got.entry, "reason": got.reason} for example, _, got in wrong]
        print_json(policy=found.version, examples=len(cases), wrong=told)
    else:
        for example, expected, got in wrong:
            click.echo(f"{json.dumps(example)}: expected {expected}, is {got.decision} ({got.entry}: {got.reason})")
        click.echo(f"{len(cases)} examples, {len(wrong)} wrong, {found.version}")
    if wrong:
        raise Denied(f"{len(wrong)} of {len(cases)} examples are decided otherwise than expected")


def _check(place: str, example: Mapping[str, Any]) -> None:
    """Raise :class:`~surefoot.UsageError` for an example that says something that would not be looked at."""
    if unknown := sorted(set(example).difference(_KEYS)):
        raise UsageError(f"{place}: {', '.join(unknown)} is no key of an example; there are {', '.join(sorted(_KEYS))}")
    if example["expect"] not in get_args(Choice):
        raise UsageError(f"{place}: expect {example['expect']!r} is no decision; there are {', '.join(get_args(Choice))}")


def _question(found: FilePolicy, example: Mapping[str, Any]) -> Question:
    args = example.get("args", {})
    if not isinstance(args, Mapping):
        raise UsageError("the arguments of a call are a JSON object")
    rule = tightened(ToolRule(), found.rules.declared(example["tool"]))
    return Question(example["tool"], str(rule.effect), args, example.get("tenant", "default"), example.get("thread"))


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a policy file, for editors."""
    from surefoot_policy.model import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
