"""Plans: a dry run names what a call would act on, and a token stands for exactly that (AS-84).

A tool with ``plan:`` takes the token as an argument. Asked for without one nothing runs: what it would act on is looked up, kept, and
told together with a token. Asked for with it, what it would act on is looked up again, and any difference refuses the call.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from surefoot import Allow, Call, Decision, Denied, Deny, Gate

if TYPE_CHECKING:
    from surefoot.engine.claims import Claim
    from surefoot.engine.unit import Unit
    from surefoot_policy.rules import Planned, Rules

__all__ = ["DryRun", "Plan", "PlanMismatch", "Targets", "named", "planned", "use"]

_PLANS: Final = "plans"
_KNOWN: Final = 1000
_SHOWN: Final = 2000


class DryRun(Denied):
    """Nothing ran: the call was looked at only. ``plan`` has the token that lets exactly this run, and the targets that it names."""

    code = "dry_run"
    plan: Mapping[str, Any] = MappingProxyType({})


class PlanMismatch(Denied):
    """The call is not what its plan was made for: other targets, other arguments, or a plan that is used up (AS-84)."""

    code = "plan_mismatch"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one call would do, as a dry run found it. Times are POSIX seconds."""

    token: str
    conversation: str
    """The thread, or the run without one, that may carry it out."""
    tenant: str
    tool: str
    fingerprint: str
    """Digest of the tool's definition."""
    args_digest: str
    """Keyed digest of the arguments, the token left out."""
    targets: Sequence[Any]
    """What it would act on, redacted."""
    targets_digest: str
    """Keyed digest of the targets, whatever their order."""
    members: Mapping[str, int]
    """Digest of each target → its place in ``targets``, to say what has changed."""
    policy: str
    expires_at: float
    used_by: str | None = None
    """The call that has carried it out."""
    version: int = field(default=0, compare=False)
    """Of the stored row."""


class Targets(Gate):
    """Looks up what calls would act on, before the store is locked; what it finds is judged where the intent is written.

    A list that cannot be looked up, or does not come in time, denies the call.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._found: OrderedDict[str, list[Any]] = OrderedDict()

    def check(self, call: Call) -> Decision:
        """Look up the targets of a call whose tool has a plan; of others nothing is asked."""
        asked = self._rules.plan(call.tool)
        if asked is None:
            return Allow()
        arguments = {name: value for name, value in call.arguments.items() if name != asked.token}
        try:
            self._found[call.call_id] = _listed(asked.targets(replace(call, arguments=arguments)))
        except Exception as exc:  # noqa: BLE001 - fail closed, and say where
            return Deny(f"policy_unavailable: {asked.entry} cannot say what it would act on ({type(exc).__name__}: {exc})")
        while len(self._found) > _KNOWN:
            self._found.popitem(last=False)
        return Allow()

    def of(self, call_id: str) -> list[Any] | None:
        """Return what was found for a call last."""
        return self._found.get(call_id)


def _listed(found: Any) -> list[Any]:
    if isinstance(found, str | bytes | Mapping):
        raise TypeError(f"{type(found).__name__} is no list of targets")
    return list(found)


def planned(unit: Unit, claim: Claim, asked: Planned, targets: list[Any] | None, policy: str) -> Plan | Deny:
    """Return the plan that a call carries out, or the refusal: it was a dry run, or it is not what the plan was made for."""
    if targets is None:
        return Deny(f"policy_unavailable: nobody has looked up what {asked.entry} would act on")
    codec = claim.guard.codec
    args_digest = codec.digest({name: value for name, value in claim.request.arguments.items() if name != asked.token})
    digests = [codec.digest(target) for target in targets]
    run = claim.frame.run
    now = Plan(
        token=f"plan_{secrets.token_hex(12)}",
        conversation=run.conversation,
        tenant=run.record.tenant,
        tool=claim.tool,
        fingerprint=claim.guard.fingerprint(claim.tool),
        args_digest=args_digest,
        targets=[json.loads(codec.dumps(target)) for target in targets],
        targets_digest=codec.digest(sorted(digests)),
        members={digest: place for place, digest in enumerate(digests)},
        policy=policy,
        expires_at=unit.now + asked.expires,
    )
    token = claim.request.arguments.get(asked.token)
    if not token:
        return _dry_run(unit, claim, asked, now)
    made = _read(unit, str(token))
    wrong = _wrong(unit, claim, made, now)
    if wrong is not None or made is None:
        return Deny(f"plan_mismatch: {wrong}", error=PlanMismatch(f"{claim.tool} was not executed: plan_mismatch: {wrong}."))
    return made


def _dry_run(unit: Unit, claim: Claim, asked: Planned, plan: Plan) -> Deny:
    _write(unit, claim, plan, "plan.made")
    shown = json.dumps(plan.targets)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    text = (
        f"this was a dry run, and nothing has happened. It would act on {len(plan.targets)}: {shown}. To carry out exactly this, ask for "
        f"it again with {asked.token}={plan.token!r}, within {asked.expires:g} seconds"
    )
    error = DryRun(f"{claim.tool} was not executed: {text}.")
    error.plan = {"token": plan.token, "tool": plan.tool, "targets": plan.targets, "expires_at": plan.expires_at}
    return Deny(text, error.code, error)


def _wrong(unit: Unit, claim: Claim, made: Plan | None, now: Plan) -> str | None:
    """Return what is not as the plan says, or ``None``."""
    if made is None or (made.tenant, made.conversation) != (now.tenant, now.conversation):
        return "there is no such plan here; make a dry run, without a token"
    if made.used_by is not None and made.used_by != claim.record(unit.now).call_id:
        return "the plan was carried out already; make another dry run"
    if unit.now > made.expires_at:
        return "the plan has expired; make another dry run"
    for what in ("tool", "args_digest", "fingerprint", "policy"):
        then, today = getattr(made, what), getattr(now, what)
        if then != today:
            name = {"args_digest": "its arguments", "fingerprint": "the tool's definition"}.get(what, f"the {what}")
            return f"{name} changed since the dry run (planned {then[:12]}, now {today[:12]}); make another one"
    if made.targets_digest != now.targets_digest:
        gone = [made.targets[place] for digest, place in made.members.items() if digest not in now.members]
        new = [now.targets[place] for digest, place in now.members.items() if digest not in made.members]
        told = f"no longer there: {json.dumps(gone)[:_SHOWN]}, new: {json.dumps(new)[:_SHOWN]}"
        digests = f"planned {made.targets_digest[:12]}, now {now.targets_digest[:12]}"
        return f"what it would act on changed since the dry run ({digests}; {told}); make another one"
    return None


def named(unit: Unit, claim: Claim, asked: Planned) -> Plan | None:
    """Return the plan that a call names, as it was made; ``None`` for a dry run, and for a token that nobody gave."""
    token = claim.request.arguments.get(asked.token)
    return _read(unit, str(token)) if token else None


def use(unit: Unit, claim: Claim, plan: Plan) -> None:
    """Use a plan up. Raises :class:`~surefoot.LeaseLost` when another call has: nothing of the transaction happens then."""
    call_id = claim.record(unit.now).call_id
    if plan.used_by is None:
        _write(unit, claim, replace(plan, used_by=call_id), "plan.used")


def _read(unit: Unit, token: str) -> Plan | None:
    record = unit.records.get(_PLANS, token)
    return Plan(**record.value, version=record.version) if record is not None else None


def _write(unit: Unit, claim: Claim, plan: Plan, event: str) -> None:
    value = asdict(plan)
    del value["version"]
    unit.records.put(_PLANS, plan.token, value, version=plan.version)
    told: Mapping[str, Any] = {"tool": plan.tool, "plan": plan.token, "targets": len(plan.targets), "policy": plan.policy}
    unit.emit(claim.frame.run.record.run_id, event, step=claim.frame.path, **told)
