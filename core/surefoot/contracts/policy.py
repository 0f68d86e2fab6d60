"""The policy contract: gates that come from a file or a plugin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from surefoot.contracts.gate import Admission, Gate
from surefoot.types import ToolRule

__all__ = ["Policy"]


class Policy(ABC):
    """A named, versioned set of gates and tool rules. It can tighten what the code declares, never loosen it."""

    version: str
    """Recorded with every decision."""

    @abstractmethod
    def gates(self) -> Sequence[Gate]:
        """Return the gates, asked in this order."""

    def admissions(self) -> Sequence[Admission]:
        """Return who has the last word about a call, in this order; none by default."""
        return ()

    def redacting(self, redact: Callable[[str], str] | None) -> Callable[[str], str] | None:
        """Return ``redact``, what its guard redacts with, or what redacts more; ``None``: nothing is redacted, and no text looked at."""
        return redact

    @abstractmethod
    def rule(self, tool: str, declared: ToolRule) -> ToolRule:
        """Return the rule in force for a tool, given what the code declares: that, or a stricter one."""
