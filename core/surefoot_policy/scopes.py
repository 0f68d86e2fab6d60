"""What amounts are counted over, and in which unit a counter keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from surefoot import UsageError
from surefoot.engine.frames import Frame
from surefoot.engine.key import owned, quote

if TYPE_CHECKING:
    from surefoot import Guard

__all__ = ["MICRO", "MILLI", "SCOPES", "no_secrets", "scope_of"]

SCOPES: Final = ("execution", "run", "thread", "tenant")
MICRO: Final = 1_000_000
"""Counters are whole numbers: of millionths of a dollar,"""
MILLI: Final = 1_000
"""and of thousandths of a second."""


def scope_of(per: str, frame: Frame) -> str:
    """Return what a frame's calls are counted under. All branches and forks of a run share one budget; tenants share nothing."""
    run = frame.run
    tenant = run.record.tenant
    match per:
        case "execution":
            return f"{run.scope}/{frame.path}"
        case "run":
            return run.scope
        case "thread":
            return owned(tenant, run.conversation)
    return quote(tenant)


def no_secrets(guard: Guard, **given: str) -> None:
    """Raise :class:`~surefoot.UsageError` for a name or condition with a secret in it: it is stored as it is, or it would name nothing."""
    for name, text in given.items():
        if guard.redact(text) != text:
            raise UsageError(f"{name}= contains a registered secret, and it is stored; give another one")
