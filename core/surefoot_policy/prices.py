"""What well-known models cost, for policies that do not say: a snapshot, and when it was taken.

A list of prices grows old in silence, so it has a date, it is short, and whatever ``prices:`` says goes before it.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

__all__ = ["TAKEN", "listed"]

TAKEN: Final = "2026-08-05"
"""The day of the snapshot: the providers' published prices, as collected in the data of github.com/simonw/llm-prices (723ef0b)."""
_Tier: TypeAlias = tuple[float, float, float]
_ALL: Final = float("inf")
_200K: Final = 200_000
_272K: Final = 272_000

_PRICES: Final[dict[str, tuple[_Tier, ...]]] = {
    "claude-haiku-4-5": ((_ALL, 1, 5),),
    "claude-opus-4-1": ((_ALL, 15, 75),),
    "claude-opus-4-5": ((_ALL, 5, 25),),
    "claude-opus-4-6": ((_ALL, 5, 25),),
    "claude-opus-4-7": ((_ALL, 5, 25),),
    "claude-opus-4-8": ((_ALL, 5, 25),),
    "claude-sonnet-4-5": ((_200K, 3, 15), (_ALL, 6, 22.5)),
    "gemini-2.5-flash": ((_ALL, 0.3, 2.5),),
    "gemini-2.5-flash-lite": ((_ALL, 0.1, 0.4),),
    "gemini-2.5-pro": ((_200K, 1.25, 10), (_ALL, 2.5, 15)),
    "gemini-3.5-flash": ((_ALL, 1.5, 9),),
    "gpt-4.1": ((_ALL, 2, 8),),
    "gpt-4.1-mini": ((_ALL, 0.4, 1.6),),
    "gpt-4.1-nano": ((_ALL, 0.1, 0.4),),
    "gpt-4o": ((_ALL, 2.5, 10),),
    "gpt-4o-mini": ((_ALL, 0.15, 0.6),),
    "gpt-5": ((_ALL, 1.25, 10),),
    "gpt-5-mini": ((_ALL, 0.25, 2),),
    "gpt-5-nano": ((_ALL, 0.05, 0.4),),
    "gpt-5.1": ((_ALL, 1.25, 10),),
    "gpt-5.2": ((_ALL, 1.75, 14),),
    "gpt-5.4": ((_272K, 2.5, 15), (_ALL, 5, 22.5)),
    "gpt-5.4-mini": ((_ALL, 0.75, 4.5),),
    "gpt-5.4-nano": ((_ALL, 0.2, 1.25),),
    "gpt-5.5": ((_272K, 5, 30), (_ALL, 10, 45)),
    "o3-mini": ((_ALL, 1.1, 4.4),),
    "o4-mini": ((_ALL, 1.1, 4.4),),
}
"""Of each model, up to how many tokens that it reads, US dollars per million that it reads, and that it writes."""
_DATED: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8})\Z")


def listed(model: str, read: int = 0) -> tuple[float, float] | None:
    """Return what a model costs that reads ``read`` tokens: US dollars per million it reads and writes; ``None``: it is not in the list.

    A provider before the name (``openai/gpt-4o``) and a date behind it (``gpt-4o-2024-08-06``) say nothing about the price.
    """
    tiers = _PRICES.get(_DATED.sub("", model.rpartition("/")[2]), ())
    return next(((reads, writes) for most, reads, writes in tiers if read <= most), None)
