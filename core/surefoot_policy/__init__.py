"""Policy: what tools may do, what people decide, what may be used up, and the kill switch.

.. code-block:: python

    graph = surefoot.wrap(graph, policy="surefoot.yaml")
    guard.approvals.approve(approval_id, by="maria")
    surefoot_policy.stop(guard, run_id, by="maria")

Everything is decided in the transaction that writes a call's intent, so nothing can come between a decision and what it was about.
Durable state is in the store's records and counters. Importing this package loads no pydantic, no YAML and no CEL.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from surefoot import Policy, hookimpl

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot_policy.approvals import Approval, on_behalf_of
    from surefoot_policy.asking import decided_by
    from surefoot_policy.budgets import Budgets
    from surefoot_policy.expressions import LANGUAGES, Expressions
    from surefoot_policy.grants import Grant
    from surefoot_policy.inbox import Approvals
    from surefoot_policy.load import parse
    from surefoot_policy.plans import DryRun, PlanMismatch
    from surefoot_policy.policy import FilePolicy
    from surefoot_policy.redaction import register_secret
    from surefoot_policy.sandboxes import EXECUTORS, Executor
    from surefoot_policy.stops import release, stop
    from surefoot_policy.usage import cost, record

__all__ = [
    "EXECUTORS",
    "LANGUAGES",
    "Approval",
    "Approvals",
    "Budgets",
    "DryRun",
    "Executor",
    "Expressions",
    "FilePolicy",
    "Grant",
    "PlanMismatch",
]
__all__ += [
    "cost",
    "decided_by",
    "on_behalf_of",
    "parse",
    "record",
    "register_secret",
    "release",
    "stop",
    "surefoot_cli",
    "surefoot_policy",
    "surefoot_view",
]

_HOME: Final = {
    "EXECUTORS": "sandboxes",
    "LANGUAGES": "expressions",
    "Approval": "approvals",
    "Approvals": "inbox",
    "Budgets": "budgets",
    "DryRun": "plans",
    "Executor": "sandboxes",
    "Expressions": "expressions",
    "FilePolicy": "policy",
    "Grant": "grants",
    "PlanMismatch": "plans",
    "cost": "usage",
    "decided_by": "asking",
    "on_behalf_of": "approvals",
    "parse": "load",
    "record": "usage",
    "register_secret": "redaction",
    "release": "stops",
    "stop": "stops",
}
_ENDINGS: Final = (".yaml", ".yml", ".toml", ".json")


def __getattr__(name: str) -> Any:
    """Return a public name from its module, which is imported when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"surefoot_policy.{_HOME[name]}"), name)


@hookimpl
def surefoot_policy(spec: str) -> Policy | None:
    """Read a policy file: YAML, TOML (``pyproject.toml``: its ``[tool.surefoot]``) or JSON."""
    if not spec.endswith(_ENDINGS):
        return None
    policy: Policy = __getattr__("FilePolicy").read(Path(spec))
    return policy


@hookimpl
def surefoot_cli(group: Any) -> None:
    """Add ``approvals``, ``policy``, ``runs stop`` and ``runs cost``."""
    for noun in ("approvals", "policy"):
        group.add_command(getattr(importlib.import_module(f"surefoot_policy.commands.{noun}"), noun))
    for verb in ("cost", "stop"):
        group.commands["runs"].add_command(getattr(importlib.import_module("surefoot_policy.commands.runs"), verb))


@hookimpl
def surefoot_view(name: str, guard: Guard) -> Any:
    """Offer ``guard.approvals``, the admission that keeps ``budget=``, and what the usage of models is told to."""
    if name == "approvals":
        return __getattr__("Approvals")(guard)
    if name == "budget" and guard.budget is not None:
        return __getattr__("Budgets").of(guard.budget)
    if name == "usage":
        return __getattr__("record")
    if name == "spending":
        return importlib.import_module("surefoot_policy.usage").spend
    return None
