"""Fixtures of the OpenAI Agents tests, which are skipped where the framework is not installed."""

from __future__ import annotations

import importlib.util

MISSING = importlib.util.find_spec("agents") is None
collect_ignore_glob = ["test_*.py"] if MISSING else []

if not MISSING:
    from agents import set_tracing_disabled

    set_tracing_disabled(disabled=True)
