"""``surefoot demo``: kill an agent in the middle of a payment, resume it, count the payments in the bank."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import click

from surefoot import AdapterUnavailable, Guard, SurefootError, UsageError
from surefoot_cli.context import as_json, print_json

__all__ = ["demo"]

_AGENT: Final = "surefoot_cli.demo_agent"


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Where to keep bank and store; default: a new folder."
)
@as_json
def demo(folder: Path | None, as_json: bool) -> None:
    """Kill a real agent right after it charged a customer, resume it, and count the charges; without surefoot and with it."""
    folder = folder or Path(tempfile.mkdtemp(prefix="surefoot-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise UsageError(f"the folder {folder} cannot be made ({exc.strerror}); give another --dir") from exc
    say = (lambda _text: None) if as_json else click.echo
    say("A payment agent (LangGraph, scripted model) is killed with SIGKILL right after its charge took effect, and resumed.\n")
    report = _report(folder, say)
    if as_json:
        print_json(**report)
    else:
        _tell(report)
    step = report["verified_step"]
    seen = (report["unprotected"]["charges"], report["protected"]["charges"], report["protected"]["run_status"])
    if seen != (2, 1, "completed") or (step["rejected"], step["committed"]) != (1, True) or not step["hint"]:
        msg = "the demo did not see what it promises; run 'surefoot doctor' and report this with the output of 'surefoot demo --json'"
        raise SurefootError(msg)


def _report(folder: Path, say: Any) -> dict[str, Any]:
    bank = folder / "bank.db"
    sqlite3.connect(bank).execute("CREATE TABLE IF NOT EXISTS charges (agent TEXT, customer TEXT, cents INTEGER, key TEXT, pid INTEGER)")
    pids = []
    for agent in ("unprotected", "protected"):
        say(f"{agent}:")
        for phase in ("pay", "resume"):
            pids.append(_run(folder, agent, phase, dies=phase == "pay"))
            say(f"  {phase:7} process {pids[-1]}: " + ("killed after the charge" if phase == "pay" else "ran to the end"))
        say(f"  the bank shows {_charges(bank, agent)} charge(s)\n")
    _run(folder, "verified", "pay", dies=False)
    guard = Guard(f"sqlite:///{folder / 'surefoot.db'}")
    rows = {run.thread: run for run in guard.runs.list()}
    calls = guard.calls.list(run_id=rows["protected"].run_id)
    events = guard.runs.events(rows["verified"].run_id)
    rejected = [event for event in events if event.type == "step.rejected"]
    return {
        "bank": str(bank),
        "store": guard.store.url,
        "pids": pids,
        "unprotected": {"charges": _charges(bank, "unprotected")},
        "protected": {
            "charges": _charges(bank, "protected"),
            "settled_by": next((call.settled_by for call in calls if call.tool == "charge"), None),
            "run_status": str(rows["protected"].status),
            "run_id": rows["protected"].run_id,
        },
        "verified_step": {
            "rejected": len(rejected),
            "hint": rejected[0].data["hint"] if rejected else None,
            "committed": any(e.type == "step.committed" and e.data.get("attempt") == len(rejected) + 1 for e in events),
        },
    }


def _run(folder: Path, agent: str, phase: str, *, dies: bool) -> int:
    process = subprocess.Popen([sys.executable, "-m", _AGENT, str(folder), agent, phase], stderr=subprocess.PIPE, text=True)  # noqa: S603 - our own module
    _, errors = process.communicate()
    if process.returncode != (-signal.SIGKILL if dies else 0):
        last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        should = "die" if dies else "end"
        msg = f"the {agent} agent did not {should} as it should ({last[0]}); is langgraph installed? pip install 'surefoot[langgraph]'"
        raise AdapterUnavailable(msg)
    return process.pid


def _charges(bank: Path, agent: str) -> int:
    (count,) = sqlite3.connect(bank).execute("SELECT count(*) FROM charges WHERE agent = ?", (agent,)).fetchone()
    return int(count)


def _tell(report: dict[str, Any]) -> None:
    protected, step = report["protected"], report["verified_step"]
    twice, once = report["unprotected"]["charges"], protected["charges"]
    click.echo(f"Without surefoot the customer paid {twice} times, with surefoot.wrap(graph) {once} time.")
    click.echo(f"The open call was settled by the tool's {protected['settled_by']}; the run is {protected['run_status']}.\n")
    click.echo(f"A verifier rejected a step {step['rejected']} time with the hint {json.dumps(step['hint'])};")
    click.echo(f"the next attempt followed it and was committed: {'yes' if step['committed'] else 'no'}.\n")
    click.echo(f"Look inside:  surefoot --store {report['store']} runs show {protected['run_id']}")
