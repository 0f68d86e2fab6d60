"""OpenAI Agents adapter: ``surefoot.wrap(agent)`` for an ``Agent``, ``guard.tool(tool)`` for a ``FunctionTool`` called in code.

``wrap`` returns a guarded copy, hand-off targets and agents used as tools included, and leaves the originals alone. Run it as
ever: ``Runner.run``, ``run_sync``, ``run_streamed``; so that these are seen as runs, the process's default runner gets a front
that lets every other agent through. Covered: function tools, MCP tools, agents as tools, hand-offs, approvals and ``RunState``,
input guardrails, replies of the model. Not covered: hosted tools (they run at the provider), computer, shell, apply-patch and
custom tools (wrapping warns of them), callbacks of hand-offs and hooks.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, hookimpl

__all__ = ["OpenAIAgentsAdapter", "surefoot_adapter"]

_AGENT: Final = "agents.agent.Agent"
_TOOL: Final = "agents.tool.FunctionTool"
_ANY_TURNS: Final = 1_000_000
"""A replay ends where its recording does."""


class OpenAIAgentsAdapter(Adapter):
    """Wraps agents and function tools."""

    name = "openai-agents"
    capabilities = Capabilities(copies=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is an ``Agent`` or a ``FunctionTool``, importing nothing."""
        from surefoot_adapters import kinds_of

        return not {_AGENT, _TOOL}.isdisjoint(kinds_of(target))

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded copy (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import kinds_of, warn
        from surefoot_openai_agents import _support

        _support.framework.ready()
        from surefoot_openai_agents import _agents, _runner

        if _TOOL in kinds_of(target):
            return _agents.bound(guard).tool(target)
        _runner.install()
        wrapped = _agents.bound(guard).agent(target)
        guard.announce(f"agent {target.name}")
        if unguarded := _agents.unguarded(target):
            warn(f"agent {target.name}: {'; '.join(unguarded)}. Nothing can be promised about what they do", guard)
        return wrapped

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of an agent (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(getattr(type(target), "surefoot_binding", None), "guard", None)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Run an agent with a recorded input, in a loop of its own (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        from agents import Runner

        return asyncio.run(Runner.run(target, given, max_turns=_ANY_TURNS)).final_output


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return OpenAIAgentsAdapter()
