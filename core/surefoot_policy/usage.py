"""What models used: counted for the limits, and attributed to run, step and model."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot import UsageError
from surefoot.engine.frames import Frame, current_call, here, innermost
from surefoot.engine.key import quote
from surefoot.engine.program import Tx
from surefoot_policy.prices import listed
from surefoot_policy.scopes import MICRO, SCOPES, scope_of

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.engine.unit import Unit

__all__ = ["GROUPS", "Used", "cost", "grouped", "record", "spend"]

_USAGE: Final = "usage"
GROUPS: Final = ("run_id", "agent", "step", "tool", "model", "tenant")
"""What can be asked for: what was used by each of these."""
_SUMS: Final = ("replies", "input_tokens", "output_tokens", "cost_usd")
_MOST: Final = 10**9
"""No reply uses more; what says so is broken."""
_PER: Final = 1_000_000
"""Tokens that a price is for."""


@dataclass(frozen=True, slots=True)
class Used:
    """What the replies of one model used in one step of a run, or in one tool that the step called."""

    run_id: str
    tenant: str
    thread: str | None
    step: str
    tool: str
    model: str
    replies: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    agent: str = ""
    """Who asked the model; where nobody says, the outermost step that it was in."""

    def __add__(self, other: Used) -> Used:
        """Return this with the sums of both."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in _SUMS})


def record(
    *, model: str = "", input_tokens: int | None = None, output_tokens: int | None = None, cost_usd: float | None = None, agent: str = ""
) -> None:
    """Count one reply of a model in the run that this code is in.

    Without ``cost_usd`` the prices of the policy count, then those of :mod:`surefoot_policy.prices`. What is not known is left out,
    and counts nothing. Raises
    :class:`~surefoot.UsageError` outside of any run.
    """
    frame = innermost(here())
    if frame is None:
        raise UsageError("there is no run here whose usage this could be; record it where the model is called")
    call = current_call()
    told: dict[str, Any] = {"model": model, "agent": agent, "tool": call.tool if call is not None else ""}
    told |= {"input_tokens": input_tokens, "output_tokens": output_tokens, "cost_usd": cost_usd}
    frame.run.guard.transact(Tx(partial(spend, frame=frame, **told)))


def spend(
    unit: Unit,
    frame: Frame,
    *,
    model: str = "",
    agent: str = "",
    tool: str = "",
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cost_usd: float | None = None,
) -> None:
    """Count one reply of a model in a step, in the transaction that makes the reply durable."""
    model, agent = (str(name or "").encode("utf-8", "backslashreplace").decode() for name in (model, agent))
    read, written = (int(_known(given) or 0) for given in (input_tokens, output_tokens))
    spent = _known(cost_usd)
    spent = min(_MOST, _price(frame.run.guard, model, read, written)) if spent is None else spent
    run, names = frame.run.record, [around.name for around in frame.chain() if around.name]
    step, asks = (names[0], agent or names[-1]) if names else ("", agent)
    place = (run.run_id, run.tenant, run.thread, step, tool, unit.clean(model))
    _add(unit, frame, Used(*place, 1, read, written, spent, unit.clean(asks)))


def _known(given: Any) -> float | None:
    """Return an amount that somebody reported, ``None`` for what is none: missing or broken usage stops nothing (AS-36)."""
    try:
        return max(0.0, float(given)) if math.isfinite(given) and given <= _MOST else None
    except (TypeError, ValueError, OverflowError):
        return None


def cost(guard: Guard, run_id: str | None = None) -> Sequence[Used]:
    """Return what a run used, by agent, step, tool and model; of all runs without its id. Raises :class:`~surefoot.NotFound`."""
    if run_id is not None:
        guard.runs.show(run_id)
    return guard.transact(Tx(partial(_used, prefix=f"{run_id}/" if run_id is not None else ""), write=False))  # type: ignore[no-any-return]


def grouped(used: Iterable[Used], *by: str) -> Sequence[Used]:
    """Return what was used by each of these (see :data:`GROUPS`), the most expensive first; what is not asked for is left empty."""
    found: dict[tuple[Any, ...], Used] = {}
    left: dict[str, Any] = {name: "" for name in GROUPS if name not in by}
    for one in used:
        key = tuple(getattr(one, name) for name in by)
        found[key] = found[key] + one if key in found else replace(one, **left)
    return sorted(found.values(), key=lambda one: (-one.cost_usd, -one.input_tokens - one.output_tokens))


def _used(unit: Unit, prefix: str) -> Sequence[Used]:
    found, after = list[Used](), None
    while page := unit.records.list(_USAGE, prefix=prefix, after=after, limit=1000):
        after = page[-1].key
        found += [Used(**row.value) for row in page]
    return found


def _add(unit: Unit, frame: Frame, used: Used) -> None:
    amounts = {"tokens": used.input_tokens + used.output_tokens, "cost_usd": round(used.cost_usd * MICRO)}
    for metric, amount in amounts.items():
        for per in SCOPES if amount else ():
            unit.counters.reserve(f"{metric}/{per}/{scope_of(per, frame)}", amount, None)
    key = "/".join([used.run_id, *map(quote, (used.step, used.tool, used.model, used.agent))])
    row = unit.records.get(_USAGE, key)
    unit.records.put(_USAGE, key, asdict(Used(**row.value) + used if row is not None else used))
    told: dict[str, Any] = {"model": used.model, "agent": used.agent, "cost_usd": used.cost_usd}
    told |= {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens}
    unit.emit(used.run_id, "model.used", step=frame.path, **told)


def _price(guard: Guard, model: str, read: int, written: int) -> float:
    """Return what a reply costs by the first price of the policy that the model has, else by the list; 0 where there is none."""
    own = getattr(getattr(guard.policy, "file", None), "prices", ())
    price = next(((price.input, price.output) for price in own if fnmatch.fnmatchcase(model, price.model)), None) or listed(model, read)
    return (read * price[0] + written * price[1]) / _PER if price is not None else 0.0
