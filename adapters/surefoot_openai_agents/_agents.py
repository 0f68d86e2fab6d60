"""Agents: a guarded copy, with everything that it may hand over to or run as a tool."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import weakref
from collections.abc import Iterator
from typing import Any, Final

from agents import Agent, Handoff, InputGuardrail, InputGuardrailResult
from agents.exceptions import InputGuardrailTripwireTriggered
from agents.models.interface import Model
from agents.tool import FunctionTool

from surefoot import Guard
from surefoot_adapters import Copies, Kinds, each_guard, is_guarded
from surefoot_openai_agents import _convert, _models, _tools
from surefoot_openai_agents._invocation import Invocation, Known, invocation, passing

__all__ = ["Binding", "binding_of", "bound", "guarded_guardrail", "unguarded"]

_LOCAL: Final = frozenset({"ComputerTool", "ShellTool", "LocalShellTool", "ApplyPatchTool", "CustomTool"})
_MARK: Final = "surefoot_guardrail"


class Binding:
    """What a guard has made of this framework's objects."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.known: dict[str, Known] = {}
        """Tools by the name that the model calls them."""
        self.paused: set[str] = set()
        """Calls whose inner agent waits for approvals."""
        self._kinds = Kinds(lambda kind: _namespace(kind, self))
        self._copies = Copies()
        _convert.register(guard.codec)
        guard.control_flow(_tools.Paused)

    def agent(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the guarded copy of an agent, the same one each time; of a guarded one, itself.

        Raises :class:`~surefoot.UsageError` for one that another guard has.
        """
        known = binding_of(agent)
        if is_guarded(known.guard if known else None, self.guard, f"agent {agent.name!r}"):
            self._fill(agent)  # a clone of a guarded agent may have been given new parts
            return agent
        mine: Agent[Any] | None = self._copies.get(agent)
        if mine is None:
            mine = self._copies.put(agent, copy.copy(agent))
            mine.__class__ = self._kinds.of(type(agent))
            self._fill(mine)
        return mine

    def _fill(self, mine: Agent[Any]) -> None:
        """Replace the parts of a guarded agent by guarded ones."""
        if isinstance(mine.model, Model):
            mine.model = _models.guarded(mine.model)
        _assign(mine, "tools", [self.tool(tool) for tool in mine.tools])
        _assign(mine, "handoffs", [self._handoff(target) for target in mine.handoffs])
        _assign(mine, "input_guardrails", [guarded_guardrail(guardrail) for guardrail in mine.input_guardrails])

    def tool(self, tool: Any) -> Any:
        """Return the guarded copy of a function tool, the same one each time; other tools as they are."""
        if not isinstance(tool, FunctionTool):
            return tool
        mine = self._copies.get(tool)
        if mine is None and (mine := _tools.guarded(tool, self)) is not tool:
            self._copies.put(tool, mine)
        return mine

    def _handoff(self, target: Any) -> Any:
        if isinstance(target, Agent):
            return target if binding_of(target) is self else self.agent(target)  # a guarded one may lead back here
        if not isinstance(target, Handoff) or hasattr(target.on_invoke_handoff, _MARK):
            return target
        mine = copy.copy(target)
        bare = target.on_invoke_handoff

        @functools.wraps(bare)
        async def on_invoke_handoff(context: Any, text: str) -> Any:
            return self.agent(await bare(context, text))

        setattr(on_invoke_handoff, _MARK, bare)
        mine.on_invoke_handoff = on_invoke_handoff
        named = getattr(target, "_agent_ref", None)  # owner: test_private_names
        if named is not None and (agent := named()) is not None:
            mine._agent_ref = weakref.ref(self.agent(agent))  # noqa: SLF001 - as above
        return mine


bound = each_guard(Binding)


def binding_of(agent: object) -> Binding | None:
    """Return the binding of a guarded agent, ``None`` for another object."""
    return getattr(type(agent), "surefoot_binding", None)


def _assign(agent: Agent[Any], name: str, items: list[Any]) -> None:
    """Give an agent these parts, if they are others: the framework watches who changes an agent that runs."""
    if any(new is not old for new, old in zip(items, getattr(agent, name), strict=True)):
        setattr(agent, name, items)


def _namespace(kind: type, binding: Binding) -> dict[str, Any]:
    """Return what a guarded agent does otherwise than the framework's own."""
    bare: Any = kind

    async def get_all_tools(self: Any, run_context: Any) -> list[Any]:
        found = await bare.get_all_tools(self, run_context)
        before = len(binding.known)
        tools = [_tools.guarded(tool, binding) if isinstance(tool, FunctionTool) else tool for tool in found]
        if len(binding.known) > before:
            binding.guard.announce(f"agent {self.name}")
        current = invocation.get()
        if current is not None:
            current.agent = self.name
        return tools

    return {"surefoot_binding": binding, "get_all_tools": get_all_tools}


# --- guardrails


def guarded_guardrail(guardrail: InputGuardrail[Any]) -> InputGuardrail[Any]:
    """Return an input guardrail that says to the current invocation when it has spoken (AS-47)."""
    function = guardrail.guardrail_function
    if hasattr(function, _MARK):
        return guardrail

    @functools.wraps(function)
    def guardrail_function(context: Any, agent: Any, given: Any) -> Any:
        current = invocation.get()
        return function(context, agent, given) if current is None else _spoken(current, guardrail, (context, agent, given))

    setattr(guardrail_function, _MARK, function)
    return dataclasses.replace(guardrail, guardrail_function=guardrail_function)


async def _spoken(current: Invocation, guardrail: InputGuardrail[Any], args: tuple[Any, ...]) -> Any:
    await current.frame()  # of a stream, it is opened beside it
    token = passing.set(True)
    tripped: BaseException | None = None
    try:
        output: Any = guardrail.guardrail_function(*args)
        output = await output if inspect.isawaitable(output) else output
        if output.tripwire_triggered:
            tripped = InputGuardrailTripwireTriggered(InputGuardrailResult(guardrail=guardrail, output=output))
    except BaseException as exc:
        tripped = exc
        raise
    else:
        return output
    finally:
        passing.reset(token)
        current.gate.ended(guardrail.guardrail_function, tripped)


def pending(guardrails: list[InputGuardrail[Any]]) -> list[Any]:
    """Return the guardrails that run beside the agent, as :class:`~surefoot_openai_agents._invocation.Gate` knows them."""
    parallel = (guardrail for guardrail in guardrails if guardrail.run_in_parallel)
    return [getattr(guardrail.guardrail_function, _MARK, guardrail.guardrail_function) for guardrail in parallel]


# --- what cannot be guarded


def unguarded(agent: Agent[Any]) -> list[str]:
    """Return one phrase for each agent that has tools which no guard can see, those that it reaches included."""
    found = []
    for one in _reached(agent):
        others = [tool for tool in one.tools if not isinstance(tool, FunctionTool)]
        local = sorted(str(tool.name) for tool in others if type(tool).__name__ in _LOCAL)
        hosted = sorted(str(tool.name) for tool in others if type(tool).__name__ not in _LOCAL)
        if hosted:
            found.append(f"the hosted tools of {one.name} run at the provider and cannot be guarded ({', '.join(hosted)})")
        if local:
            found.append(f"tools of {one.name} that are no function tools are not guarded ({', '.join(local)})")
    return found


def _reached(agent: Agent[Any]) -> Iterator[Agent[Any]]:
    seen: dict[int, Agent[Any]] = {}
    todo = [agent]
    while todo:
        one = todo.pop(0)
        if id(one) in seen:
            continue
        seen[id(one)] = one
        targets = [t if isinstance(t, Agent) else (getattr(t, "_agent_ref", None) or (lambda: None))() for t in one.handoffs]
        inner = [getattr(tool, "_agent_instance", None) for tool in one.tools]  # owner: test_private_names
        todo += [target for target in [*targets, *inner] if isinstance(target, Agent)]
    yield from seen.values()
