"""The checks, by what they look at. Importing this package fills the table."""

from surefoot_conformance.checks import (
    concurrent,
    crash,
    failures,
    position,
    replays,
    requests,
    rollback,
    store,
    store_shared,
    transparent,
    verifier,
)

__all__ = ["concurrent", "crash", "failures", "position", "replays", "requests", "rollback", "store", "store_shared", "transparent"]
__all__ += ["verifier"]
