"""Microsoft Agent Framework adapter: ``surefoot.wrap(agent)`` for an ``Agent`` of ``agent-framework-core``.

``wrap`` returns a guarded copy of the same type and leaves the original alone. Run it as ever: ``run``, streamed or not. Its client is
a view of the agent's own, which guards the tools of each request and puts a chat middleware innermost. Covered: function tools, tools
of MCP servers, of context providers and those that a tool adds while it runs, approvals, sessions, agents as tools, agents that
workflows run, conversations that lack answers. Not covered: tools that run at the provider (wrapping warns of them), code of executors.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, hookimpl

__all__ = ["AgentFrameworkAdapter", "surefoot_adapter"]

_AGENT: Final = ("agent_framework._agents", "RawAgent")


class AgentFrameworkAdapter(Adapter):
    """Wraps agents."""

    name = "agent-framework-core"
    capabilities = Capabilities(copies=True, sync=False)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is an agent, importing nothing."""
        return any((kind.__module__, kind.__qualname__) == _AGENT for kind in type(target).__mro__)

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded copy (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import warn
        from surefoot_agent_framework import _support

        _support.framework.ready()
        from surefoot_agent_framework import _agents

        wrapped = _agents.guarded(target, guard)
        name = _agents.name_of(target)
        guard.announce(f"agent {name}")
        for sentence in _agents.unguarded(target):
            warn(f"agent {name}: {sentence}", guard)
        return wrapped

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of an agent (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(type(target), "surefoot_guard", None)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Run an agent with a recorded input, in a loop of its own (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        from surefoot_agent_framework import _convert

        async def whole() -> Any:
            return await target.run(_convert.given(given))

        return asyncio.run(whole()).text


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return AgentFrameworkAdapter()
