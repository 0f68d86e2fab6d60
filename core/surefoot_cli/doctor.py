"""``surefoot doctor``: whether this installation can guard anything."""

from __future__ import annotations

import platform
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import click

from surefoot import Guard, SurefootError, SurefootWarning
from surefoot.plugins import Plugins
from surefoot_adapters.layers import Stack, watched
from surefoot_adapters.places import AlreadyGuarded
from surefoot_cli.context import Context, as_json, load_object, print_json

__all__ = ["doctor"]

_WAL_RESET_FIXED: Final = (3, 51, 3)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: str
    """``ok``, ``note`` or ``fail``."""
    text: str


@click.command()
@click.argument("target", metavar="[MODULE:OBJECT]", required=False)
@as_json
@click.pass_obj
def doctor(context: Context, target: str | None, as_json: bool) -> None:
    """Check Python, SQLite, plugins and the store; with MODULE:OBJECT, whether that object can be guarded."""
    findings = [_python(), _sqlite(), *_plugins(), _store(context)]
    if target is not None:
        findings += _target(target)
    failed = any(finding.state == "fail" for finding in findings)
    if as_json:
        print_json(ok=not failed, findings=[{"check": f.check, "state": f.state, "text": f.text} for f in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.state:5} {finding.check:10} {finding.text}")
    if failed:
        raise SystemExit(1)


def _python() -> Finding:
    return Finding("python", "ok", platform.python_version())


def _sqlite() -> Finding:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < _WAL_RESET_FIXED:
        text = f"{version} has the WAL-reset bug (fixed in 3.51.3). surefoot's processes take turns; let no other program write to a store"
        return Finding("sqlite", "note", text)
    return Finding("sqlite", "ok", version)


def _plugins() -> list[Finding]:
    loaded = Plugins.default()
    found = [Finding("plugin", "ok", name) for name in loaded.names()]
    return found + [Finding("plugin", "note", f"{name}: {why}") for name, why in sorted(loaded.skipped.items())]


def _store(context: Context) -> Finding:
    def look() -> str:
        guard = context.guard()
        return f"{context.url} opens, {len(guard.runs.list())} runs"

    return _tried("store", look, missing="note")


def _target(target: str) -> list[Finding]:
    def wrap() -> str:
        guard = Guard("memory://")
        found = load_object(target)
        try:
            guard.plugins.adapter_for(found).wrap(found, guard)
        except AlreadyGuarded:
            return f"{target} is guarded by the guard that it was wrapped with"
        names = guard.unclassified()
        return f"{target} is guarded; unclassified: {', '.join(names) or 'none'}"

    with warnings.catch_warnings(record=True) as said, watched() as stacks:
        warnings.simplefilter("always", SurefootWarning)
        finding = _tried("target", wrap)
    notes = [str(warning.message) for warning in said if issubclass(warning.category, SurefootWarning)]
    return [finding, *map(_stacked, _deepest(stacks)), *(Finding("unguarded", "note", note) for note in dict.fromkeys(notes))]


def _deepest(stacks: Sequence[Stack]) -> list[Stack]:
    """Return the stack of each body once: the one with the most around it, for an adapter may have looked at the bare body too."""
    found: dict[str, Stack] = {}
    for stack in stacks:
        if stack.body not in found or len(stack.layers) > len(found[stack.body].layers):
            found[stack.body] = stack
    return sorted(found.values(), key=lambda stack: stack.tool)


def _stacked(stack: Stack) -> Finding:
    """Say what is around a tool's body; whatever is between it and the guard is a failure (AS-82)."""
    layers = [f"{layer.name} (retries)" if layer.retries else layer.name for layer in stack.layers]
    shown = f"{stack.tool}: {' > '.join(['guard', *layers, stack.body])}"
    if not layers:
        return Finding("stack", "ok", shown)
    why = "a retry in there repeats the effect of one claim" if any(layer.retries for layer in stack.layers) else "what it does is unseen"
    return Finding("stack", "fail", f"{shown}; nothing may be between guard and body: {why}. Put it around the tool instead")


def _tried(check: str, look: Callable[[], str], *, missing: str = "fail") -> Finding:
    try:
        return Finding(check, "ok", look())
    except SurefootError as exc:
        return Finding(check, missing if exc.code == "not_found" else "fail", str(exc))
