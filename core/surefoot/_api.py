"""What users call: wrap an object, declare a tool, name a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from surefoot.contracts import Policy, Store
from surefoot.engine.guard import Guard
from surefoot.errors import UsageError
from surefoot.types import Budget, Effect, Event, Probe, Retry, StepRule, ToolRule

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
    policy: str | Path | Policy | None = None,
    on_event: Callable[[Event], None] | None = None,
    wait: float | None = None,
    strict: bool = False,
    guard: Guard | None = None,
) -> T:
    """Return ``target`` guarded: same type and interface, every step verified, every tool call at most once.

    :param store: URL or store; default ``SUREFOOT_STORE``, else a SQLite file for development.
    :param tools: rules by tool name or pattern. :param reads: patterns of harmless tools, the short form.
    :param steps: rules by step name or pattern. :param retry: for steps that a verifier rejects.
    :param budget: limit on calls. :param policy: a policy, or what a policy plugin reads.
    :param on_event: sees every event after it is durable. :param wait: seconds to wait for a busy thread or call.
    :param strict: refuse the default store, unclassified tools and unnamed runs.
    :param guard: use this guard instead of making one from the other options.

    Raises :class:`~surefoot.AdapterUnavailable` when no adapter can guard the object completely.
    """
    if guard is None:
        spec = str(policy) if isinstance(policy, Path) else policy
        guard = Guard(
            store,
            tools=tools,
            reads=reads,
            steps=steps,
            retry=retry,
            budget=budget,
            policy=spec,
            on_event=on_event,
            wait=wait,
            strict=strict,
        )
    elif tools or reads or steps or store is not None or retry or budget or policy:
        raise UsageError("give either guard= or the options that make one, not both")
    wrapped: T = guard.plugins.adapter_for(target).wrap(target, guard)
    return wrapped


def tool(
    *,
    effect: Effect | Literal["read", "idempotent", "unsafe", "composite", "unclassified"] = Effect.UNCLASSIFIED,
    key: Sequence[str] = (),
    scope: Literal["tenant", "run"] = "tenant",
    probe: Probe | None = None,
    not_committed: tuple[type[BaseException], ...] = (),
) -> Callable[[T], T]:
    """Declare what a tool does; the keywords are those of :class:`~surefoot.ToolRule`.

    Works below a framework's own decorator and above it.
    """
    rule = ToolRule(effect, key, scope, probe, not_committed)

    def mark(target: T) -> T:
        object.__setattr__(target, _RULE, rule)
        return target

    return mark


def declared_rule(*candidates: object) -> ToolRule | None:
    """Return the rule that ``@surefoot.tool`` left on the first of these objects that has one."""
    found = (getattr(candidate, _RULE, None) for candidate in candidates if candidate is not None)
    return next((rule for rule in found if rule is not None), None)


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
    named = RunName(name, thread, tenant)
    token = _named.set(named)
    try:
        yield named
    finally:
        _named.reset(token)


def named_run() -> RunName:
    """Return what the innermost :func:`run` block says."""
    return _named.get()
