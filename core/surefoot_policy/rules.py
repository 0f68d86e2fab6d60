"""What a policy file decides about a call: pure, deterministic, without I/O."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from surefoot import Effect, ToolRule, UsageError
from surefoot_policy.expressions import Condition, Expressions, ends_soon, holds, weight

if TYPE_CHECKING:
    from surefoot_policy.model import PolicyFile, Tier, ToolEntry

__all__ = ["NAMES", "Judgement", "Planned", "Question", "Rules", "tightened"]

NAMES: Final = ("args", "tool", "effect", "tenant", "thread", "run", "step")
"""What a condition of a tool entry may look at."""
_STRICTNESS: Final = {"allow": 0, "approve": 1, "deny": 2}
_WEAKEST_FIRST: Final = [Effect.READ, Effect.IDEMPOTENT, Effect.UNCLASSIFIED, Effect.UNSAFE]
_KNOWN_TOOLS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Question:
    """One call, as conditions see it."""

    tool: str
    effect: str
    args: Mapping[str, Any]
    tenant: str = "default"
    thread: str | None = None
    run: str = ""
    step: str = ""

    def values(self) -> dict[str, Any]:
        """Return the variables of a condition."""
        return {name: getattr(self, name) for name in NAMES}


@dataclass(frozen=True, slots=True)
class Judgement:
    """A decision and what made it."""

    decision: str
    """allow, deny or approve."""
    entry: str
    """The entry of the file that decided: its name, else its place."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """What an entry asks for before a call: a dry run."""

    entry: str
    targets: Callable[[Any], Iterable[Any]]
    token: str
    expires: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    entry: ToolEntry
    name: str
    condition: Condition | None
    misfit: Callable[[Mapping[str, Any]], str | None] | None
    """Says what of some arguments does not fit the schema."""


class Rules:
    """The tool entries of a policy, compiled. Raises :class:`~surefoot.UsageError` for an entry that cannot be, and says which."""

    def __init__(self, file: PolicyFile, where: str, expressions: Callable[[], Expressions]) -> None:
        self._default = Judgement(file.default, "default", f"the policy says 'default: {file.default}'")
        self._where = where
        self._expressions = expressions
        self._tiers = file.tiers
        self._entries = [self._compiled(index, entry) for index, entry in enumerate(file.tools)]
        self._matching: dict[str, list[_Compiled]] = {}

    def _compiled(self, index: int, entry: ToolEntry) -> _Compiled:
        place = f"tools[{index}]"
        try:
            condition = self._expressions().compile(entry.when, NAMES) if entry.when else None
            misfit = _schema(entry.arguments) if entry.arguments is not None else None
        except ValueError as exc:
            raise UsageError(f"{self._where}: {place}: {str(exc).splitlines()[0]}") from exc
        return _Compiled(entry, entry.name or place, condition, misfit)

    @property
    def bounded(self) -> bool:
        """Whether all conditions end soon, whatever they are given."""
        return all(compiled.condition is None for compiled in self._entries) or ends_soon(self._expressions())

    @property
    def conditional(self) -> bool:
        """Whether what is decided about a call depends on more than its tool."""
        return any(compiled.condition is not None or compiled.misfit is not None for compiled in self._entries)

    def about(self, tool: str) -> list[_Compiled]:
        """Return the entries whose pattern a tool has."""
        found = self._matching.get(tool)
        if found is None:
            if len(self._matching) >= _KNOWN_TOOLS:
                self._matching.clear()
            found = self._matching[tool] = [c for c in self._entries if any(fnmatch.fnmatchcase(tool, p) for p in patterns(c.entry))]
        return found

    def may_ask(self, tool: str) -> bool:
        """Return whether a person may be asked about some call of a tool."""
        said = (judgement.decision for compiled in self.about(tool) for judgement in self._said(compiled))
        return "approve" in {self._default.decision, *said}

    def explain(self, question: Question) -> list[Judgement]:
        """Return what each entry that matches says about a call; a broken one denies (I26)."""
        values: Any = None
        found: list[Judgement] = []
        for compiled in self.about(question.tool):
            try:
                if compiled.condition is not None:
                    if values is None:
                        values = self._expressions().values(question.values())
                    if not holds(compiled.condition, values):
                        continue
                wrong = compiled.misfit(question.args) if compiled.misfit is not None else None
            except Exception as exc:  # noqa: BLE001 - fail closed, and say where
                why = f"policy_unavailable: {compiled.name} cannot be evaluated ({type(exc).__name__}: {exc})"
                found.append(Judgement("deny", compiled.name, why))
                continue
            if wrong is not None:
                found.append(Judgement("deny", compiled.name, f"its arguments do not fit {compiled.name}: {wrong}"))
            else:
                found += self._said(compiled)
        return found

    def _said(self, compiled: _Compiled) -> Iterator[Judgement]:
        """Yield what an entry, and its tier, decide."""
        entry = compiled.entry
        said: dict[str, ToolEntry | Tier] = {compiled.name: entry}
        if entry.tier is not None:
            said[f"tier {entry.tier}"] = self._tiers[entry.tier]
        for name, one in said.items():
            if one.decision is not None:
                yield Judgement(one.decision, compiled.name, one.reason or f"{name} says {one.decision}")

    def decide(self, question: Question) -> Judgement:
        """Return the strictest of what the entries say, else the default."""
        return self.strictest(self.explain(question))

    def strictest(self, found: Iterable[Judgement]) -> Judgement:
        """Return what counts of what entries say, else the default."""
        return max(found, key=lambda one: _STRICTNESS[one.decision], default=self._default)

    def declared(self, tool: str) -> ToolRule:
        """Return what the entries declare about a tool; the first one that says something about a field counts, the strictest effect."""
        fields: dict[str, Any] = {}
        effects = []
        for compiled in self.about(tool):
            entry = compiled.entry
            effects += [Effect(entry.effect)] if entry.effect is not None else []
            given = {name: getattr(entry, name) for name in ("key", "timeout") if getattr(entry, name)}
            given |= {"scope": entry.scope} if entry.scope is not None else {}
            named = {"probe": entry.probe, "compensate": entry.compensate}
            given |= {field: self._named(compiled, spec) for field, spec in named.items() if spec is not None}
            given |= {"not_committed": tuple(self._named(compiled, spec) for spec in entry.not_committed)} if entry.not_committed else {}
            lists = {name: [*fields.get(name, []), *getattr(entry, name)] for name in ("redact", "depends_on")}
            fields = {**given, **fields, **lists}
        if effects:
            fields["effect"] = _strictest(effects)
        return ToolRule(**fields)

    def plan(self, tool: str) -> Planned | None:
        """Return the dry run that a tool's calls need first, of the first entry that says so."""
        found = next(((compiled, compiled.entry.plan) for compiled in self.about(tool) if compiled.entry.plan is not None), None)
        if found is None:
            return None
        compiled, plan = found
        return Planned(compiled.name, self._named(compiled, plan.targets), plan.token, plan.expires)

    def sandbox(self, tool: str) -> tuple[str, str] | None:
        """Return where a tool's bodies run and which entry says so; ``None``: here. Of several sandboxes the name is all of them."""
        found: dict[str, str] = {}
        for compiled in self.about(tool):
            entry = compiled.entry
            tier = self._tiers[entry.tier].sandbox if entry.tier is not None else None
            found |= {name: compiled.name for name in (entry.sandbox, tier) if name is not None}
        return (" and ".join(sorted(found)), next(iter(found.values()))) if found else None

    def check_names(self) -> None:
        """Import what entries name. Raises :class:`~surefoot.UsageError` for what is not there, and for targets that are a coroutine."""
        for compiled in self._entries:
            plan = compiled.entry.plan
            for spec in filter(None, [compiled.entry.probe, compiled.entry.compensate, *compiled.entry.not_committed]):
                self._named(compiled, spec)
            if plan is not None and inspect.iscoroutinefunction(self._named(compiled, plan.targets)):
                raise UsageError(f"{self._where}: {compiled.name}: {plan.targets} is a coroutine function; name a plain one")

    def _named(self, compiled: _Compiled, spec: str) -> Any:
        module, _, name = spec.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except Exception as exc:
            raise UsageError(f"{self._where}: {compiled.name}: {spec} cannot be loaded ({type(exc).__name__}: {exc})") from exc
        return found


def patterns(entry: ToolEntry) -> Sequence[str]:
    """Return the patterns of an entry."""
    return [entry.tool] if isinstance(entry.tool, str) else entry.tool


def tightened(declared: ToolRule, policy: ToolRule) -> ToolRule:
    """Return what the code declares, with what it leaves open filled in by the policy; the effect only gets stricter, a timeout shorter."""
    timeouts = [given for given in (declared.timeout, policy.timeout) if given is not None]
    return ToolRule(
        effect=_effect(Effect(declared.effect), Effect(policy.effect)),
        key=declared.key or policy.key,
        scope=declared.scope if declared.key else policy.scope,
        probe=declared.probe or policy.probe,
        not_committed=declared.not_committed or policy.not_committed,
        timeout=min(timeouts, default=None),
        redact=list(dict.fromkeys([*declared.redact, *policy.redact])),
        compensate=declared.compensate or policy.compensate,
        depends_on=list(dict.fromkeys([*declared.depends_on, *policy.depends_on])),
    )


def _effect(declared: Effect, policy: Effect) -> Effect:
    """Return the class in force: a policy may classify what nobody did, else only make it stricter."""
    if policy is Effect.UNCLASSIFIED or declared is Effect.COMPOSITE:
        return declared
    if declared is Effect.UNCLASSIFIED or policy is Effect.COMPOSITE:
        return policy if declared is Effect.UNCLASSIFIED else declared
    return _strictest([declared, policy])


def _strictest(effects: Sequence[Effect]) -> Effect:
    ranked = [effect for effect in effects if effect in _WEAKEST_FIRST]
    return max(ranked, key=_WEAKEST_FIRST.index, default=effects[0])


def _schema(schema: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], str | None]:
    try:
        import jsonschema_rs
    except ImportError as exc:
        raise UsageError("arguments: is JSON Schema: pip install 'surefoot[policy]'") from exc
    linear = jsonschema_rs.RegexOptions()
    validator = jsonschema_rs.validator_for(json.dumps(schema), mask="the value", retriever=_elsewhere, pattern_options=linear)

    def misfit(arguments: Mapping[str, Any]) -> str | None:
        weight(arguments)  # before the library sees them
        for error in validator.iter_errors(dict(arguments)):
            place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
            return f"${place}: {error.message}"
        return None

    return misfit


def _elsewhere(uri: str) -> Any:
    raise ValueError(f"$ref {uri} is somewhere else; write it into the file, under $defs")
