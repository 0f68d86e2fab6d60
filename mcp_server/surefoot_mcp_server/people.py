"""Approvals: the client's user is asked about a call, where the client can ask; else it waits for 'surefoot approvals'."""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

from surefoot import ApprovalPending, Guard
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit
from surefoot_adapters import asking
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.wire import OURS, Asked

__all__ = ["Elicit", "People", "can_ask", "void"]

Elicit: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any] | None]]
"""Sends ``elicitation/create`` with these parameters to the client in the middle of a call; returns its result, ``None``: none came."""
_BY: Final = "elicitation"
"""Who has decided, in the ledger: whoever answers what the client asks."""
_ASKED: Final = "mcp_asked"
"""Records by call without a key: the key that it has until somebody has decided and it has run."""
_QUESTION: Final = "approval"
_SCHEMA: Final = {"type": "object", "properties": {"approve": {"type": "boolean", "title": "Let it run"}}, "required": ["approve"]}
_LONGEST: Final = 2000


class People:
    """What the calls of one conversation need of people."""

    def __init__(self, guard: Guard, rules: Rules, tenant: str) -> None:
        self._guard = guard
        self._rules = rules
        self._tenant = tenant

    def may(self, tool: str) -> bool:
        """Return whether the policy may have a person decide about calls of a tool."""
        asks = asking(self._guard)
        return asks is not None and asks.may(self._rules.qualified(tool))

    def _name(self, asked: Asked) -> str:
        parts = (self._tenant, self._rules.conversation, asked.tool, self._guard.codec.digest(asked.what))
        return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")).hexdigest()

    async def key(self, asked: Asked) -> str:
        """Return the ledger's key of a call without one: the same for every equal call, until one of them has run or was refused."""
        name, new = self._name(asked), hashlib.sha256(os.urandom(32)).hexdigest()

        def work(unit: Unit) -> str:
            known = unit.records.get(_ASKED, name)
            return str(known.value) if known is not None else str(unit.records.put(_ASKED, name, new).value)

        return str(await self._guard.atransact(Tx(work)))

    async def decided(self, asked: Asked) -> None:
        """Note that an equal call is another one from now on."""
        await self._guard.atransact(Tx(lambda unit: unit.records.delete(_ASKED, self._name(asked))))

    async def ask(self, asked: Asked, pending: ApprovalPending, elicit: Elicit | None) -> Mapping[str, Any] | None:
        """Have the client's user decide. Return what to answer with so that the client asks, ``None`` where somebody has decided.

        Raises ``pending`` where nobody can be asked, or nobody has said yes or no.
        """
        approval_id, card = next(iter(pending.cards.items()))
        approvers = card["approvers"]
        if approvers and not any(fnmatch.fnmatchcase(_BY, pattern) for pattern in approvers):
            raise pending
        if asked.answered is not None:
            found = self._read(asked.answered, approval_id)
        elif asked.modern:
            if not can_ask(asked.envelope.get("io.modelcontextprotocol/clientCapabilities")):
                raise pending
            request = {"method": "elicitation/create", "params": {"mode": "form", **_question(card)}}
            kind = {"resultType": "input_required", "inputRequests": {_QUESTION: request}, "requestState": self._state(approval_id)}
            return {"result": kind}
        elif elicit is not None:
            found = await elicit(_question(card))
        else:
            raise pending
        said = _said(found)
        asks = asking(self._guard)
        if said is None or asks is None:
            raise pending
        asks.answer(approval_id, yes=said, by=_BY)
        return None

    def _state(self, approval_id: str) -> str:
        """Return what a client carries from the question to the answer; nobody else can make it."""
        return f"{OURS}{approval_id}:{self._guard.codec.digest(['mcp', self._tenant, approval_id])}"

    def _read(self, answered: tuple[str, Any], approval_id: str) -> Any:
        state, responses = answered
        mine = hmac.compare_digest(state.encode(), self._state(approval_id).encode())
        return responses.get(_QUESTION) if mine and isinstance(responses, dict) else None


def can_ask(capabilities: Any) -> bool:
    """Return whether a client that declares these capabilities can show its user a form."""
    found = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
    return isinstance(found, dict) and ("form" in found or "url" not in found)


def _question(card: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(card["arguments"], ensure_ascii=False)
    shown = arguments if len(arguments) <= _LONGEST else f"{arguments[:_LONGEST]}…"
    return {"message": f"May {card['tool']} run with {shown}? {card['reason']}", "requestedSchema": _SCHEMA}


def _said(found: Any) -> bool | None:
    """Return what a person said: yes, no, or neither."""
    action = found.get("action") if isinstance(found, dict) else None
    if action == "decline":
        return False
    content = found.get("content") if action == "accept" else None
    answer = content.get("approve") if isinstance(content, dict) else None
    return answer if isinstance(answer, bool) else None


def void(guard: Guard, tools: Iterable[str], why: str) -> list[str]:
    """Void what was asked or approved about tools (as the ledger names them) that are not what they were; return the approvals' ids."""
    from surefoot_policy.approvals import find, write

    names = set(tools)
    outstanding = [one for one in guard.approvals.list(state=None) if one.tool in names and one.state in {"pending", "approved"}]

    def work(unit: Unit) -> None:
        for approval in outstanding:
            now = find(unit, approval.id)
            if now.state in {"pending", "approved"}:
                write(unit, replace(now, state="void", comment=why), "approval.void")

    if outstanding:
        guard.transact(Tx(work))
    return [approval.id for approval in outstanding]
