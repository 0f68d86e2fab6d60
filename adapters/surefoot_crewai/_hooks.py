"""The user's own tool hooks in a run: one that raises blocks the call. CrewAI by itself goes on without it."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from crewai.hooks import tool_hooks

from surefoot_adapters import here

__all__ = ["fail_closed"]

_log = logging.getLogger("surefoot.crewai")


def fail_closed() -> None:
    """Make every registered ``before_tool_call`` hook one that blocks what it could not judge (I16)."""
    hooks: list[Any] = tool_hooks._before_tool_call_hooks  # noqa: SLF001 - owner: test_private_names
    for index, hook in enumerate(hooks):
        if not isinstance(hook, _Closed):
            hooks[index] = _Closed(hook)


class _Closed:
    """A hook that blocks where it raises; elsewhere, and for who removes it, it is the hook itself."""

    def __init__(self, hook: Callable[[Any], Any]) -> None:
        functools.update_wrapper(self, hook)
        self._hook = hook

    def __call__(self, context: Any) -> Any:
        try:
            return self._hook(context)
        except Exception as exc:
            if here() is None or type(exc).__name__ == "HookAborted":
                raise
            name = getattr(self._hook, "__name__", type(self._hook).__name__)
            _log.warning("the hook %s raised %s: %s is not executed", name, type(exc).__name__, context.tool_name)
            return False

    def __eq__(self, other: object) -> bool:
        return self._hook == (other._hook if isinstance(other, _Closed) else other)

    def __hash__(self) -> int:
        return hash(self._hook)
