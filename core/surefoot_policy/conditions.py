"""What the conditions of entries say about a call, found out before the store is locked: a slow one holds up nobody else (I26)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, TypeAlias

from surefoot import Allow, Call, Decision, Gate
from surefoot.types import HOOK_SECONDS
from surefoot_policy.rules import Judgement, Question, Rules

if TYPE_CHECKING:
    from surefoot.engine.claims import Claim

__all__ = ["Conditions"]

_KNOWN: Final = 10_000
"""Calls under way at once; what one of more than that was judged is forgotten, and it is denied."""
_Identity: TypeAlias = tuple[str, str, str, str, str]
_UNJUDGED: Final = Judgement("deny", "conditions", "policy_unavailable: its conditions have not been evaluated to the end")


class Conditions(Gate):
    """Judges calls by the entries of a policy. What it finds counts where the intent is written, for the call that it was found for.

    A condition looks at the call only, so nothing that it says can change in between. One that does not answer in time denies.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._found: OrderedDict[_Identity, Judgement] = OrderedDict()
        self.timeout = None if rules.bounded else HOOK_SECONDS

    def check(self, call: Call) -> Decision:
        """Judge a call; the admission says no where that is a no, and writes it down."""
        identity = (call.call_id, call.args_digest, call.effect.value, call.run_id, call.step)
        self._found.pop(identity, None)
        judged = self._rules.decide(
            Question(call.tool, call.effect.value, call.arguments, call.tenant, call.thread, call.run_id, call.step)
        )
        self._found[identity] = judged
        while len(self._found) > _KNOWN:
            self._found.popitem(last=False)
        return Allow()

    def of(self, claim: Claim, call_id: str) -> Judgement:
        """Return what was found about a call; a denial where nothing was."""
        run = claim.frame.run.record
        return self._found.get((call_id, claim.digest, claim.effect.value, run.run_id, claim.frame.path), _UNJUDGED)
