"""The policy file as types. The published JSON Schema is made of these models, so an editor knows every key."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = ["Approvals", "Choice", "Guardrail", "Limit", "Plan", "PolicyFile", "Price", "Redaction", "Tier", "ToolEntry", "json_schema"]

Choice = Literal["allow", "deny", "approve"]
Scope = Literal["execution", "run", "thread", "tenant"]
Action = Literal["reject", "pause", "abort"]
EffectName = Literal["read", "idempotent", "unsafe", "composite", "unclassified"]
_RULE = ("effect", "key", "scope", "probe", "not_committed", "timeout", "redact", "compensate", "depends_on", "sandbox", "plan")
_LIMITS = ("calls", "tokens", "cost_usd", "seconds", "depth", "iterations")


def _named(spec: str) -> str:
    """Return the spec if it is of the form ``module:object``."""
    module, _, name = spec.partition(":")
    if not module or not name:
        raise ValueError(f"{spec!r} is not of the form module:object")
    return spec


Named = Annotated[str, AfterValidator(_named)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Plan(_Entry):
    """A dry run comes first: a call acts only on what a dry run has named, and a token stands for that."""

    targets: Named
    """``module:function`` that gets the :class:`~surefoot.Call` and returns the list of what it would act on. It changes nothing."""
    token: str = "plan_token"  # noqa: S105 - the name of an argument
    """The argument of the tool that the token comes in. Without it, or with an empty one, the call is a dry run."""
    expires: Annotated[float, Field(gt=0, strict=False)] = 3600
    """Seconds within which a plan must be carried out."""


class ToolEntry(_Entry):
    """What is declared, and decided, about the tools that a name pattern matches."""

    tool: str | list[str]
    """Name or pattern of the tools (``pay*``), or several."""
    name: str = ""
    """What the entry is called in reasons and events; default: its place in the file."""
    when: str = ""
    """Expression over ``args``, ``tool``, ``effect``, ``tenant``, ``thread``, ``run`` and ``step``: the entry decides where it is true."""
    tier: str | None = None
    """Which of ``tiers`` the tools are of; what it says counts as the entry's own."""
    decision: Choice | None = None
    """What becomes of the call. Of all entries that match the strictest counts: deny before approve before allow."""
    reason: str = ""
    """Why, in plain words; shown to the model and on the card."""
    arguments: dict[str, Any] | None = None
    """JSON Schema of the arguments; a call that does not fit is denied."""
    effect: EffectName | None = None
    """What running the tool does to the world. It can be stricter than what the code declares, never weaker."""
    key: list[str] = []
    """Names of the arguments that identify the business operation."""
    scope: Literal["tenant", "run"] | None = None
    """Where ``key`` is unique."""
    probe: Named | None = None
    """``module:function`` that asks the outside world whether a call in doubt happened."""
    not_committed: list[Named] = []
    """``module:Exception`` of errors that prove that the effect did not happen."""
    timeout: Annotated[float, Field(ge=0, strict=False)] | None = None
    """Seconds that the caller waits for the body."""
    redact: list[str] = []
    """Names of the arguments whose values are neither stored nor shown."""
    compensate: Named | None = None
    """``module:function`` that undoes a committed call when its run is rolled back."""
    depends_on: list[str] = []
    """Names of what the body needs to be up; breakers and bulkheads go by them."""
    sandbox: str | None = None
    """Name of the executor that runs the body, instead of this process; where none of that name is installed the call is denied."""
    plan: Plan | None = None
    """A dry run comes first, and the call acts only on what that has named."""

    @model_validator(mode="after")
    def _says_something_that_can_hold(self) -> Self:
        if not self.tool or not all([self.tool] if isinstance(self.tool, str) else self.tool):
            raise ValueError("tool= names no tool")
        ruled = [field for field in _RULE if field in self.model_fields_set]
        if self.when and ruled:
            raise ValueError(f"{', '.join(ruled)} cannot depend on when=; put it in an entry of its own")
        if self.when and self.decision is None and self.tier is None and self.arguments is None:
            raise ValueError("an entry with when= needs a decision= or a tier=")
        if self.scope is not None and not self.key:
            raise ValueError("scope= says where key= is unique; give key= as well")
        if not ruled and self.decision is None and self.tier is None and self.arguments is None:
            raise ValueError("the entry says nothing; give a decision=, a tier=, arguments= or a field of ToolRule")
        return self


class Tier(_Entry):
    """What tools of one capability may do: a name for it, said once."""

    decision: Choice | None = None
    """What becomes of their calls."""
    reason: str = ""
    """Why, in plain words."""
    sandbox: str | None = None
    """Where their bodies run."""


class Approvals(_Entry):
    """How people decide."""

    expires: Annotated[float, Field(gt=0, strict=False)] = 86_400
    """Seconds after the request within which it must be decided and used."""
    approvers: list[str] = []
    """Names or patterns of those who may decide; empty: everybody but the requester."""


class Limit(_Entry):
    """One limit, reserved before the effect. Exactly one of the amounts is given."""

    calls: Annotated[int, Field(ge=0)] | None = None
    """Calls that may run."""
    tokens: Annotated[int, Field(ge=0)] | None = None
    """Tokens of models."""
    cost_usd: Annotated[float, Field(ge=0, strict=False)] | None = None
    """What models cost, in US dollars."""
    seconds: Annotated[float, Field(ge=0, strict=False)] | None = None
    """Time under way; waiting for people costs nothing."""
    depth: Annotated[int, Field(ge=0)] | None = None
    """Calls inside of calls."""
    iterations: Annotated[int, Field(ge=0)] | None = None
    """How often the framework may come to one step of a run."""
    per: Scope = "run"
    """What it is counted over. An execution is one instance of a step."""
    tool: str = "*"
    """Only calls of tools with this name or pattern count, and are stopped."""
    effect: EffectName | None = None
    """Only calls of this effect class count, and are stopped."""
    action: Action = "pause"
    """reject: the model is told and goes on. pause: the run stops and may be resumed. abort: it stops until it is released."""

    @model_validator(mode="after")
    def _limits_one_thing(self) -> Self:
        if sum(getattr(self, name) is not None for name in _LIMITS) != 1:
            raise ValueError(f"give exactly one of {', '.join(_LIMITS)}")
        if not self.tool:
            raise ValueError("tool= names no tool")
        if self.calls is None and (self.tool != "*" or self.effect is not None):
            raise ValueError("tool= and effect= choose which calls count; give calls=")
        if (self.depth is not None or self.iterations is not None) and self.per != "run":
            raise ValueError("depth and iterations are counted per run")
        return self


class Price(_Entry):
    """What a model costs, in US dollars per million tokens."""

    model: str
    """Name or pattern of the models; the first price that fits counts."""
    input: Annotated[float, Field(ge=0, strict=False)]
    """For what it reads."""
    output: Annotated[float, Field(ge=0, strict=False)]
    """For what it writes."""


class Guardrail(_Entry):
    """A condition over what was used so far, looked at before every call."""

    when: str
    """Expression over ``sum(tokens_used)``, ``sum(cost_usd)``, ``sum(calls)``, ``sum(seconds)``, and the variables of a tool entry."""
    scope: Scope = "run"
    """What the sums are taken over."""
    action: Action = "pause"
    """As for a limit."""
    reason: str = ""
    """Why, in plain words."""


class Redaction(_Entry):
    """What must be stored and shown nowhere. Exactly one of ``pattern`` and ``env`` is given."""

    name: str = "secret"
    """What it is called: ``[redacted:<name>]`` stands in its place."""
    pattern: str | None = None
    """RE2 pattern of what is redacted, wherever it stands in a text."""
    env: str | None = None
    """Name of the environment variable that has the secret; it is found in its encodings too."""

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.pattern is None) == (self.env is None):
            raise ValueError("give exactly one of pattern, env")
        return self


class PolicyFile(_Entry):
    """A policy: what tools may do, what people decide, what may be used up."""

    version: Literal[1] = 1
    """Version of this format."""
    name: str = "policy"
    """What the policy is called in events and reports."""
    default: Choice = "allow"
    """What becomes of a call that no entry decides about."""
    expressions: str = "cel"
    """The language of ``when=``."""
    tiers: dict[str, Tier] = {}
    """Capabilities by name, which entries about tools refer to."""
    tools: list[ToolEntry] = []
    """Entries about tools; all that match count."""
    approvals: Approvals = Approvals()
    """How people decide."""
    budgets: list[Limit] = []
    """Limits; all count."""
    guardrails: list[Guardrail] = []
    """Conditions; all count."""
    redaction: list[Redaction] = []
    """What must be stored and shown nowhere."""
    prices: list[Price] = []
    """What models cost. One that has no price here has that of surefoot's own list, which has a date, or costs nothing."""

    @model_validator(mode="after")
    def _knows_its_tiers(self) -> Self:
        for index, entry in enumerate(self.tools):
            if entry.tier is not None and entry.tier not in self.tiers:
                raise ValueError(f"tools[{index}].tier: there is no tier {entry.tier!r}; there are: {', '.join(self.tiers) or 'none'}")
            if entry.tier is not None and entry.when and self.tiers[entry.tier].sandbox is not None:
                raise ValueError(
                    f"tools[{index}].tier: the sandbox of {entry.tier!r} cannot depend on when=; put it in an entry of its own"
                )
        return self


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a policy file; field texts are the docstrings above."""
    schema = PolicyFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "surefoot policy", **schema}
