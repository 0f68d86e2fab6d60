"""What people and models are told, in one place: plain words that say what is known and what to do (rule 9 of the scenarios)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surefoot.types import CallRecord

__all__ = ["conflict", "denied", "doubt_error", "doubt_notice", "drift_notice", "held"]
__all__ += ["raised_note", "stopped", "unavailable", "unclassified"]


def doubt_notice(record: CallRecord) -> str:
    """Text for the model: an unclassified call may have happened."""
    known = f"Outcome unknown: this {record.tool} call may already have happened ({record.reason}). Do not repeat it."
    then = "Find out whether it happened by other means, or tell the user that it is unknown."
    return f"{known} {then} [surefoot call {record.call_id}]"


def doubt_error(record: CallRecord) -> str:
    """Message of :class:`~surefoot.InDoubt`: what is open, how to settle it, what would have avoided it."""
    settle = f"Settle it with 'surefoot calls settle {record.call_id} --committed JSON' or '--failed'."
    avoid = "A probe= on the tool would settle it without you; effect='idempotent' or 'read' would let it run again."
    return f"{record.tool} ({record.call_id}) is in doubt: {record.reason}. {settle} {avoid}"


def drift_notice(record: CallRecord, shown: str) -> str:
    """Text for the model: an earlier try already did something else with this tool."""
    done = f"an earlier attempt of this step already called {record.tool} with {record.arguments or 'other arguments'}"
    known = f"{done} (state: {record.state}, result: {shown}), and this attempt has not asked for that."
    return f"Not executed yet: {known} If you still want this call as well, ask for it again. [surefoot call {record.call_id}]"


def held(tool: str, reason: str, call_id: str) -> str:
    """Message of :class:`~surefoot.InDoubt` for a call that was refused before its body."""
    settle = f"Let it run with 'surefoot calls settle {call_id} --failed', or answer it with '--committed JSON'."
    return f"{tool} ({call_id}) was not executed and the run is held: {reason}. {settle}"


def conflict(record: CallRecord, digest: str) -> str:
    """Reason of a key conflict; names both digests (AS-16)."""
    known = f"its business key was already used by {record.call_id} with arguments {record.args_digest[:12]}"
    return f"{known}, now it is asked for with {digest[:12]}"


def denied(tool: str, reason: str) -> str:
    """Text for the model and message of :class:`~surefoot.Denied`."""
    return f"{tool} was not executed: {reason}."


def stopped(run_id: str, key: str, stop: Mapping[str, Any]) -> str:
    """Message of :class:`~surefoot.RunStopped`: who stopped it, why, and how it goes on."""
    kind, _, name = key.partition("/")
    what = {"all": "--all", "tenant": f"--tenant {name}", "run": name}[kind]
    return f"run {run_id} was stopped by {stop['by']} ({stop['reason']}); 'surefoot runs stop {what} --release' lets it go on"


def unclassified(what: str, names: str) -> str:
    """Notice of the tools that nobody classified."""
    once = "each runs at most once per request. 'surefoot tools init module:object' writes the file to fill in"
    return f"{what}: nobody classified {names}; {once}"


def raised_note(record: CallRecord) -> str:
    """Note on a replayed error of an unclassified tool."""
    known = f"this is the recorded error of {record.call_id}; the tool was not run again, because nobody declared that it may."
    allow = f"reads=[{record.tool!r}], @surefoot.tool(effect='idempotent'), or raise surefoot.NotCommitted where nothing happened"
    return f"surefoot: {known} To let it: {allow}."


def unavailable(record: CallRecord) -> str:
    """Message of :class:`~surefoot.ResultUnavailable`."""
    return f"{record.tool} ({record.call_id}) was executed, but its result cannot be replayed: {record.reason}."
