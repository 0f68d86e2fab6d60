"""Conformance: certify an adapter, a store or a verifier, yours or ours.

Write a harness, which says how the thing is built and nothing about what is right, and run ``surefoot certify``.
Importing this package imports the standard library only.
"""

from surefoot_conformance.harness import Agent, Ask, Harness, Reply, Site, Tool, Turn
from surefoot_conformance.judges import VerifierHarness
from surefoot_conformance.keepers import Oracle, StoreHarness

__all__ = ["Agent", "Ask", "Harness", "Oracle", "Reply", "Site", "StoreHarness", "Tool", "Turn", "VerifierHarness"]
