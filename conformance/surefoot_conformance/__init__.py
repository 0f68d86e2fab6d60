"""Conformance: certify an adapter, a store or a verifier, yours or ours.

Write a harness, which says how the thing is built and nothing about what is right, and run ``surefoot certify``.
Importing this package imports the standard library only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from surefoot_conformance.harness import Agent, Ask, Harness, Reply, Site, Tool, Turn
    from surefoot_conformance.judges import VerifierHarness
    from surefoot_conformance.keepers import Oracle, StoreHarness

__all__ = ["Agent", "Ask", "Harness", "Oracle", "Reply", "Site", "StoreHarness", "Tool", "Turn", "VerifierHarness"]

_HOME: Final = {"Oracle": "keepers", "StoreHarness": "keepers", "VerifierHarness": "judges"}


def __getattr__(name: str) -> Any:
    """Return a public name from its module, which is imported when it is first asked for: every process loads the plugin in here."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"surefoot_conformance.{_HOME.get(name, 'harness')}"), name)
