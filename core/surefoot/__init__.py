"""surefoot: every step verified before it is committed, every tool call at most once.

.. code-block:: python

    import surefoot

    graph = surefoot.wrap(graph)
"""

from surefoot._api import run, tool, wrap
from surefoot.contracts import Adapter, Allow, Capabilities, Decision, Deny, Gate, Hold, Policy, Store, Verifier
from surefoot.engine.frames import current_call, current_step
from surefoot.engine.guard import Guard
from surefoot.errors import (
    AdapterUnavailable,
    BudgetExceeded,
    Denied,
    InDoubt,
    InFlight,
    IntegrityError,
    KeyConflict,
    LeaseLost,
    NotCommitted,
    NotFound,
    NotStorable,
    ResultUnavailable,
    StoreUnavailable,
    SurefootError,
    SurefootWarning,
    ToolFailed,
    UsageError,
    VerificationFailed,
)
from surefoot.hookspecs import hookimpl
from surefoot.types import (
    Budget,
    Call,
    CallRecord,
    CallState,
    Checkpoint,
    Effect,
    ErrorClass,
    Event,
    Retry,
    RunRecord,
    RunStatus,
    StepOutput,
    StepRule,
    ToolRule,
    Verdict,
    VerdictStatus,
    happened,
    not_seen,
    will_not_happen,
)

__all__ = [
    "Adapter",
    "AdapterUnavailable",
    "Allow",
    "Budget",
    "BudgetExceeded",
    "Call",
    "CallRecord",
    "CallState",
    "Capabilities",
    "Checkpoint",
    "Decision",
    "Denied",
    "Deny",
    "Effect",
    "ErrorClass",
    "Event",
    "Gate",
    "Guard",
    "Hold",
    "InDoubt",
    "InFlight",
    "IntegrityError",
    "KeyConflict",
    "LeaseLost",
    "NotCommitted",
    "NotFound",
    "NotStorable",
    "Policy",
    "ResultUnavailable",
    "Retry",
    "RunRecord",
    "RunStatus",
    "StepOutput",
    "StepRule",
    "Store",
    "StoreUnavailable",
    "SurefootError",
    "SurefootWarning",
    "ToolFailed",
    "ToolRule",
    "UsageError",
    "Verdict",
    "VerdictStatus",
    "VerificationFailed",
    "Verifier",
    "current_call",
    "current_step",
    "happened",
    "hookimpl",
    "not_seen",
    "run",
    "tool",
    "will_not_happen",
    "wrap",
]
import logging as _logging

_logging.getLogger("surefoot").addHandler(_logging.NullHandler())
