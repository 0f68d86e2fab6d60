"""Crews, agents and tasks, guarded in place."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import contextvars
import functools
import threading
import weakref
from asyncio import get_running_loop
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from crewai import Agent, Crew
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.llms.base_llm import BaseLLM
from crewai.tools.base_tool import BaseTool
from crewai.utilities.string_utils import sanitize_tool_name

from surefoot import AdapterUnavailable, Guard
from surefoot_adapters import Do, Frame, Program, RunName, Stopped, done, element, here, join, named_run
from surefoot_crewai import _console, _convert, _flows, _hooks, _models, _repair, _runs, _tools, _turns
from surefoot_crewai._swap import guard_of, swap

__all__ = ["guarded", "title"]

_plan: contextvars.ContextVar[dict[int, str]] = contextvars.ContextVar("surefoot_crewai_plan")
"""The tasks of the crew that is under way, by identity, and their path elements."""
_streamed: dict[int, RunName] = {}
"""What names the run of a stream that nobody has begun to read, by the identity of its crew or flow."""


def title(target: Any) -> str:
    """Return what a wrapped object is called."""
    return str(getattr(target, "name", None) or getattr(target, "role", None) or type(target).__name__)


def guarded(target: Any, guard: Guard) -> Any:
    """Guard a crew, flow, agent or tool, and everything in it, in place. Return it."""
    guard.control_flow(Stopped)
    _convert.register(guard.codec)
    if isinstance(target, Crew):
        return _crew(target, guard)
    if isinstance(target, BaseAgent):
        return _agent(target, guard)
    if isinstance(target, BaseTool):
        return _tools.guarded(target, guard)
    return _flows.guarded(target, guard, _kickoff, _later)


# --- crews


def _crew(crew: Any, guard: Guard) -> Any:
    swap(crew, guard, _crew_methods(type(crew)))
    for agent in [*crew.agents, crew.manager_agent]:
        if agent is not None:
            _agent(agent, guard)
    for task in crew.tasks:
        _task(task, guard)
    return crew


def _crew_methods(kind: Any) -> dict[str, Any]:
    def kickoff(self: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        return _sync(self, partial(kind.kickoff, self, inputs, *args, **kwargs), inputs, kwargs)

    async def akickoff(self: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        return await _async(self, partial(kind.akickoff, self, inputs, *args, **kwargs), inputs, kwargs)

    async def kickoff_async(self: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        _later(self, kwargs)  # it calls kickoff, in a thread
        return await kind.kickoff_async(self, inputs, *args, **kwargs)

    def kickoff_for_each(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return _sync(self, partial(kind.kickoff_for_each, self, inputs, *args, **kwargs), ["each", inputs], kwargs)

    async def kickoff_for_each_async(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return await _async(self, partial(kind.kickoff_for_each_async, self, inputs, *args, **kwargs), ["each", inputs], kwargs)

    async def akickoff_for_each(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return await _async(self, partial(kind.akickoff_for_each, self, inputs, *args, **kwargs), ["each", inputs], kwargs)

    return _methods(kind, locals()) | _copies(kind)


def _copies(kind: Any) -> dict[str, Any]:
    """Return the methods that make another object of the kind: it is guarded too."""

    def copy(self: Any, *args: Any, **kwargs: Any) -> Any:
        return guarded(kind.copy(self, *args, **kwargs), _guard(self))

    def from_checkpoint(cls: Any, config: Any) -> Any:
        return guarded(kind.from_checkpoint(config), cls.surefoot_guard)

    made = {"from_checkpoint": classmethod(from_checkpoint)} if hasattr(kind, "from_checkpoint") else {}
    return {**made, "copy": functools.wraps(kind.copy)(copy)}


def _methods(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return the functions that stand for methods which ``kind`` has."""
    return {name: functools.wraps(getattr(kind, name))(made) for name, made in found.items() if callable(made) and hasattr(kind, name)}


def _later(target: Any, kwargs: Mapping[str, Any]) -> bool:
    """Return whether a kickoff only makes what another kickoff is made by: a stream to read, an object that a checkpoint restores.

    It keeps the name of the run: who reads the stream may do so outside of the block that named it.
    """
    if getattr(target, "stream", False):
        if id(target) not in _streamed:
            weakref.finalize(target, _streamed.pop, id(target), None)
        _streamed[id(target)] = named_run()
        return True
    return getattr(kwargs.get("from_checkpoint"), "restore_from", None) is not None


def _sync(target: Any, bare: Callable[[], Any], given: Any, kwargs: Mapping[str, Any]) -> Any:
    return bare() if _later(target, kwargs) else _guard(target).drive(_kickoff(target, _guard(target), given, Do(bare)))


async def _async(target: Any, bare: Callable[[], Any], given: Any, kwargs: Mapping[str, Any]) -> Any:
    return await (bare() if _later(target, kwargs) else _guard(target).adrive(_kickoff(target, _guard(target), given, Do(bare, bare))))


def _guard(target: Any) -> Guard:
    guard = guard_of(target)
    assert guard is not None  # noqa: S101 - its class is one of ours
    return guard


def _kickoff(target: Any, guard: Guard, given: Any, body: Do, **options: Any) -> Program[Any]:
    """Return the run, or the step, that a kickoff is."""
    name = title(target)
    if isinstance(target, Crew):
        body = _turns.within(_plan, _planned(target), body)
    named = _runs.name_of(guard, name, _streamed.pop(id(target), None), options.get("thread"))
    if given is None and _restored(target):
        options["kind"] = "continue"
    return _runs.run(guard, _runs.Kickoff(name, given, lambda _hint: body, named, **options))


def _restored(target: Any) -> bool:
    """Return whether a checkpoint restored an object. It has its inputs with it: kicked off without any it goes on."""
    return any(getattr(target, name, None) is not None for name in ("checkpoint_kickoff_event_id", "checkpoint_completed_methods"))


def _planned(crew: Any) -> dict[int, str]:
    """Return the path element of each task: its name, and its place among the tasks of that name."""
    counts: dict[str, int] = {}
    plan = {}
    for task in crew.tasks:
        name = task.name or "task"
        counts[name] = counts.get(name, 0) + 1
        plan[id(task)] = element(name, counts[name])
    return plan


# --- tasks


def _task(task: Any, guard: Guard) -> None:
    swap(task, guard, _task_methods(type(task)))
    for tool in task.tools or ():
        _tools.guarded(tool, guard)
    for kind in (task.output_pydantic, task.output_json, getattr(task, "response_model", None)):
        _convert.model(guard.codec, kind)
    if task.agent is not None:
        _agent(task.agent, guard)


def _task_methods(kind: Any) -> dict[str, Any]:
    def execute_sync(self: Any, agent: Any = None, context: Any = None, tools: Any = None) -> Any:
        place, guard = here(), guard_of(self)
        if place is None or guard is None:
            return kind.execute_sync(self, agent, context, tools)
        return guard.drive(_step(self, guard, place, agent, context, lambda said: Do(partial(kind.execute_sync, self, agent, said, tools))))

    async def aexecute_sync(self: Any, agent: Any = None, context: Any = None, tools: Any = None) -> Any:
        place, guard = here(), guard_of(self)
        if place is None or guard is None:
            return await kind.aexecute_sync(self, agent, context, tools)

        def body(said: Any) -> Do:
            bare = partial(kind.aexecute_sync, self, agent, said, tools)
            return Do(bare, bare)

        return await guard.adrive(_step(self, guard, place, agent, context, body))

    def execute_async(self: Any, agent: Any = None, context: Any = None, tools: Any = None) -> Any:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(self.execute_sync(agent, context, tools))
            except BaseException as exc:  # noqa: BLE001 - who waits for the future gets it, a stop of the run too
                future.set_exception(exc)

        threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
        return future

    return _methods(kind, locals())


def _step(task: Any, guard: Guard, place: Any, agent: Any, context: Any, body: Callable[[Any], Do]) -> Program[Any]:
    """Be a step of the run: the task's recorded output, or its execution."""
    worker = agent or task.agent
    if worker is not None:
        _agent(worker, guard)
    given = {
        "description": task.description,
        "expected_output": task.expected_output,
        "context": context,
        "agent": getattr(worker, "role", None),
    }
    name = task.name or "task"

    def hinted(hint: str) -> Do:
        return body("\n\n".join(part for part in (context, hint) if part) if hint else context)

    def instead(function: Callable[..., Any], _frame: Frame) -> Do:
        return done(lambda: _convert.task_output(task, worker, function(given)))

    planned = _plan.get({}).get(id(task))
    if planned is None or not isinstance(place, Frame):
        program = _turns.nested(guard, place, name, given, hinted, instead)
    else:
        program = _turns.run_step(guard, place, join(place.path, planned), name, given, hinted, instead)
    task.output = output = yield from program
    return output


# --- agents


def _agent(agent: Any, guard: Guard) -> Any:
    if not isinstance(agent, Agent):
        msg = f"the agent {agent.role!r} runs in another framework ({type(agent).__name__}): its tool calls cannot be seen"
        raise AdapterUnavailable(msg)
    swap(agent, guard, _turn_methods(type(agent)) | _alone_methods(type(agent)) | _copies(type(agent)))
    _equip(agent, guard, agent.tools or ())
    return agent


def _equip(agent: Any, guard: Guard, tools: Sequence[Any]) -> None:
    """Guard what an agent works with."""
    for tool in tools:
        _tools.guarded(tool, guard)
    for llm in (agent.llm, vars(agent).get("function_calling_llm")):  # asked for by name, that one warns of itself
        if isinstance(llm, BaseLLM):
            _models.guarded(llm, guard)
    _hooks.fail_closed()


def _turn_methods(kind: Any) -> dict[str, Any]:
    """Return what guards an agent that works in a crew."""

    def create_agent_executor(self: Any, tools: Any = None, task: Any = None) -> Any:
        _equip(self, _guard(self), tools if tools is not None else self.tools or ())
        return kind.create_agent_executor(self, tools, task)

    def execute_task(self: Any, task: Any, context: Any = None, tools: Any = None) -> Any:
        bare = partial(kind.execute_task, self, task, context, tools)
        return _drive(self, _turn(self, task, context, Do(bare)), bare)

    async def aexecute_task(self: Any, task: Any, context: Any = None, tools: Any = None) -> Any:
        bare = partial(kind.aexecute_task, self, task, context, tools)
        return await _adrive(self, _turn(self, task, context, Do(bare, bare)), bare)

    return _methods(kind, locals())


def _alone_methods(kind: Any) -> dict[str, Any]:
    """Return what guards an agent that works on its own."""

    def _prepare_kickoff(self: Any, messages: Any, *args: Any, **kwargs: Any) -> Any:
        guard = _guard(self)
        _equip(self, guard, self.tools or ())
        names = {sanitize_tool_name(tool.name): tool.name for tool in self.tools or ()}
        made = kind._prepare_kickoff(self, _repair.whole(guard, messages, names), *args, **kwargs)  # noqa: SLF001 - owner: test_private_names
        executor = made[0]
        for tool in executor.original_tools:
            _tools.guarded(tool, guard)
        executor.tools[:] = [_tools.structured(tool) for tool in executor.tools]
        return made

    def kickoff(self: Any, messages: Any, response_format: Any = None, *args: Any, **kwargs: Any) -> Any:
        if _in_loop():
            return self.kickoff_async(messages, response_format, *args, **kwargs)
        bare = partial(kind.kickoff, self, messages, response_format, *args, **kwargs)
        if _later(self, kwargs):
            return bare()
        return _drive(self, _alone(self, messages, response_format, Do(bare)), bare)

    async def kickoff_async(self: Any, messages: Any, response_format: Any = None, *args: Any, **kwargs: Any) -> Any:
        bare = partial(kind.kickoff_async, self, messages, response_format, *args, **kwargs)
        if _later(self, kwargs):
            return await bare()
        return await _adrive(self, _alone(self, messages, response_format, Do(bare, bare)), bare)

    def _execute_and_build_output(self: Any, *args: Any, **kwargs: Any) -> Any:
        bare = partial(kind._execute_and_build_output, self, *args, **kwargs)  # noqa: SLF001 - owner: test_private_names
        return _drive(self, _turn(self, None, None, Do(bare)), bare)

    async def _execute_and_build_output_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        bare = partial(kind._execute_and_build_output_async, self, *args, **kwargs)  # noqa: SLF001 - owner: test_private_names
        return await _adrive(self, _turn(self, None, None, Do(bare, bare)), bare)

    return _methods(kind, locals())


def _in_loop() -> bool:
    with suppress(RuntimeError):
        get_running_loop()
        return True
    return False


def _drive(agent: Any, program: Program[Any] | None, bare: Callable[[], Any]) -> Any:
    guard = guard_of(agent)
    return bare() if program is None or guard is None else guard.drive(program)


async def _adrive(agent: Any, program: Program[Any] | None, bare: Callable[[], Any]) -> Any:
    guard = guard_of(agent)
    return await (bare() if program is None or guard is None else guard.adrive(program))


def _alone(agent: Any, messages: Any, response_format: Any, body: Do) -> Program[Any]:
    """Return the kickoff of an agent on its own."""
    guard = _guard(agent)
    _convert.model(guard.codec, response_format)
    return _kickoff(agent, guard, messages, body, as_step=True)


def _turn(agent: Any, task: Any, context: Any, body: Do) -> Program[Any] | None:
    """Return the turn that an execution of an agent is, or ``None`` outside of any run."""
    place, current, mine = here(), _turns.turn.get(), _turns.work.get()
    if place is None:
        return None
    body = _turns.within(_console.attended, bool(getattr(task, "human_input", False)), body)
    guard = _guard(agent)
    if current is not None and current.frame is place and current.agent is agent:
        return _turns.take(guard, current.work, agent, context, body, again=True)
    if mine is not None and mine.frame is place:
        return _turns.take(guard, mine, agent, context, body)
    given = {"description": getattr(task, "description", None), "context": context, "agent": agent.role}
    return _turns.nested(guard, place, agent.role, given, lambda _hint: _first(guard, agent, body))


def _first(guard: Guard, agent: Any, body: Do) -> Do:
    """Return the body of a step that consists of an agent: its first turn."""

    def program() -> Program[Any]:
        mine = _turns.work.get()
        assert mine is not None  # noqa: S101 - in a step
        return _turns.take(guard, mine, agent, None, body)

    return Do(lambda: guard.drive(program()), (lambda: guard.adrive(program())) if body.coro is not None else None)
