"""What an adapter needs to ask people in its framework's own way: whether a call waits for somebody, and what that person said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot.engine.claims import Claim, Request
from surefoot.engine.program import Program
from surefoot_adapters import hiding
from surefoot_policy.approvals import requester

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.engine.frames import Frame
    from surefoot_policy.policy import FilePolicy

__all__ = ["Asking", "decided_by"]

_RESUME: Final = "resume"
_decider: ContextVar[str | None] = ContextVar("surefoot_policy_decider", default=None)


@contextmanager
def decided_by(name: str) -> Iterator[None]:
    """Say whose decisions the answers are with which the runs in this block are resumed.

    Default: the one on whose behalf they run, who cannot decide (I15); ``resume`` where nobody is named. Needed where the
    policy has ``approvers`` and the framework's own answers name nobody.
    """
    token = _decider.set(name)
    try:
        yield
    finally:
        _decider.reset(token)


class Asking:
    """The questions of one guard's policy, as :class:`surefoot_adapters.Asking` says."""

    def __init__(self, guard: Guard, policy: FilePolicy) -> None:
        self._guard = guard
        self._policy = policy

    def may(self, tool: str) -> bool:
        """Return whether the policy may ask a person about calls of a tool."""
        return self._policy.rules.may_ask(tool)

    def waits(self, frame: Frame, request: Request) -> Program[bool]:
        """Return whether a call waits for a person; that person is asked if nobody was before."""
        with hiding(self._guard, request):
            return (yield from self._policy.waits(Claim.of(self._guard, frame, request)))

    def states(self, run_id: str) -> Mapping[str, tuple[str, str]]:
        """Return what was asked in a run: the model's id of a call → the newest question's id, and its state."""
        found = self._guard.approvals.list(state=None, run_id=run_id)
        return {approval.alias: (approval.id, approval.state) for approval in found if approval.alias is not None}

    def cards(self, run_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what a run waits for: the id of each pending question → its card."""
        return {approval.id: approval.card() for approval in self._guard.approvals.list(run_id=run_id)}

    def decider(self) -> str:
        """Return whose the answers are that name nobody."""
        return _decider.get() or requester(_RESUME)

    def answer(self, approval_id: str, *, yes: bool, by: str = "") -> None:
        """Record what a person said through the framework, which may ask inside of the run. Raises as :meth:`Approvals.approve`."""
        decide = self._guard.approvals.approve if yes else self._guard.approvals.deny
        Context().run(partial(decide, approval_id, by=by or self.decider()))
