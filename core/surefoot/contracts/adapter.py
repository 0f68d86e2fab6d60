"""The adapter contract: make a framework's steps and calls go through a guard."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surefoot.engine.guard import Guard

__all__ = ["Adapter", "Capabilities"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an adapter claims, each a sentence that the conformance suite tests."""

    copies: bool = True
    """``wrap`` returns a guarded copy and leaves the original alone (else it changes it in place)."""
    outer_guard: bool = False
    """The framework has no point at the tool's body; such an adapter cannot be certified above L1."""
    sync: bool = True
    """The framework has a synchronous face."""
    streaming: bool = True
    """The framework streams."""
    resumes: bool = False
    """The framework has checkpoints of its own that a later process resumes from."""


class Adapter(ABC):
    """Wraps the objects of one framework. Importing its module imports no framework."""

    name: str
    """Short name, as in the extra: ``langgraph``."""
    capabilities: Capabilities

    @abstractmethod
    def matches(self, target: object) -> bool:
        """Return whether this adapter wraps ``target``, judging by ``type(target).__mro__`` and importing nothing."""

    @abstractmethod
    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return ``target`` guarded: same interface, same behaviour where nothing fails.

        Raises :class:`~surefoot.AdapterUnavailable` where the guard could not see every call (AS-59, AS-61).
        """

    def tool(self, target: Any, guard: Guard | None) -> Any:
        """Return ``target`` as a tool of ``guard``; ``None``: it was only declared, and may find its guard when it is called."""
        return target if guard is None else self.wrap(target, guard)
