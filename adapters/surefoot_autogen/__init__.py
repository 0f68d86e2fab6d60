"""AutoGen adapter: ``surefoot.wrap(agent)`` for an agent or a team of ``autogen-agentchat``, ``guard.tool(tool)`` for one tool.

``wrap`` changes what it is given in place, because agents and teams keep a conversation: whoever has them has the guarded ones. Run
them as ever: ``run``, ``run_stream``, ``on_messages``. Covered: function tools and every other ``BaseTool``, ``AgentTool`` and
``TeamTool``, workbenches (MCP servers too), teams in teams, hand-offs, replies of the models of agents and selectors, saved states.
Not covered: code that a code executor runs outside of a tool (wrapping warns of it), what a person types into a ``UserProxyAgent``.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, hookimpl

__all__ = ["AutoGenAdapter", "surefoot_adapter"]

_RUNNERS: Final = frozenset({"autogen_agentchat.base._chat_agent.ChatAgent", "autogen_agentchat.base._team.Team"})
_TOOL: Final = "autogen_core.tools._base.BaseTool"


class AutoGenAdapter(Adapter):
    """Wraps agents, teams and tools."""

    name = "autogen-agentchat"
    capabilities = Capabilities(copies=False, sync=False)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is an agent, a team or a tool, importing nothing."""
        from surefoot_adapters import kinds_of

        return not (_RUNNERS | {_TOOL}).isdisjoint(kinds_of(target))

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return ``target``, guarded in place (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import kinds_of, warn
        from surefoot_autogen import _support

        _support.framework.ready()
        from surefoot_autogen import _invocation, _reach

        reached = _reach.guarded(target, guard)
        if _TOOL not in kinds_of(target):
            guard.announce(_invocation.name_of(target))
            for name in reached.runs_code:
                warn(f"agent {name}: the code that its executor runs cannot be guarded. Nothing can be promised about what it does", guard)
        return target

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of an agent or a team (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(type(target), "surefoot_guard", None)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Run an agent or a team with a recorded input, in a loop of its own (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        from surefoot_autogen import _convert

        result = asyncio.run(target.run(task=_convert.messages(given) or None))
        return _convert.output(result.messages[-1])


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return AutoGenAdapter()
