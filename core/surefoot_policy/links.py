"""Links with which a person decides about one approval: signed, for one request, until a time, and once.

A link says which approval, approve or deny, as whom, and until when, under a signature (HMAC-SHA-256, RFC 2104) by a key of the store. It
is bound to the digest of the arguments, the tool's definition and the policy. It decides a pending approval only, so what one link
has decided no link decides again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any, Final, Literal

from surefoot import Denied

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot_policy.approvals import Approval

__all__ = ["Action", "follow", "look", "sign"]

Action = Literal["approve", "deny"]
_PURPOSE: Final = b"surefoot: links to approvals"
_BOUND: Final = ("args_digest", "fingerprint", "policy")
_LONGEST: Final = 4096


def sign(guard: Guard, approval: Approval, action: Action, *, by: str, seconds: float | None = None) -> str:
    """Return the token of a link that decides an approval as ``by``, for so many seconds or as long as the approval itself."""
    until = approval.expires_at if seconds is None else min(approval.expires_at, guard.clock() + seconds)
    payload = json.dumps([approval.id, action, by, until, [getattr(approval, name) for name in _BOUND]]).encode()
    return f"{_text(payload)}.{_text(_signature(guard, payload))}"


def look(guard: Guard, token: str) -> tuple[Approval, Action, str]:
    """Return what a link is about, what it would decide, and as whom.

    Raises :class:`~surefoot.Denied` for a link that is none, that has expired, or whose request is not what it was made for.
    """
    payload = _checked(guard, token)
    if payload is None:
        raise Denied("this is no link of this store, or it was changed")
    approval_id, action, by, until, bound = json.loads(payload)
    if guard.clock() > until:
        raise Denied("the link has expired; 'surefoot approvals show' says how the approval stands")
    approval: Approval = guard.approvals.show(approval_id)
    if [getattr(approval, name) for name in _BOUND] != bound:
        raise Denied(f"the link was made for another request than {approval_id} is now")
    return approval, action, by


def follow(guard: Guard, token: str, *, comment: str = "") -> Approval:
    """Decide as a link says. Raises as :func:`look`, and :class:`~surefoot.IntegrityError` where somebody has decided before."""
    approval, action, by = look(guard, token)
    decide = guard.approvals.approve if action == "approve" else guard.approvals.deny
    [decided] = decide(approval.id, by=by, comment=comment)
    return decided  # type: ignore[no-any-return]


def _checked(guard: Guard, token: str) -> bytes | None:
    if len(token) > _LONGEST:
        return None
    said, _, signature = token.partition(".")
    try:
        payload, given = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (said, signature))
    except (binascii.Error, ValueError):
        return None
    exact = token == f"{_text(payload)}.{_text(given)}"  # base64 has other spellings of the same bytes
    return payload if exact and hmac.compare_digest(given, _signature(guard, payload)) else None


def _signature(guard: Guard, payload: bytes) -> bytes:
    key: Any = guard.store.digest_key()
    return hmac.new(hmac.digest(key, _PURPOSE, "sha256"), payload, hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
