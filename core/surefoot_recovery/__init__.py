"""Recovery: undo what a run did, branch off it, stop asking what is down, set aside what crashes.

.. code-block:: python

    print(guard.runs.rollback(run_id, to="draft", plan=True, by="maria"))  # what would be undone, and what cannot be
    guard.runs.rollback(run_id, to="draft", by="maria")
    guard.runs.fork(run_id, at="draft", name="invoice-7b", by="maria")

Everything durable is in the ledger, the checkpoints and the store's records. Importing this package loads no click.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from surefoot import hookimpl

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot_recovery.branching import Branches, Forked, fork
    from surefoot_recovery.breaker import Breaker, BreakerOpen
    from surefoot_recovery.bulkhead import Bulkhead, BulkheadFull
    from surefoot_recovery.plan import Item, Plan
    from surefoot_recovery.poison import Quarantined, quarantined, released
    from surefoot_recovery.protecting import Diagnosis, protect
    from surefoot_recovery.scope import undone_on_failure
    from surefoot_recovery.undoing import Rewinds, RollbackRefused, Undone, rollback

__all__ = [
    "Branches",
    "Breaker",
    "BreakerOpen",
    "Bulkhead",
    "BulkheadFull",
    "Diagnosis",
    "Forked",
    "Item",
    "Plan",
    "Quarantined",
    "Rewinds",
    "RollbackRefused",
    "Undone",
]
__all__ += ["fork", "protect", "quarantined", "released", "rollback", "surefoot_cli", "surefoot_view", "undone_on_failure"]

_HOME: Final = {
    "Branches": "branching",
    "Breaker": "breaker",
    "BreakerOpen": "breaker",
    "Bulkhead": "bulkhead",
    "BulkheadFull": "bulkhead",
    "Diagnosis": "protecting",
    "Forked": "branching",
    "Item": "plan",
    "Plan": "plan",
    "Quarantined": "poison",
    "Rewinds": "undoing",
    "RollbackRefused": "undoing",
    "Undone": "undoing",
    "fork": "branching",
    "protect": "protecting",
    "quarantined": "poison",
    "released": "poison",
    "rollback": "undoing",
    "undone_on_failure": "scope",
}


def __getattr__(name: str) -> Any:
    """Return a public name from its module, which is imported when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"surefoot_recovery.{_HOME[name]}"), name)


@hookimpl
def surefoot_cli(group: Any) -> None:
    """Add ``runs rollback``, ``fork``, ``quarantined`` and ``release``."""
    commands = importlib.import_module("surefoot_recovery.commands")
    for verb in ("rollback", "fork", "quarantined", "release"):
        group.commands["runs"].add_command(getattr(commands, verb))


@hookimpl
def surefoot_view(name: str, guard: Guard) -> Any:
    """Offer ``guard.runs.rollback`` and ``guard.runs.fork``, and the breakers of ``wrap(breaker=)``."""
    if name == "breaker":
        return importlib.import_module("surefoot_recovery.protecting").breakers(guard)
    if name in {"rollback", "fork"}:
        return partial(__getattr__(name), guard)
    return None
