"""What a model of a crew used, by the counters that CrewAI keeps for each of its models."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from weakref import ref

__all__ = ["Meter"]


class Meter:
    """Reads the counters of one model before and after its calls. Calls that overlap share what they used: nothing counts twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._counted = (0, 0)

    def begin(self, model: Any) -> None:
        """Note that a call begins."""
        with self._lock:
            if not self._running:
                self._counted = _counts(model)
            self._running += 1

    def end(self, model: Any) -> Mapping[str, int]:
        """Return what was used since a call ended last, or since this one began; what a model does not report is not there (AS-36)."""
        with self._lock:
            self._running -= 1
            now, before = _counts(model), self._counted
            self._counted = now
        used = {"input_tokens": now[0] - before[0], "output_tokens": now[1] - before[1]}
        return {name: count for name, count in used.items() if count > 0}

    @classmethod
    def of(cls, model: Any) -> Meter:
        """Return the meter of a model."""
        with _lock:
            key = id(model)
            known = _meters.get(key)
            if known is None or known[0]() is not model:
                known = _meters[key] = ref(model, lambda _: _meters.pop(key, None)), cls()
            return known[1]


_lock = threading.Lock()
_meters: dict[int, tuple[Any, Meter]] = {}


def _counts(model: Any) -> tuple[int, int]:
    summary = model.get_token_usage_summary()
    return summary.prompt_tokens, summary.completion_tokens
