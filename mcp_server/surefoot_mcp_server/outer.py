"""Calls that a guard in the client has claimed in this very ledger: they count there, once, and pass here, once."""

from __future__ import annotations

import hashlib
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from surefoot import CallState
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit
from surefoot_mcp_server.wire import Asked, refusal

if TYPE_CHECKING:
    from surefoot_mcp_server.governor import Governor

__all__ = ["Counted", "counted", "refused"]

_PASSED: Final = "mcp_passed"
"""Records by run, call, entry and key: the request of that call has been sent to the server. Retention removes them with the payloads."""


class Counted(Enum):
    """Whether a call is one that an outer guard has claimed."""

    NOT_HERE = "not here"
    """It is to be governed: the ledger knows nothing of it, or has it under another tool, other arguments, another tenant."""
    NOW = "now"
    """Its body waits for this request, which comes for the first time."""
    BEFORE = "before"
    """It was sent before, or nobody waits for it any more."""


async def counted(governor: Governor, asked: Asked) -> Counted:
    """Return where a call counts, and note that it passes here.

    A policy or a budget of this guard's own has the last word about what passes here, so such a guard governs every call itself.
    """
    guard, call_id = governor.guard, asked.effect
    if call_id is None or asked.rounds or guard.admissions or guard.gates:
        return Counted.NOT_HERE
    digest = guard.codec.identify(dict(asked.arguments))[0]

    def work(unit: Unit) -> Counted:
        row = unit.calls.get(call_id)
        if row is None or (row.tenant, row.args_digest) != (governor.tenant, digest) or row.tool.rpartition("/")[2] != asked.tool:
            return Counted.NOT_HERE
        place = f"{row.run_id}/{row.call_id}/{row.entry}/{hashlib.sha256((asked.key or '').encode()).hexdigest()[:16]}"
        waiting = row.state is CallState.INTENT and guard.is_running(row)
        if not waiting or unit.records.get(_PASSED, place) is not None:
            return Counted.BEFORE
        unit.records.put(_PASSED, place, True)  # noqa: FBT003 - the value of a record
        return Counted.NOW

    found: Counted = await guard.atransact(Tx(work))
    return found


def refused(asked: Asked) -> dict[str, Any]:
    """Return what a request is told that was sent before."""
    text = f"{asked.tool} was not executed again: its client's own guard has this call in its ledger, as sent or as ended. Ask there."
    return refusal(asked, text, "idempotency_in_flight", asked.effect)
