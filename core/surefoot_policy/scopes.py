"""What amounts are counted over, and in which unit a counter keeps them."""

from __future__ import annotations

from typing import Final

from surefoot.engine.frames import Frame
from surefoot.engine.key import owned, quote

__all__ = ["MICRO", "MILLI", "SCOPES", "scope_of"]

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
