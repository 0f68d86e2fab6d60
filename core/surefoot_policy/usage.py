"""What models used: counted for the limits, and attributed to run, step and model."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot import UsageError
from surefoot.engine.frames import Frame, current_call, current_step, here, innermost
from surefoot.engine.program import Tx
from surefoot_policy.scopes import MICRO, SCOPES, scope_of

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.engine.unit import Unit

__all__ = ["Used", "cost", "record"]

_USAGE: Final = "usage"
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


def record(*, model: str = "", input_tokens: int | None = None, output_tokens: int | None = None, cost_usd: float | None = None) -> None:
    """Count one reply of a model in the run that this code is in.

    Without ``cost_usd`` the prices of the policy count. What is not known is left out, and counts nothing. Raises
    :class:`~surefoot.UsageError` outside of any run.
    """
    frame = innermost(here())
    if frame is None:
        raise UsageError("there is no run here whose usage this could be; record it where the model is called")
    guard = frame.run.guard
    read, written = (max(0, int(given or 0)) for given in (input_tokens, output_tokens))
    spent = _price(guard, model, read, written) if cost_usd is None else max(0.0, cost_usd)
    call, step = current_call(), current_step()
    run = frame.run.record
    place = (run.run_id, run.tenant, run.thread, step.name if step is not None else "", call.tool if call is not None else "")
    guard.transact(Tx(partial(_add, frame=frame, used=Used(*place, model, 1, read, written, spent))))


def cost(guard: Guard, run_id: str) -> Sequence[Used]:
    """Return what a run used, by step, tool and model. Raises :class:`~surefoot.NotFound`."""
    guard.runs.show(run_id)
    rows = guard.transact(Tx(lambda unit: unit.records.list(_USAGE, prefix=f"{run_id}/"), write=False))
    return [Used(**row.value) for row in rows]


def _add(unit: Unit, frame: Frame, used: Used) -> None:
    amounts = {"tokens": used.input_tokens + used.output_tokens, "cost_usd": round(used.cost_usd * MICRO)}
    for metric, amount in amounts.items():
        for per in SCOPES if amount else ():
            unit.counters.reserve(f"{metric}/{per}/{scope_of(per, frame)}", amount, None)
    key = f"{used.run_id}/{used.step}/{used.tool}/{used.model}"
    row = unit.records.get(_USAGE, key)
    if row is not None:
        old = Used(**row.value)
        sums = {name: getattr(old, name) + getattr(used, name) for name in ("replies", "input_tokens", "output_tokens", "cost_usd")}
        unit.records.put(_USAGE, key, asdict(replace(used, **sums)))
    else:
        unit.records.put(_USAGE, key, asdict(used))
    told: dict[str, Any] = {"model": used.model, "input_tokens": used.input_tokens, "output_tokens": used.output_tokens}
    unit.emit(used.run_id, "model.used", step=frame.path, **told, cost_usd=used.cost_usd)


def _price(guard: Guard, model: str, read: int, written: int) -> float:
    """Return what a reply costs by the first price of the policy that the model has; 0 where there is none."""
    prices = getattr(getattr(guard.policy, "file", None), "prices", ())
    price = next((price for price in prices if fnmatch.fnmatchcase(model, price.model)), None)
    return (read * price.input + written * price.output) / _PER if price is not None else 0.0
