"""Fixtures of the AutoGen tests, which are skipped where the framework is not installed."""

from __future__ import annotations

import importlib.util

MISSING = importlib.util.find_spec("autogen_agentchat") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []
