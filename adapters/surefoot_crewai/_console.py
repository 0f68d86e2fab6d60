"""Approvals at CrewAI's own prompt: where a task says that a person is there (``human_input=True``), that person is asked at once."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import getpass
import json
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from crewai.hooks.tool_hooks import ToolCallHookContext

from surefoot import ApprovalPending, Guard
from surefoot_adapters import asking

__all__ = ["answered", "attended"]

attended: ContextVar[bool] = ContextVar("surefoot_crewai_attended", default=False)
"""Whether the task under way says that a person is at the console."""
_one_at_a_time: Final = threading.Lock()
_YES: Final = frozenset({"approve", "approved", "y", "yes"})


def answered(guard: Guard, error: BaseException, tool: Any) -> bool:
    """Ask the person at the console about the calls that wait, write the answers into their records, and return whether it was asked.

    Whatever is no plain yes is a no. The body looks at the record: this only fills it in, as a decision from elsewhere would.
    Raises :class:`~surefoot.Denied` where the person at the console is nobody who may decide.
    """
    asks = asking(guard)
    if asks is None or not attended.get() or not isinstance(error, ApprovalPending):
        return False
    with _one_at_a_time:
        for approval_id, card in error.cards.items():
            given = ToolCallHookContext(tool.name, dict(card["arguments"] or {}), tool)
            said = given.request_human_input(_card(card), "Type 'approve' to let it run; anything else denies it:")
            asks.answer(approval_id, yes=said.strip().lower() in _YES, by=getpass.getuser())
    return True


def _card(card: Mapping[str, Any]) -> str:
    told = {"arguments": json.dumps(card["arguments"], default=str), "run": card["run_id"], "id": card["id"]}
    lines = [f"{card['tool']} waits for a person: {card['reason']}", *(f"  {name:10} {value}" for name, value in told.items())]
    return "\n".join(lines)
