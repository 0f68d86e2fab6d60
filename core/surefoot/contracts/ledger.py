"""The ledger contract: the durable record of every call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from surefoot.types import CallRecord, CallState

__all__ = ["Ledger"]


class Ledger(ABC):
    """The calls table, seen from inside one transaction.

    All reads see the transaction's own writes. Strings are compared byte for byte. Nothing is deleted
    but by retention, which is beside the contract.
    """

    @abstractmethod
    def get(self, call_id: str) -> CallRecord | None:
        """Return the call with that id."""

    @abstractmethod
    def insert(self, record: CallRecord) -> None:
        """Add a call. Raises :class:`~surefoot.IntegrityError` if its id exists."""

    @abstractmethod
    def update(self, record: CallRecord) -> CallRecord:
        """Replace the row with ``record``'s id and ``record.version``; return it with the next version.

        Compare-and-set: raises :class:`~surefoot.LeaseLost` when the stored version is another one. What a call is (id,
        key, tenant, tool, arguments) never changes. Who asks for it and where (conversation, run, scope, path, alias,
        occurrence) changes with an update to ``intent`` alone: a business key is entered again by a later run.
        """

    @abstractmethod
    def sticky(self, tenant: str, conversation: str, tool: str, args_digest: str) -> Sequence[CallRecord]:
        """Return the sticky calls equal to a request in a conversation, oldest first."""

    @abstractmethod
    def unsettled(self, run_id: str) -> Sequence[CallRecord]:
        """Return the calls of a run whose state is ``intent`` or ``in_doubt``, oldest first."""

    @abstractmethod
    def under(self, scope: str, path: str, *, tool: str | None = None, before: int | None = None) -> Sequence[CallRecord]:
        """Return the calls of a slot space at ``path`` or below it, oldest first.

        ``tool`` keeps those of one tool, ``before`` those with ``touched`` less than it. A path ``a#1`` has
        ``a#1`` and ``a#1/b#2`` below it, never ``a#10``.
        """

    @abstractmethod
    def touches(self, scope: str, path: str) -> bool:
        """Return whether :meth:`under` would return anything, in time independent of how much."""

    @abstractmethod
    def list(
        self, *, state: CallState | None = None, run_id: str | None = None, after: str | None = None, limit: int = 100
    ) -> Sequence[CallRecord]:
        """Return calls in the order of their creation, ``after`` that call id, at most ``limit``."""
