"""Putting breakers and bulkheads around a guard."""

from __future__ import annotations

from surefoot import Guard, UsageError
from surefoot_recovery.breaker import Breaker, Breakers
from surefoot_recovery.bulkhead import Bulkhead, Bulkheads

__all__ = ["protect"]


def protect(guard: Guard, *by: Breaker | Bulkhead) -> Guard:
    """Let breakers and bulkheads decide about every call of a guard from now on; return the guard.

    .. code-block:: python

        guard = protect(Guard(store), Breaker("github", "github_*"), Bulkhead("browser", 4, "browse_*", per="tenant"))
        agent = surefoot.wrap(agent, guard=guard)

    All processes that say the same share one state. Raises :class:`~surefoot.UsageError` for two of one name, or something else.
    """
    breakers = [one for one in by if isinstance(one, Breaker)]
    pools = [one for one in by if isinstance(one, Bulkhead)]
    names = [one.dependency for one in breakers], [one.name for one in pools]
    if len(breakers) + len(pools) != len(by) or any(len(set(given)) != len(given) for given in names):
        raise UsageError("protect(guard, ...) takes breakers and bulkheads, each with a name of its own")
    if breakers:
        gate = Breakers(guard, breakers)
        guard.admissions.append(gate)
        if any(breaker.ping for breaker in breakers):
            guard.gates.append(gate)
    if pools:
        guard.admissions.append(Bulkheads(guard, pools))
    return guard
