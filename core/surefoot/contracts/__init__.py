"""What plugs into surefoot: small typed ABCs, each with an in-memory reference implementation."""

from surefoot.contracts.adapter import Adapter, Capabilities
from surefoot.contracts.checkpoint import CheckpointStore
from surefoot.contracts.gate import Admission, Allow, Decision, Deny, Gate, Hold
from surefoot.contracts.ledger import Ledger
from surefoot.contracts.policy import Policy
from surefoot.contracts.store import Counters, EventLog, Leases, Records, Store, Transaction
from surefoot.contracts.verifier import Verifier

__all__ = ["Adapter", "Admission", "Allow", "Capabilities", "CheckpointStore", "Counters", "Decision", "Deny", "EventLog", "Gate", "Hold"]
__all__ += ["Leases", "Ledger", "Policy", "Records", "Store", "Transaction", "Verifier"]
