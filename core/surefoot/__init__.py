"""surefoot: every step verified before it is committed, every tool call at most once.

.. code-block:: python

    import surefoot

    graph = surefoot.wrap(graph)
"""

from surefoot._api import run, tool, wrap
from surefoot.contracts import Adapter, Admission, Allow, Capabilities, Decision, Deny, Gate, Hold, Policy, Store, Verifier
from surefoot.engine.frames import current_call, current_step
from surefoot.engine.guard import Guard
from surefoot.errors import (
    AdapterUnavailable,
    ApprovalMismatch,
    ApprovalPending,
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
    RunStopped,
    StoreUnavailable,
    SurefootError,
    SurefootWarning,
    ToolFailed,
    UsageError,
    VerificationFailed,
)
from surefoot.hookspecs import hookimpl
from surefoot.redaction import register_secret
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

__all__ = ["Adapter", "AdapterUnavailable", "Admission", "Allow", "ApprovalMismatch", "ApprovalPending", "Budget", "BudgetExceeded"]
__all__ += ["Call", "CallRecord", "CallState", "Capabilities", "Checkpoint", "Decision", "Denied", "Deny", "Effect", "ErrorClass"]
__all__ += ["Event", "Gate", "Guard", "Hold", "InDoubt", "InFlight", "IntegrityError", "KeyConflict", "LeaseLost", "NotCommitted"]
__all__ += ["NotFound", "NotStorable", "Policy", "ResultUnavailable", "Retry", "RunRecord", "RunStatus", "RunStopped", "StepOutput"]
__all__ += ["StepRule", "Store", "StoreUnavailable", "SurefootError", "SurefootWarning", "ToolFailed", "ToolRule", "UsageError"]
__all__ += ["Verdict", "VerdictStatus", "VerificationFailed", "Verifier", "current_call", "current_step", "happened", "hookimpl"]
__all__ += ["not_seen", "register_secret", "run", "tool", "will_not_happen", "wrap"]
