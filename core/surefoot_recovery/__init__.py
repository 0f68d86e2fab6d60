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
    from surefoot_recovery.fork import Branches, Forked, fork
    from surefoot_recovery.plan import Item, Plan
    from surefoot_recovery.rollback import Rewinds, RollbackRefused, Undone, rollback
    from surefoot_recovery.scope import undone_on_failure

__all__ = ["Branches", "Forked", "Item", "Plan", "Rewinds", "RollbackRefused", "Undone"]
__all__ += ["fork", "rollback", "surefoot_cli", "surefoot_view", "undone_on_failure"]

_HOME: Final = {
    "Branches": "fork",
    "Forked": "fork",
    "Item": "plan",
    "Plan": "plan",
    "Rewinds": "rollback",
    "RollbackRefused": "rollback",
    "Undone": "rollback",
    "fork": "fork",
    "rollback": "rollback",
    "undone_on_failure": "scope",
}


def __getattr__(name: str) -> Any:
    """Return a public name from its module, which is imported when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"surefoot_recovery.{_HOME[name]}"), name)


@hookimpl
def surefoot_cli(group: Any) -> None:
    """Add ``runs rollback`` and ``runs fork``."""
    commands = importlib.import_module("surefoot_recovery.commands")
    for verb in ("rollback", "fork"):
        group.commands["runs"].add_command(getattr(commands, verb))


@hookimpl
def surefoot_view(name: str, guard: Guard) -> Any:
    """Offer ``guard.runs.rollback`` and ``guard.runs.fork``."""
    if name in {"rollback", "fork"}:
        return partial(getattr(importlib.import_module(f"surefoot_recovery.{name}"), name), guard)
    return None
