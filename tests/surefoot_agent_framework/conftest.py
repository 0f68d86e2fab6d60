"""Fixtures of the Microsoft Agent Framework tests, which are skipped where the framework is not installed."""

from __future__ import annotations

import importlib.util

MISSING = importlib.util.find_spec("agent_framework") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []
