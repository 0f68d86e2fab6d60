"""Fixtures of the MCP adapter's tests, which are skipped where the SDK is not installed."""

from __future__ import annotations

import importlib.util

MISSING = importlib.util.find_spec("mcp") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []
