"""Putting breakers, bulkheads and diagnoses around a guard."""

from __future__ import annotations

from surefoot import Guard, UsageError
from surefoot.types import expect
from surefoot_adapters.diagnosis import Diagnosis, diagnose
from surefoot_recovery.breaker import Breaker, Breakers
from surefoot_recovery.bulkhead import Bulkhead, Bulkheads

__all__ = ["Diagnosis", "breakers", "protect"]


def protect(guard: Guard, *by: Breaker | Bulkhead | Diagnosis) -> Guard:
    """Let breakers and bulkheads decide about every call of a guard, and steps look at themselves, from now on; return the guard.

    .. code-block:: python

        guard = protect(Guard(store), Breaker("github", "github_*"), Bulkhead("browser", 4, "browse_*", per="tenant"))
        agent = surefoot.wrap(agent, guard=guard)

    All processes that say the same share one state. Raises :class:`~surefoot.UsageError` for two of one name, or something else.
    """
    breakers = [one for one in by if isinstance(one, Breaker)]
    pools = [one for one in by if isinstance(one, Bulkhead)]
    looks = [one for one in by if isinstance(one, Diagnosis)]
    names = [one.dependency for one in breakers], [one.name for one in pools], [one.steps for one in looks]
    if len(breakers) + len(pools) + len(looks) != len(by) or any(len(set(given)) != len(given) for given in names):
        raise UsageError("protect(guard, ...) takes breakers, bulkheads and diagnoses, each with a name of its own")
    if breakers:
        guard.admissions.append(_at_work(guard, breakers))
    diagnose(guard, *looks)
    if pools:
        guard.admissions.append(Bulkheads(guard, pools))
    return guard


def breakers(guard: Guard) -> Breakers:
    """Return the breakers of ``wrap(breaker=)``. Raises :class:`~surefoot.UsageError` for something else than a breaker."""
    expect("breaker", guard.breaker, "a surefoot_recovery.Breaker, like Breaker(failures=3)", lambda given: isinstance(given, Breaker))
    return _at_work(guard, [guard.breaker])


def _at_work(guard: Guard, given: list[Breaker]) -> Breakers:
    made = Breakers(guard, given)
    if any(breaker.ping for breaker in given):
        guard.gates.append(made)
    return made
