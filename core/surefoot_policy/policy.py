"""A policy file at work: what it declares, what it decides, what it reserves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from surefoot import Admission, Allow, ApprovalPending, CallRecord, Decision, Deny, Gate, Policy, ToolRule, UsageError
from surefoot.engine.claims import Claim, Request
from surefoot.engine.deadline import Overdue, limited
from surefoot.engine.program import Do, Program, Tx, begun
from surefoot.engine.unit import Unit
from surefoot_adapters import hiding
from surefoot_policy import approvals, grants, plans
from surefoot_policy.approvals import Approval, Terms
from surefoot_policy.asking import Asking
from surefoot_policy.budgets import Budgets, Limited, is_new, stopping, used
from surefoot_policy.conditions import Conditions
from surefoot_policy.expressions import Condition, Expressions, ends_soon, holds, language
from surefoot_policy.grants import Grant
from surefoot_policy.load import read
from surefoot_policy.plans import Plan, Targets
from surefoot_policy.rules import NAMES, Judgement, Question, Rules, tightened
from surefoot_policy.sandboxes import Sandboxes

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot_policy.model import Guardrail, PolicyFile, ToolEntry
    from surefoot_policy.redaction import Patterns

__all__ = ["FilePolicy"]

_METRICS: Final = {"tokens_used": "tokens", "cost_usd": "cost_usd", "calls": "calls", "seconds": "seconds"}
"""What a guardrail calls it → what the budgets do."""
_UNREDACTED: Final = (
    "policy_unavailable: the plugins of this guard do not redact; register surefoot_policy.redaction.plugin with them, as 'redaction'"
)
GUARDRAIL_SECONDS: Final = 1.0
"""How long a guardrail whose language may take its time is waited for, while the store is locked."""
_LIMITS: Final = ("calls", "tokens", "cost_usd", "seconds", "depth", "iterations")


class FilePolicy(Policy):
    """The policy of a file. It fills in what the code leaves open and tightens the rest; it loosens nothing."""

    def __init__(self, file: PolicyFile, where: str) -> None:
        """Compile a file. Raises :class:`~surefoot.UsageError` for an entry that cannot be, and says which."""
        self.file = file
        text = file.model_dump_json()
        self.version = f"{file.name}@{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        self._language: Expressions | None = None
        self._where = where
        self.rules = Rules(file, where, self._expressions)
        self.rules.check_names()
        self.redaction = _redaction(file, where)
        self._sandboxes = Sandboxes() if _routes(file) else None
        guardrails = [self._guardrail(index, guardrail) for index, guardrail in enumerate(file.guardrails)]
        self._targets = Targets(self.rules) if any(entry.plan is not None for entry in file.tools) else None
        self._conditions = Conditions(self.rules) if self.rules.conditional else None
        self._admission = _FileAdmission(self, guardrails, self._targets, self._conditions)

    @classmethod
    def read(cls, path: str | Path) -> FilePolicy:
        """Return the policy of a file. Raises :class:`~surefoot.UsageError`, which names file, line and key."""
        return cls(read(Path(path)), str(path))

    def _expressions(self) -> Expressions:
        if self._language is None:
            self._language = language(self.file.expressions)
        return self._language

    def _guardrail(self, index: int, guardrail: Guardrail) -> _Guarded:
        place = f"guardrails[{index}]"
        try:
            condition = self._expressions().compile(guardrail.when, [*NAMES, *_METRICS])
        except ValueError as exc:
            raise UsageError(f"{self._where}: {place}: {str(exc).splitlines()[0]}") from exc
        return _Guarded(guardrail, place, condition)

    def redacting(self, redact: Callable[[str], str] | None) -> Callable[[str], str] | None:
        """Return what redacts more than ``redact``: what the file's patterns match."""
        return redact if self.redaction is None else self.redaction.after(redact)

    def expressions(self) -> Expressions:
        """Return the language of the file's conditions."""
        return self._expressions()

    def gates(self) -> Sequence[Gate]:
        """Return what may take its time, and so is asked before the transaction that writes the intent, where everything is decided."""
        return [gate for gate in (self._conditions, self._targets) if gate is not None]

    def admissions(self) -> Sequence[Admission]:
        """Return what has the last word about a call."""
        return [self._admission]

    def asking(self, guard: Guard) -> Asking:
        """Return what adapters ask people with, in their framework's own way."""
        return Asking(guard, self)

    def place(self, request: Request, body: Do) -> tuple[Request, Do]:
        """Return a request and its body as they run: here, or in the sandbox that the file names for its tool."""
        where = self.rules.sandbox(request.tool) if self._sandboxes is not None else None
        if where is None or self._sandboxes is None or not self._sandboxes.has(where[0]):
            return request, body
        return self._sandboxes.place(where[0], request, body)

    def unplaced(self, request: Request) -> str | None:
        """Return why a request must not run where it would, or ``None``."""
        where = self.rules.sandbox(request.tool) if self._sandboxes is not None else None
        return self._sandboxes.refusal(*where, request) if where is not None and self._sandboxes is not None else None

    def explain(self, question: Question, installed: Collection[str] = ()) -> Sequence[Judgement]:
        """Return what each entry that matches says about a call, ``installed`` names executors as if they were."""
        found, where = list(self.rules.explain(question)), self.rules.sandbox(question.tool)
        if where is not None and self._sandboxes is not None and where[0] not in installed and not self._sandboxes.has(where[0]):
            found.append(Judgement("deny", where[1], self._sandboxes.missing(*where)))
        return found

    def waits(self, claim: Claim) -> Program[bool]:
        """Return whether a call that the ledger has no answer for waits for a person; ask one, where nobody was asked."""
        if self._conditions is not None:
            call = claim.shown(claim.record(claim.guard.clock()))
            try:
                yield limited(partial(self._conditions.check, call), self._conditions.timeout)
            except (Exception, Overdue):  # noqa: BLE001 - whatever it is, it waits for nobody: it is denied where it would run
                return False
        waits: bool = yield Tx(partial(self._admission.waits, claim=claim))
        return waits

    def rule(self, tool: str, declared: ToolRule) -> ToolRule:
        """Return what the code declares, filled in and tightened by the file."""
        return tightened(declared, self.rules.declared(tool))


@dataclass(frozen=True, slots=True)
class _Guarded:
    guardrail: Guardrail
    place: str
    condition: Condition


@dataclass(frozen=True, slots=True)
class _Agreed:
    """What an admitted call uses."""

    judgement: Judgement
    approval: Approval | Grant | None
    plan: Plan | None


class _FileAdmission(Admission):
    """Decides by the file, in the order: rules, guardrails, budgets, plan, approval."""

    def __init__(self, policy: FilePolicy, guardrails: Sequence[_Guarded], targets: Targets | None, conditions: Conditions | None) -> None:
        file = policy.file
        self._policy = policy
        self._conditions = conditions
        self._targets = targets
        self._guardrails = guardrails
        self._budgets = Budgets(_limits(file), counting={g.guardrail.scope for g in guardrails})
        self._agreed: WeakKeyDictionary[Claim, _Agreed] = WeakKeyDictionary()
        decides = file.default != "allow" or any(_may_refuse(entry) for entry in file.tools)
        self.reads = decides or bool(file.budgets or file.guardrails or targets)

    def admit(self, unit: Unit, claim: Claim, record: CallRecord | None) -> Decision:
        """Return the decision about a call, and keep what it would use."""
        with hiding(claim.guard, claim.request):  # the transaction may run in another thread than the call
            return self._admit(unit, claim, record)

    def _admit(self, unit: Unit, claim: Claim, record: CallRecord | None) -> Decision:
        question = _question(claim)
        judgement = self._judged(unit, claim, question)
        if judgement.decision == "deny":
            return self._no(unit, claim, judgement, Deny(judgement.reason))
        if (unplaced := self._policy.unplaced(claim.request)) is not None:
            return self._no(unit, claim, judgement, Deny(unplaced))
        if self._policy.redaction is not None and not self._policy.redaction.reaches(claim.guard.plugins):
            return self._no(unit, claim, judgement, Deny(_UNREDACTED))
        refused = self._guarded(unit, claim, question) or self._budgets.admit(unit, claim, record)
        if isinstance(refused, Deny):
            return self._no(unit, claim, judgement, refused)
        plan = self._planned(unit, claim) if is_new(record) else None
        if isinstance(plan, Deny):
            return self._no(unit, claim, judgement, plan)
        approval: Approval | Grant | None = None
        if judgement.decision == "approve" and is_new(record):
            found = self._approval(unit, claim, question, judgement)
            if isinstance(found, Deny):
                return self._no(unit, claim, judgement, found)
            approval = found
        self._agreed[claim] = _Agreed(judgement, approval, plan)
        return Allow()

    def _judged(self, unit: Unit, claim: Claim, question: Question) -> Judgement:
        """Return what the entries say, which was found out before the store was locked if it takes more than looking them up."""
        if self._conditions is None:
            return self._policy.rules.decide(question)
        return self._conditions.of(claim, claim.record(unit.now).call_id)

    def _planned(self, unit: Unit, claim: Claim) -> Plan | Deny | None:
        """Return the plan that a call carries out, the refusal of one that needs a dry run first, ``None`` where no entry asks for it."""
        asked = self._policy.rules.plan(claim.tool) if self._targets is not None else None
        if asked is None or self._targets is None:
            return None
        return plans.planned(unit, claim, asked, self._targets.of(claim.record(unit.now).call_id), self._policy.version)

    def waits(self, unit: Unit, claim: Claim) -> bool:
        """Return whether a call waits for a person, who is asked here if nobody was."""
        with hiding(claim.guard, claim.request):
            return self._waits(unit, claim)

    def _waits(self, unit: Unit, claim: Claim) -> bool:
        question = _question(claim)
        judgement = self._judged(unit, claim, question)
        if judgement.decision != "approve" or not is_new(unit.calls.get(claim.record(unit.now).call_id)):
            return False
        asked = self._policy.rules.plan(claim.tool)
        if asked is not None and plans.named(unit, claim, asked) is None:
            return False  # a dry run waits for nobody
        found = self._approval(unit, claim, question, judgement)
        return isinstance(found, Deny) and isinstance(found.error, ApprovalPending)

    def _approval(self, unit: Unit, claim: Claim, question: Question, judgement: Judgement) -> Approval | Grant | Deny:
        decided = approvals.current(unit, claim)
        if (decided is None or decided.state != "denied") and (grant := self._granted(unit, claim, question)) is not None:
            return grant
        terms, asked = self._policy.file.approvals, self._policy.rules.plan(claim.tool)
        plan = plans.named(unit, claim, asked) if asked is not None else None
        told = (judgement.entry, judgement.reason, terms.expires, tuple(terms.approvers), plan.targets if plan is not None else None)
        return approvals.ask(unit, claim, Terms(self._policy.version, *told))

    def _granted(self, unit: Unit, claim: Claim, question: Question) -> Grant | None:
        """Return a grant that allows the call, of somebody who could approve it."""
        approvers, asks = self._policy.file.approvals.approvers, approvals.requester()
        open_ = grants.covering(unit, claim, question, self._policy.version)
        return next((grant for grant in open_ if approvals.may_decide(grant.granted_by, asks, approvers)), None)

    def _guarded(self, unit: Unit, claim: Claim, question: Question) -> Deny | None:
        for guarded in self._guardrails:
            guardrail = guarded.guardrail
            totals = {name: used(unit, metric, guardrail.scope, claim) for name, metric in _METRICS.items()}
            try:
                held = self._holds(guarded.condition, {**question.values(), **totals})
            except Exception as exc:  # noqa: BLE001 - fail closed, and say where
                return Deny(f"policy_unavailable: {guarded.place} cannot be evaluated ({type(exc).__name__}: {exc})")
            if held:
                why = guardrail.reason or f"{guarded.place} says {guardrail.action} when {guardrail.when}"
                reason = {"limit": guarded.place, "per": guardrail.scope, "when": guardrail.when, "used": totals}
                return stopping(unit, claim, guardrail.action, f"{claim.tool} was not executed: {why}", reason)
        return None

    def _holds(self, condition: Condition, values: Mapping[str, Any]) -> bool:
        """Return whether a guardrail holds. Raises :class:`TimeoutError` where nobody vouches for its language and it takes too long."""
        expressions = self._policy.expressions()
        if ends_soon(expressions):
            return holds(condition, expressions.values(values))
        asked = begun(lambda: holds(condition, expressions.values(values)))
        if not futures.wait([asked], GUARDRAIL_SECONDS).done:
            raise TimeoutError(f"it has not answered within {GUARDRAIL_SECONDS:g} s")
        return bool(asked.result())

    def _no(self, unit: Unit, claim: Claim, judgement: Judgement, deny: Deny) -> Deny:
        reason = unit.clean(deny.reason)
        self._note(unit, claim, "policy.refused", judgement, reason)
        return replace(deny, reason=reason)

    def spend(self, unit: Unit, claim: Claim, record: CallRecord | None) -> None:
        """Use up the approval, reserve the budgets, and note under which policy the call runs."""
        agreed = self._agreed.pop(claim)
        match agreed.approval:
            case Approval() as approval:
                approvals.use(unit, approval)
            case Grant() as grant:
                grants.use(unit, grant)
        if agreed.plan is not None:
            plans.use(unit, claim, agreed.plan)
        self._budgets.spend(unit, claim, record)
        self._note(unit, claim, "policy.allowed", agreed.judgement, agreed.judgement.reason)

    def _note(self, unit: Unit, claim: Claim, event: str, judgement: Judgement, reason: str) -> None:
        about: Mapping[str, Any] = {"tool": claim.tool, "policy": self._policy.version, "entry": judgement.entry, "reason": reason}
        unit.emit(claim.frame.run.record.run_id, event, step=claim.frame.path, **about)


def _may_refuse(entry: ToolEntry) -> bool:
    """Return whether an entry may deny a call, or have a person asked about it."""
    return entry.decision not in {None, "allow"} or entry.arguments is not None or entry.tier is not None or entry.sandbox is not None


def _routes(file: PolicyFile) -> bool:
    return any(entry.sandbox is not None for entry in file.tools) or any(tier.sandbox is not None for tier in file.tiers.values())


def _redaction(file: PolicyFile, where: str) -> Patterns | None:
    """Return the redaction of a file, whose secrets are registered from now on; ``None`` where it has none."""
    if not file.redaction:
        return None
    from surefoot_policy.redaction import Patterns

    return Patterns(file.redaction, where)


def _question(claim: Claim) -> Question:
    """Return a call as conditions see it."""
    run = claim.frame.run.record
    return Question(claim.tool, claim.effect.value, claim.request.arguments, run.tenant, run.thread, run.run_id, claim.frame.path)


def _limits(file: PolicyFile) -> list[Limited]:
    """Return the limits of a file."""
    return [
        Limited(name, allowed, limit.per, limit.action, limit.tool, limit.effect, "policy")
        for limit in file.budgets
        for name in _LIMITS
        if (allowed := getattr(limit, name)) is not None
    ]
