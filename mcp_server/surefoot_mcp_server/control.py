"""The control server: an MCP server that answers what happened in a run, and with which a person settles what is open.

Made with the SDK, 1.x or 2.x, unlike the proxy: it is a server of our own.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from surefoot import AdapterUnavailable, CallRecord, CallState, Guard, SurefootError, UsageError
from surefoot.engine import words
from surefoot_cli.audit import problem_of

__all__ = ["Control", "server"]

_INSTRUCTIONS: Final = (
    "surefoot records what agents did. Ask run_show for what happened in a run, and for what is open in it. A call in doubt may "
    "have happened: never repeat it; look into the system that it is about, or ask a person."
)
_READ: Final = {"readOnlyHint": True, "openWorldHint": False}
_DECIDE: Final = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": False}
_MOST: Final = 1000


class Control:
    """What the control server's tools do. Their docstrings are what a client is told of them."""

    def __init__(self, guard: Guard, by: str | None) -> None:
        self._guard = guard
        self._by = by

    @property
    def reading(self) -> list[Callable[..., Any]]:
        """The tools that change nothing."""
        return [self.runs_list, self.run_show, self.calls_list, self.call_show, self.approvals_list, self.rollback_plan, self.audit_verify]

    @property
    def deciding(self) -> list[Callable[..., Any]]:
        """The tools with which a person decides; there are none where nobody is named."""
        return [self.call_settle, self.approval_decide] if self._by is not None else []

    def runs_list(self, limit: int = 50) -> dict[str, Any]:
        """List runs, newest first: their ids, threads, states, and whether they are held."""
        return {"runs": _plain(self._guard.runs.list(limit=min(limit, _MOST)))}

    def run_show(self, run_id: str, after: int = 0, limit: int = 200) -> dict[str, Any]:
        """Tell what happened in a run: its events in order, its calls, and what is open and how it is settled. Page with after."""
        run = self._guard.runs.show(run_id)
        events = self._guard.runs.events(run_id, after=after, limit=min(limit, _MOST))
        calls = self._guard.calls.list(run_id=run_id, limit=_MOST)
        doubtful = [call for call in calls if call.state is CallState.IN_DOUBT]
        held = [self._guard.calls.show(call_id) for call_id in run.hold if call_id not in {call.call_id for call in doubtful}]
        waiting = self._guard.approvals.list(run_id=run_id)
        return {
            "run": _plain([run])[0],
            "events": _plain(events),
            "next": events[-1].seq if len(events) == min(limit, _MOST) else None,
            "calls": _plain(calls),
            "open": [_open(call) for call in (*doubtful, *held)]
            + [f"{one.tool} waits for a person: {one.reason} (approval {one.id})" for one in waiting],
        }

    def calls_list(self, state: str | None = None, run_id: str | None = None, limit: int = 100) -> dict[str, Any]:
        """List tool calls, oldest first; state is for example in_doubt, committed, failed or raised."""
        if state is not None and state not in set(CallState):
            raise UsageError(f"{state!r} is no state of a call; the states are {', '.join(CallState)}")
        return {"calls": _plain(self._guard.calls.list(state=state, run_id=run_id, limit=min(limit, _MOST)))}

    def call_show(self, call_id: str) -> dict[str, Any]:
        """Tell everything about a tool call: what was asked for, what came of it, and why it is in doubt."""
        return {"call": _plain([self._guard.calls.show(call_id)])[0]}

    def approvals_list(self, state: str | None = "pending") -> dict[str, Any]:
        """List what people have to decide about; state null: what they have decided too."""
        return {"approvals": _plain(self._guard.approvals.list(state=state))}  # type: ignore[arg-type, unused-ignore] # a state that is none has no approvals

    def rollback_plan(self, run_id: str, to: str | None = None) -> dict[str, Any]:
        """Tell what a rollback of a run would undo, and what it could not; nothing is undone. To: the step that stays last."""
        from surefoot_recovery.undoing import shown

        plan = shown(self._guard, run_id, to)
        return {"plan": _plain([plan])[0], "words": str(plan)}

    def audit_verify(self, run_id: str) -> dict[str, Any]:
        """Check that the event log of a run is what was written, and that it ends where the ledger stands."""
        problem = problem_of(self._guard, run_id)
        return {"run_id": run_id, "sound": problem is None, "problem": problem}

    def call_settle(self, call_id: str, *, happened: bool, result: str | None = None) -> dict[str, Any]:
        """Settle a call in doubt. Happened: with its result as JSON text. Not happened: it did not and will not, and may run again.

        Only for a person who has looked: it is recorded in that person's name.
        """
        assert self._by is not None  # noqa: S101 - else there is no such tool
        if not happened:
            return {"call": _plain([self._guard.calls.settle(call_id, failed=True, by=self._by)])[0]}
        return {"call": _plain([self._guard.calls.settle(call_id, committed=_value(result), by=self._by)])[0]}

    def approval_decide(self, approval_id: str, *, approve: bool, comment: str = "") -> dict[str, Any]:
        """Let one call run, or refuse it. Only for a person: it is recorded in that person's name."""
        assert self._by is not None  # noqa: S101 - as above
        decide = self._guard.approvals.approve if approve else self._guard.approvals.deny
        return {"approval": _plain(decide(approval_id, by=self._by, comment=comment))[0]}


def server(guard: Guard, by: str | None = None) -> Any:
    """Return the control server of a store; ``by`` names the person who may decide through it, ``None``: it only answers.

    Raises :class:`~surefoot.AdapterUnavailable` where the SDK is not installed.
    """
    if find_spec("mcp") is None:
        raise AdapterUnavailable("the control server needs the MCP SDK; run: pip install 'surefoot[mcp]'")
    second = find_spec("mcp.server.mcpserver") is not None
    kind = getattr(import_module("mcp.server.mcpserver" if second else "mcp.server.fastmcp"), "MCPServer" if second else "FastMCP")
    made, control = kind("surefoot", instructions=_INSTRUCTIONS), Control(guard, by)
    annotations = import_module("mcp.types").ToolAnnotations
    error = import_module(f"{kind.__module__.rpartition('.')[0]}.exceptions").ToolError
    for tools, hints in ((control.reading, _READ), (control.deciding, _DECIDE)):
        for tool in tools:
            made.add_tool(_told(tool, error), annotations=annotations(**hints))
    for place, tool in (("runs", control.runs_list), ("approvals", control.approvals_list)):
        made.resource(f"surefoot://{place}", name=place, mime_type="application/json")(_without_arguments(tool))
    made.resource("surefoot://runs/{run_id}", name="run", mime_type="application/json")(_of_run(control))
    made.resource("surefoot://calls/{call_id}", name="call", mime_type="application/json")(_of_call(control))
    return made


def _told(tool: Callable[..., Any], error: type[Exception]) -> Callable[..., Any]:
    """Return a tool whose errors the SDK lets its client see: any other is hidden in its second version."""

    @functools.wraps(tool)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return tool(*args, **kwargs)
        except SurefootError as exc:
            raise error(str(exc)) from exc

    return told


def _without_arguments(tool: Callable[..., dict[str, Any]]) -> Callable[[], str]:
    def read() -> str:
        return json.dumps(tool())

    read.__doc__ = tool.__doc__
    return read


def _of_run(control: Control) -> Callable[[str], str]:
    def read(run_id: str) -> str:
        """Tell what happened in a run."""
        return json.dumps(control.run_show(run_id, limit=_MOST))

    return read


def _of_call(control: Control) -> Callable[[str], str]:
    def read(call_id: str) -> str:
        """Tell everything about a tool call."""
        return json.dumps(control.call_show(call_id))

    return read


def _open(call: CallRecord) -> str:
    return words.doubt_error(call) if call.entered else words.held(call.tool, call.reason, call.call_id)


def _plain(found: Iterable[Any]) -> list[Any]:
    """Return records as JSON data."""
    return [json.loads(json.dumps(dataclasses.asdict(one), default=str)) for one in found]


def _value(result: str | None) -> Any:
    try:
        return json.loads(result if result is not None else "null")
    except ValueError as exc:
        raise UsageError(f"result is not JSON ({exc}); a text needs quotes of its own") from exc
