"""Approvals as the framework's own interruptions: all that wait surface at once, and what a ``RunState`` says is written in the record."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agents.tool import FunctionTool

from surefoot import Guard
from surefoot_adapters import Frame, Request, asking

if TYPE_CHECKING:
    from agents.items import ToolApprovalItem
    from agents.run_state import RunState

__all__ = ["answered", "needs_approval"]


def needs_approval(
    tool: FunctionTool, guard: Guard, name: str, request: Callable[[str, dict[str, Any]], Awaitable[tuple[Frame, Request]]]
) -> Any:
    """Return the ``needs_approval`` of a guarded tool: the tool's own, and where the policy may ask about it, the policy's too.

    A person is asked before any tool of the reply runs (AS-26). What the framework then holds back is a card; whether the body
    runs is decided by the record alone, immediately before the body.
    """
    own: Any = tool.needs_approval
    asks = asking(guard)
    if asks is None or not asks.may(name):
        return own

    async def both(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
        said = own(context, arguments, call_id) if callable(own) else own
        said = await said if inspect.isawaitable(said) else said
        frame, asked = await request(call_id, arguments)
        waits: bool = await guard.adrive(asks.waits(frame, asked))
        return waits or bool(said)

    return both


def answered(guard: Guard, run_id: str, state: RunState[Any, Any]) -> None:
    """Write what a state says of its interruptions into the records that wait, and let what was decided elsewhere go on.

    Raises :class:`~surefoot.Denied` where somebody has said so who may not: ``with surefoot_policy.decided_by(name):`` names who does.
    """
    asks = asking(guard)
    known = asks.states(run_id) if asks is not None else {}
    for item in state.get_interruptions():
        call_id = getattr(item.raw_item, "call_id", "")
        if asks is None or call_id not in known:
            continue  # the tool's own question
        (approval_id, stands), said = known[call_id], _said(state, item, call_id)
        if stands == "pending" and said is not None:
            asks.answer(approval_id, yes=said)
        elif stands != "pending" and said is None:
            state.approve(item)  # its body is told what was decided


def _said(state: RunState[Any, Any], item: ToolApprovalItem, call_id: str) -> bool | None:
    """Return what a state says of one of its interruptions, which may be one of an agent inside of a tool."""
    nested = state._find_nested_approval_state(item)  # noqa: SLF001 - owner: test_private_names
    context: Any = (state if nested is None else nested[0])._context  # noqa: SLF001 - as above
    said: bool | None = context.get_approval_status(item.tool_name or getattr(item.raw_item, "name", ""), call_id, existing_pending=item)
    return said
