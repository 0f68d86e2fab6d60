"""Agents and workflows: a guarded copy, with the tools and models that it has."""

from __future__ import annotations

import copy
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.tools import BaseTool
from workflows.runtime.types.results import WaitingForEvent
from workflows.workflow import Workflow

from surefoot import Guard
from surefoot_adapters import Copies, Kinds, each_guard, is_guarded, view
from surefoot_llama_index import _convert, _models, _tools
from surefoot_llama_index._runs import Known
from surefoot_llama_index._runtime import GuardRuntime

__all__ = ["Binding", "bound"]


class Binding:
    """What a guard has made of this framework's objects."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.known: dict[str, Known] = {}
        """Tools by the name that the model calls them."""
        self._retrievers = Kinds(self._retriever)
        self._copies = Copies()
        _convert.register(guard.codec)
        guard.control_flow(WaitingForEvent)

    def tool(self, tool: Any) -> Any:
        """Return the guarded copy of a tool, the same one each time; of a guarded one, itself."""
        mine = self._copies.get(tool)
        if mine is None and (mine := _tools.guarded(tool, self.guard)) is not tool:
            self._copies.put(tool, mine)
        self.known[mine.metadata.get_name()] = vars(mine)["surefoot_known"]
        return mine

    def workflow(self, workflow: Workflow) -> Any:
        """Return the guarded copy of a workflow; of a guarded one, itself.

        Raises :class:`~surefoot.UsageError` for one that another guard has.
        """
        known = getattr(workflow.runtime, "guard", None)
        if is_guarded(known, self.guard, f"this {type(workflow).__name__}"):
            return workflow
        mine: Any = copy.copy(workflow)
        if isinstance(workflow, AgentWorkflow):
            mine.agents = {name: self._agent(agent) for name, agent in workflow.agents.items()}
        elif isinstance(workflow, BaseWorkflowAgent):
            mine = self._agent(workflow)
        # The copy has not been launched. Owner: test_private_names.
        vars(mine).update(_runtime_locked=False, _runtime=GuardRuntime(workflow.runtime, self))
        mine.runtime.track_workflow(mine)
        return mine

    def _agent(self, agent: Any) -> Any:
        """Return a copy of an agent with guarded parts."""
        mine = copy.copy(agent)
        if mine.tools:
            vars(mine)["tools"] = [self.tool(tool) for tool in mine.tools]
        mine.llm = _models.guarded(mine.llm)
        if mine.tool_retriever is not None:
            mine.tool_retriever = view(mine.tool_retriever, self._retrievers)
        return mine

    def _retriever(self, kind: type) -> dict[str, Any]:
        """Return what the retriever of an agent's tools does otherwise: it gives guarded ones."""
        bare: Any = kind

        async def aretrieve(retriever: Any, query: Any) -> list[Any]:
            before = len(self.known)
            found = [self.tool(tool) if isinstance(tool, BaseTool) else tool for tool in await bare.aretrieve(retriever, query)]
            if len(self.known) > before:
                self.guard.announce("a tool retriever")
            return found

        return {"aretrieve": aretrieve}


bound = each_guard(Binding)
