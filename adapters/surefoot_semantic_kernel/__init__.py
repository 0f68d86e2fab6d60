"""Semantic Kernel adapter: ``surefoot.wrap(kernel)`` for a ``Kernel``, ``surefoot.wrap(agent)`` for an agent.

Both return a guarded object of the same type and leave the original alone. A guarded **kernel** guards what goes through it: functions of
plugins, called by a model, by ``kernel.invoke`` or by steps of a process; prompt functions; its chat services, whose replies are kept. A
guarded **agent** has a guarded kernel, and its invocations are runs: ``get_response``, ``invoke``, ``invoke_stream``, verified before they
are committed. Covered: native, prompt, OpenAPI and MCP functions, agents as plugins, agents that orchestrations run, process steps. Not
covered: services other than chat (wrapping warns of them), replies of agents whose model runs at a provider, hosted tools.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, UsageError, hookimpl

__all__ = ["SemanticKernelAdapter", "surefoot_adapter"]

_KERNEL: Final = "semantic_kernel.kernel.Kernel"
_AGENT: Final = "semantic_kernel.agents.agent.Agent"


class SemanticKernelAdapter(Adapter):
    """Wraps kernels and agents."""

    name = "semantic-kernel"
    capabilities = Capabilities(copies=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is a kernel or an agent, importing nothing."""
        from surefoot_adapters import kinds_of

        return not {_KERNEL, _AGENT}.isdisjoint(kinds_of(target))

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded one (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import kinds_of, warn
        from surefoot_semantic_kernel import _support

        _support.framework.ready()
        from surefoot_semantic_kernel import _agents, _kernels

        is_agent = _AGENT in kinds_of(target)
        wrapped = _agents.guarded(target, guard) if is_agent else _kernels.guarded(target, guard)
        what = f"agent {_agents.name_of(target)}" if is_agent else "the kernel"
        guard.announce(what)
        if unguarded := _kernels.unguarded(wrapped.kernel if is_agent else wrapped):
            warn(f"{what}: replies of services that are no chat services are not kept ({', '.join(unguarded)})", guard)
        return wrapped

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of a kernel or an agent (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(type(target), "surefoot_guard", None)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Run an agent with a recorded input, in a loop of its own (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        from surefoot_adapters import kinds_of
        from surefoot_semantic_kernel import _convert

        if _AGENT not in kinds_of(target):
            raise UsageError("a run of a kernel is replayed by its own code: run that in surefoot_journal.offline(guard, run_id)")
        return str(asyncio.run(target.get_response(_convert.given(given))).message)


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return SemanticKernelAdapter()
