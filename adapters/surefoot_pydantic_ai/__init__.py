"""Pydantic AI adapter: ``surefoot.wrap(agent)`` for an ``Agent``, or another agent of the framework.

``wrap`` returns a guarded copy of the same type and leaves the original alone. Run it as ever: ``run``, ``run_sync``,
``run_stream``, ``run_stream_events``, ``iter``. Each run is given one capability more, the innermost; it puts a toolset around
each toolset and a model around the model. Covered: function tools, toolsets of MCP servers and of others, deferred tools and
approvals, replies of the model, agents that tools run, conversations that lack answers. Not covered: native tools (they run at
the provider; wrapping warns of them), realtime sessions (refused), functions that are no tools: output functions, validators, hooks.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, hookimpl

__all__ = ["PydanticAIAdapter", "surefoot_adapter"]

_AGENT: Final = "pydantic_ai.agent.abstract.AbstractAgent"


class PydanticAIAdapter(Adapter):
    """Wraps agents."""

    name = "pydantic-ai-slim"
    capabilities = Capabilities(copies=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is an agent, importing nothing."""
        from surefoot_adapters import kinds_of

        return _AGENT in kinds_of(target)

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded copy (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import warn
        from surefoot_pydantic_ai import _support

        _support.framework.ready()
        from surefoot_pydantic_ai import _agents

        wrapped = _agents.guarded(target, guard)
        guard.announce(f"agent {_agents.name_of(target)}")
        if unguarded := _agents.unguarded(target):
            named = ", ".join(unguarded)
            warn(f"agent {_agents.name_of(target)}: its native tools run at the provider and cannot be guarded ({named})", guard)
        return wrapped

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of an agent (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(type(target), "surefoot_guard", None)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Run an agent with a recorded input, in a loop of its own (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        from surefoot_pydantic_ai import _convert

        prompt, history = _convert.given(given)
        return asyncio.run(target.run(prompt, message_history=history)).output


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return PydanticAIAdapter()
