"""What users call: wrap an object, declare a tool, name a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from surefoot.contracts import Policy, Store
from surefoot.engine.guard import Guard
from surefoot.errors import UsageError
from surefoot.plugins import Plugins
from surefoot.types import Budget, Compensation, Effect, Event, Probe, Retry, StepRule, ToolRule, expect

__all__ = ["RunName", "declared_rule", "named_run", "run", "tool", "wrap"]

T = TypeVar("T")
_RULE = "__surefoot_rule__"


def wrap(
    target: T,
    /,
    *,
    store: str | Store | None = None,
    tools: Mapping[str, ToolRule] | None = None,
    reads: Sequence[str] = (),
    steps: Mapping[str, StepRule] | None = None,
    retry: Retry | None = None,
    budget: Budget | None = None,
    breaker: Any = None,
    policy: str | os.PathLike[str] | Policy | None = None,
    on_event: Callable[[Event], None] | None = None,
    wait: float | None = None,
    strict: bool = False,
    guard: Guard | None = None,
) -> T:
    """Return ``target`` guarded: same type and interface, every step verified, every tool call at most once.

    :param store: URL or store; default ``SUREFOOT_STORE``, else a SQLite file for development.
    :param tools: rules by tool name or pattern. :param reads: names and patterns of harmless tools, the short form.
        A name that no tool of ``target`` or of what is in it has is warned of; for a tool that comes later, write a pattern.
    :param steps: rules by step name or pattern. :param retry: for steps that a verifier rejects.
    :param budget: limit on calls.
    :param breaker: a ``surefoot_recovery.Breaker``, for each dependency that a tool names with ``depends_on=``.
    :param policy: a policy, or what a policy plugin reads.
    :param on_event: sees every event after it is durable. :param wait: seconds to wait for a busy thread or call.
    :param strict: refuse the default store, unclassified tools, names that no tool has, and unnamed runs.
    :param guard: use this guard instead of making one from the other options.

    Raises :class:`~surefoot.AdapterUnavailable` when no adapter can guard the object completely, and
    :class:`~surefoot.UsageError` for an option that cannot work.
    """
    options: dict[str, Any] = {"tools": tools, "reads": reads, "steps": steps, "retry": retry, "budget": budget, "wait": wait}
    options |= {"on_event": on_event, "strict": strict, "breaker": breaker}
    options["policy"] = os.fspath(policy) if isinstance(policy, os.PathLike) else policy
    if guard is None:
        guard = Guard(store, **options)
        guard.whole = True
    elif store is not None or any(options.values()):
        raise UsageError("give either guard= or the options that make one, not both")
    wrapped: T = guard.plugins.adapter_for(target).wrap(target, guard)
    return wrapped


def tool(
    *bare: object,
    effect: Effect | Literal["read", "idempotent", "unsafe", "composite", "unclassified"] = Effect.UNCLASSIFIED,
    key: Sequence[str] = (),
    scope: Literal["tenant", "run"] = "tenant",
    probe: Probe | None = None,
    not_committed: tuple[type[BaseException], ...] = (),
    timeout: float | None = None,
    redact: Sequence[str] = (),
    compensate: Compensation | None = None,
    depends_on: str | Sequence[str] = (),
) -> Callable[[T], T]:
    """Declare what a tool does; the keywords are those of :class:`~surefoot.ToolRule`.

    Works below a framework's own decorator and above it. A plain function becomes one whose calls inside a run are governed.
    """
    if bare:
        raise UsageError("write @surefoot.tool() with its parentheses; they are where effect=, key= and the others go")
    rule = ToolRule(effect, key, scope, probe, not_committed, timeout, redact, compensate, depends_on)

    def mark(target: T) -> T:
        object.__setattr__(target, _RULE, dataclasses.replace(rule))  # each tool has one of its own
        knows = [adapter for adapter in Plugins.default().adapters() if adapter.matches(target)]
        return knows[0].tool(target, None) if len(knows) == 1 else target

    return mark


def declared_rule(*candidates: object) -> ToolRule | None:
    """Return the rule that ``@surefoot.tool`` left on the first of these objects that has one."""
    return next((rule for candidate in candidates if (rule := getattr(candidate, _RULE, None)) is not None), None)


@dataclass(frozen=True, slots=True)
class RunName:
    """What :func:`run` says about the invocations in its block."""

    name: str | None = None
    thread: str | None = None
    tenant: str = "default"


_named: ContextVar[RunName] = ContextVar("surefoot_named", default=RunName())  # noqa: B039 - frozen


@contextmanager
def run(name: str | None = None, *, tenant: str = "default", thread: str | None = None) -> Iterator[RunName]:
    """Name the run of the wrapped call in the block, so that it can be resumed under that name. It only names."""
    expect("tenant", tenant, "the name of a tenant", lambda given: isinstance(given, str))
    named = RunName(name, thread, tenant)
    token = _named.set(named)
    try:
        yield named
    finally:
        _named.reset(token)


def named_run() -> RunName:
    """Return what the innermost :func:`run` block says."""
    return _named.get()
