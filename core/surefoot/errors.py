"""Every error that surefoot raises.

::

    SurefootError
    ├── InDoubt                an effect may have happened; nobody can know yet
    ├── KeyConflict            one business key, two different requests
    ├── InFlight               the same call or thread is busy elsewhere
    ├── Denied                 a gate said no
    │   ├── ApprovalPending    a person has to decide first
    │   ├── ApprovalMismatch   a person has decided about something else
    │   ├── BudgetExceeded     the limit is used up
    │   └── RunStopped         somebody has stopped the run
    ├── VerificationFailed     no attempt of a step passed its verifier
    ├── LeaseLost              a newer entry of this run or step has taken over
    ├── StoreUnavailable       the ledger cannot be read or written
    ├── IntegrityError         stored data or a transition is not what it must be
    ├── AdapterUnavailable     no adapter, or its framework is missing or unsupported
    ├── ResultUnavailable      an effect is committed, its value could not be stored
    ├── NotFound               no such run, call or plugin
    └── UsageError             surefoot was called in a way that cannot work
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar


class SurefootError(Exception):
    """Root of every error that surefoot raises.

    ``code`` is a stable machine-readable name, ``exit_code`` what the command line exits with.
    ``call_id`` and ``run_id`` name what it is about, where there is such a thing.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, call_id: str | None = None, run_id: str | None = None) -> None:
        super().__init__(message)
        self.call_id = call_id
        self.run_id = run_id


class InDoubt(SurefootError):
    """An effect may or may not have happened, and the run is held until someone settles it (I4)."""

    code = "in_doubt"
    exit_code = 7


class KeyConflict(SurefootError):
    """The same business key was used for a request with other arguments (AS-16, I5)."""

    code = "key_conflict"
    exit_code = 6


class InFlight(SurefootError):
    """The same call, or another invocation of the same thread, is still running (AS-05)."""

    code = "in_flight"
    exit_code = 12


class Denied(SurefootError):
    """A gate refused the call before its body was entered."""

    code = "denied"
    exit_code = 4


class ApprovalPending(Denied):
    """A person has to decide about the call first; it runs when the run is resumed after that (AS-38).

    ``cards`` say what is to be decided: approval id → tool, arguments, digest and what else a person should see.
    """

    code = "approval_pending"
    exit_code = 5
    cards: Mapping[str, Any] = MappingProxyType({})


class ApprovalMismatch(Denied):
    """What a person approved is not what would run: other arguments, another definition of the tool (AS-07, AS-10, I14)."""

    code = "approval_mismatch"


class BudgetExceeded(Denied):
    """The call would exceed a limit; nothing ran (AS-34, I12).

    ``stop_reason`` says which one, for machines: the limit's name, its scope, how much of it there was and was used.
    """

    code = "budget_exceeded"
    exit_code = 11
    stop_reason: Mapping[str, Any] = MappingProxyType({})


class RunStopped(Denied):
    """Somebody has stopped the run, its tenant or everything; no effect starts until it is released (``surefoot runs stop``)."""

    code = "run_stopped"


class VerificationFailed(SurefootError):
    """No attempt of a step passed its verifier; the last committed state stands."""

    code = "verification_failed"
    exit_code = 10


class LeaseLost(SurefootError):
    """A newer entry has taken over; this one may claim and commit nothing more (I9)."""

    code = "lease_lost"
    exit_code = 12


class StoreUnavailable(SurefootError):
    """The store cannot be opened, read or written; no effect starts without it (I34)."""

    code = "store_unavailable"
    exit_code = 9


class IntegrityError(SurefootError):
    """Stored data, or a transition asked of it, is not what the contract allows."""

    code = "integrity"
    exit_code = 8


class AdapterUnavailable(SurefootError):
    """No adapter handles this object, or its framework is missing, unsupported or unguardable (AS-59)."""

    code = "adapter_unavailable"


class ResultUnavailable(SurefootError):
    """The effect is committed, but its value could not be stored and so cannot be replayed (AS-78)."""

    code = "result_unserialisable"


class NotFound(SurefootError):
    """No run, call, step or plugin has that name."""

    code = "not_found"
    exit_code = 3


class UsageError(SurefootError):
    """surefoot was asked for something that cannot work; the message says what to do instead."""

    code = "usage"
    exit_code = 2


class NotCommitted(Exception):
    """Raise it in a tool to state that its effect did *not* happen, so the call may run again (AS-22).

    It is the tool's own exception, not surefoot's: it passes through to the framework like any other.
    """


class ToolFailed(Exception):
    """A recorded error of a tool, replayed where its class cannot be named in this process.

    ``kind`` is the recorded class name. Nothing is imported to find it (I24).
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind = kind


class NotStorable(ValueError):
    """A value has no data-only form. ``path`` (``$.a[1].b``) and ``kind`` say which part (AS-78)."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(f"cannot store {kind} at {path}: register a converter for it or return plain data")
        self.path = path
        self.kind = kind


class SurefootWarning(UserWarning):
    """Something works, but not as well as one declaration more would make it."""
