"""Approvals as LangGraph's interrupts: all that wait surface at once, each under the id of its own call, and a resume decides (AS-26)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from langgraph.errors import GraphInterrupt
from langgraph.types import Command, Interrupt

from surefoot import ApprovalPending, Guard, UsageError
from surefoot_adapters import Do, Program, asking

__all__ = ["decided", "interrupt", "merge"]

_YES = (True, "approve", "accept", "approved", "yes")
_NO = (False, "deny", "reject", "denied", "no")


def interrupt(error: ApprovalPending) -> GraphInterrupt:
    """Return the interrupt whose values are the cards that a person should see."""
    raised = GraphInterrupt([Interrupt(value=dict(card), id=approval_id) for approval_id, card in error.cards.items()])
    raised.__cause__ = error
    return raised


def merge(exc: GraphInterrupt, others: list[GraphInterrupt]) -> None:
    """Make the interrupt that surfaces carry those of the calls beside it, each once."""
    found = {one.id: one for raised in (exc, *others) for one in raised.args[0]}
    exc.args = (list(found.values()),)


def decided(guard: Guard, run_id: str, command: Command[Any], waiting: Callable[[], Program[list[str]]]) -> Program[Any]:
    """Let a resume decide about the approvals that it answers; return what of it is left for LangGraph.

    Raises :class:`~surefoot.UsageError` for an answer that could be meant for several, or that is no decision.
    """
    if command.resume is None:
        return command
    pending = {approval.id for approval in (yield Do(partial(guard.approvals.list, run_id=run_id)))}
    answers = command.resume if isinstance(command.resume, Mapping) else {}
    mine = {key: answer for key, answer in answers.items() if key in pending or str(key).startswith("appr_")}
    if not mine:
        ids = yield from waiting()
        if not pending.intersection(ids):
            return command
        if len(ids) > 1:
            raise UsageError(f"several questions wait, so say which is answered: Command(resume={{id: answer}}) with {', '.join(ids)}")
        mine, answers = {ids[0]: command.resume}, {}
    for approval_id, answer in mine.items():
        yield Do(partial(_decide, guard, approval_id, answer))
    rest = {key: answer for key, answer in answers.items() if key not in mine}
    left = replace(command, resume=rest or None)
    return left if rest or left.update or left.goto else None


def _decide(guard: Guard, approval_id: str, answer: Any) -> None:
    """Record a decision, which is whose the resume is if it names nobody.

    It is ``True``, ``"approve"`` or ``{"type": "approve" | "reject" | "edit", "by":, "message":, "args":}``.
    """
    said = answer if isinstance(answer, Mapping) else {"type": answer}
    kind = said.get("type")
    asks, comment = asking(guard), str(said.get("message", ""))
    by = str(said["by"]) if "by" in said or asks is None else asks.decider()
    if kind in _YES:
        guard.approvals.approve(approval_id, by=by, comment=comment)
    elif kind in _NO:
        guard.approvals.deny(approval_id, by=by, comment=comment)
    elif kind == "edit" and isinstance(said.get("args"), Mapping):
        guard.approvals.edit(approval_id, said["args"], by=by, comment=comment)
    else:
        msg = f"{answer!r} decides nothing about {approval_id}; resume with True, False, or {{'type': 'edit', 'args': {{...}}}}"
        raise UsageError(msg)
