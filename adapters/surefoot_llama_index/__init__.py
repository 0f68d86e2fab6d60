"""LlamaIndex adapter: ``surefoot.wrap(agent)`` for an agent, an ``AgentWorkflow`` or a ``Workflow``, ``guard.tool(tool)`` for one tool.

``wrap`` returns a guarded copy and leaves the original alone; run it as ever: ``await agent.run(…)``, ``handler.stream_events()``,
``handler.ctx``. Covered: function tools and every other ``BaseTool``, tools of a retriever, hand-offs, questions to a person
(``ctx.wait_for_event``), snapshots of a context, replies of the model. Not covered: workflows that a step or a tool makes and
nobody wraps, query and chat engines called by themselves, structured output that a model is asked for beside the conversation.
"""

from __future__ import annotations

from typing import Any, Final

from surefoot import Adapter, Capabilities, Guard, RunRecord, hookimpl

__all__ = ["LlamaIndexAdapter", "surefoot_adapter"]

_WORKFLOW: Final = "workflows.workflow.Workflow"
_TOOL: Final = "llama_index.core.tools.types.BaseTool"


class LlamaIndexAdapter(Adapter):
    """Wraps agents, workflows and tools of LlamaIndex."""

    name = "llama-index-core"
    capabilities = Capabilities(copies=True)

    def matches(self, target: object) -> bool:
        """Return whether ``target`` is a workflow, which every agent is, or a tool, importing nothing."""
        from surefoot_adapters import kinds_of

        return not {_WORKFLOW, _TOOL}.isdisjoint(kinds_of(target))

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return the guarded copy (see :meth:`surefoot.Adapter.wrap`)."""
        from surefoot_adapters import kinds_of
        from surefoot_llama_index import _support

        _support.framework.ready()
        from surefoot_llama_index import _agents

        binding = _agents.bound(guard)
        if _TOOL in kinds_of(target):
            return binding.tool(target)
        wrapped = binding.workflow(target)
        guard.announce(f"workflow {wrapped.runtime.title(wrapped)}")
        return wrapped

    def guard_of(self, target: Any) -> Guard | None:
        """Return the guard of a workflow (see :meth:`surefoot_journal.Replays.guard_of`)."""
        return getattr(getattr(target, "_runtime", None), "guard", None)

    def again(self, target: Any, run: RunRecord, given: Any) -> object:  # noqa: ARG002 - the input says it all
        """Run a workflow with a recorded input, in a loop of its own (see :meth:`surefoot_journal.Replays.again`)."""
        import asyncio

        async def whole() -> object:
            return await target.run(start_event=target.start_event_class(**given))

        return asyncio.run(whole())


@hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter."""
    return LlamaIndexAdapter()
