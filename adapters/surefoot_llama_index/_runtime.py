"""The runtime: a front of a workflow's own one, which makes its runs ours and its steps steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from llama_index.core.agent.workflow import AgentWorkflow, ToolCall
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.agent.workflow.workflow_events import AgentOutput, AgentSetup
from workflows.context.state_store import InMemoryStateStore, infer_state_type
from workflows.events import Event, StopEvent
from workflows.runtime.runtime_decorators import BaseInternalRunAdapterDecorator, BaseRuntimeDecorator
from workflows.runtime.types.plugin import ExternalRunAdapter, SnapshottableAdapter, V2RuntimeCompatibilityShim
from workflows.runtime.types.results import StepWorkerResult
from workflows.runtime.types.ticks import TickCancelRun

from surefoot_llama_index._door import Door
from surefoot_llama_index._runs import asked, invocation
from surefoot_llama_index._snapshots import Behind, watched
from surefoot_llama_index._steps import plain_step

if TYPE_CHECKING:
    from surefoot_llama_index._agents import Binding

__all__ = ["GuardRuntime", "is_agent"]

_END: Final = object()


def is_agent(workflow: object) -> bool:
    """Return whether the steps of a workflow are those of an agent, of which a run is one step of ours."""
    return isinstance(workflow, AgentWorkflow | BaseWorkflowAgent)


class GuardRuntime(BaseRuntimeDecorator):
    """Runs guarded workflows on the runtime that they were made with."""

    def __init__(self, decorated: Any, binding: Binding) -> None:
        super().__init__(decorated)
        self.binding = binding
        self.guard = binding.guard

    def title(self, workflow: Any) -> str:
        """Return the name of the step that a run of a workflow is."""
        if isinstance(workflow, BaseWorkflowAgent):
            return workflow.name
        given = workflow._workflow_name  # noqa: SLF001 - the name that its user gave; owner: test_private_names
        return given or type(workflow).__name__

    def register(self, workflow: Any) -> Any:
        """Return what the decorated runtime registers, with governed steps."""
        registered = super().register(workflow)
        if is_agent(workflow):
            registered.steps.update({name: _agent_step(step) for name, step in registered.steps.items()})
        else:
            given = workflow._get_steps()  # noqa: SLF001 - owner: test_private_names
            kinds = {name: step._step_config.return_types for name, step in given.items()}  # noqa: SLF001 - as above
            registered.steps.update({name: plain_step(self.guard, step, kinds[name]) for name, step in registered.steps.items()})
        return registered

    def run_workflow(
        self,
        run_id: str,
        workflow: Any,
        init_state: Any,
        start_event: Any = None,
        serialized_state: dict[str, Any] | None = None,
        serializer: Any = None,
    ) -> ExternalRunAdapter:
        """Begin a run: at once, as the framework does, in a task of its own."""
        return _Front(self, run_id, workflow, init_state, start_event, serialized_state, serializer)

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        """Begin an attempt on the decorated runtime."""
        return self._decorated.run_workflow(*args, **kwargs)

    def get_internal_adapter(self, workflow: Any) -> Any:
        """Return the inside of the current run, whose events go to whoever reads the run's stream."""
        inner = super().get_internal_adapter(workflow)
        attempt = _attempt.get()
        return inner if attempt is None else _Inside(inner, *attempt)


class _Inside(BaseInternalRunAdapterDecorator):
    """The inside of an attempt."""

    def __init__(self, decorated: Any, front: _Front, number: int) -> None:
        super().__init__(decorated)
        self._front = front
        self._number = number

    async def write_to_event_stream(self, event: Event) -> None:
        """Pass an event on; the last one waits until the run has passed its verifier. One that was left says nothing more."""
        if self._number == self._front.attempts:
            self._front.publish(event)

    async def after_tick(self, tick: Any) -> None:
        """Look what the agent remembers, once it does."""
        await super().after_tick(tick)
        if self._front.memory is None and is_agent(self._front.workflow) and (store := self.get_state_store()) is not None:
            self._front.memory = await store.get("memory", default=None)


class _Front(ExternalRunAdapter, SnapshottableAdapter, V2RuntimeCompatibilityShim):
    """The outside of a run: of its attempts the handler sees one."""

    def __init__(
        self, runtime: GuardRuntime, run_id: str, workflow: Any, init_state: Any, start_event: Any, state: Any, serializer: Any
    ) -> None:
        self._runtime, self._run_id, self.workflow, self._init_state = runtime, run_id, workflow, init_state
        self._state, self._serializer = state, serializer or runtime.get_serializer(workflow)
        self._inner: Any = None
        self.memory: Any = None
        """The agent's memory, once the run has one."""
        self._staged: Any = None
        self.attempts = 0
        """How many have begun, of the workflow or of what falls back for it."""
        self._last: Event | None = None
        self._waiting: list[Any] = []
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._behind = Behind.of(state if start_event is None else None)
        door = Door(runtime.binding, workflow, runtime.title(workflow), start_event, agent=is_agent(workflow))
        door.behind = self._behind
        self._task = asyncio.create_task(self._whole(door))

    async def _whole(self, door: Door) -> StopEvent:
        try:
            result: StopEvent = await door.run(self._attempt, self._spoken)
        except BaseException:
            self._end(failed=True)
            raise
        self._end(failed=False)
        return result

    def _end(self, *, failed: bool) -> None:
        """Let the stream end as the run did: what failed after its last word was said has none."""
        if self._last is not None and (not failed or type(self._last) is not StopEvent):
            self._events.put_nowait(self._last)
        self._events.put_nowait(_END)

    async def _attempt(self, start_event: Any) -> StopEvent:
        """Run the workflow once, from the state that the run began with."""
        self.attempts += 1
        self._last = None
        state = self._staged.to_dict(self._serializer) if self._staged is not None else self._state
        run_id = self._run_id if self.attempts == 1 else f"{self._run_id}-{self.attempts}"
        token = _attempt.set((self, self.attempts))
        try:
            self._inner = self._runtime.begin(run_id, self.workflow, self._init_state, start_event, state, self._serializer)
        finally:
            _attempt.reset(token)
        if is_agent(self.workflow):
            await self._behind.restore(self._inner.get_state_store(), getattr(self.workflow, "llm", None))
        while self._waiting:
            await self._inner.send_event(self._waiting.pop(0))
        result: StopEvent = await self._inner.get_result()
        return result

    def _spoken(self, event: StopEvent) -> None:
        """Let the run end with what something else has said."""
        self.attempts += 1
        self.publish(event)

    def behind(self) -> dict[str, Any]:
        """Return what a snapshot taken now says of what is behind the run."""
        return self._behind.after(self.replay(), self.memory)

    def publish(self, event: Event) -> None:
        """Give an event to the stream; the last one waits."""
        if isinstance(event, StopEvent):
            self._last = event
        else:
            self._events.put_nowait(event)

    # --- what a handler asks of it

    @property
    def run_id(self) -> str:
        """Return the framework's id of the run."""
        return self._run_id

    async def send_event(self, tick: Any) -> None:
        """Send an event into the run; before it has begun, it waits."""
        if self._inner is None:
            self._waiting.append(tick)
        else:
            await self._inner.send_event(tick)

    async def cancel(self) -> None:
        """Cancel the run."""
        if self._inner is None:
            await self.send_event(TickCancelRun())
        else:
            await self._inner.cancel()

    async def close(self) -> None:
        """Close the run."""
        if self._inner is not None:
            await self._inner.close()

    async def stream_published_events(self) -> AsyncGenerator[Event, None]:
        """Yield the run's events."""
        while (event := await self._events.get()) is not _END:
            yield event
        self._events.put_nowait(_END)

    async def get_result(self) -> StopEvent:
        """Return the result of the attempt that passed."""
        return await self._task

    def get_result_or_none(self) -> StopEvent | None:
        """Return the result, if there is one yet."""
        return self._task.result() if self._task.done() else None

    @property
    def is_running(self) -> bool:
        """Whether it still runs."""
        return not self._task.done()

    def abort(self) -> None:
        """Cancel it at once."""
        self._task.cancel()

    def get_state_store(self, namespace: tuple[str, ...] = ()) -> Any:
        """Return the state; before the run has begun, what it will begin with."""
        if self._inner is not None:
            store = self._inner.get_state_store(namespace)
            return watched(store, self) if is_agent(self.workflow) and isinstance(store, InMemoryStateStore) else store
        if namespace:
            return None
        if self._staged is None:
            state = self._state
            kind = infer_state_type(self.workflow)
            self._staged = InMemoryStateStore.from_dict(state, self._serializer) if state else InMemoryStateStore(kind())
        return self._staged

    @property
    def init_state(self) -> Any:
        """Return what the framework knew of the run when it began."""
        return self._init_state

    def replay(self) -> list[Any]:
        """Return what the framework has noted of it since."""
        return [] if self._inner is None else self._inner.replay()


_attempt: ContextVar[tuple[_Front, int] | None] = ContextVar("surefoot_llama_index_attempt", default=None)
"""The run whose attempt begins here, and which one it is."""


def _agent_step(bare: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a step of an agent that tells which requests its model makes, and which of them a tool is called for."""

    async def worker(**given: Any) -> Any:
        current, event = invocation.get(), given["event"]
        if current is None:
            return await bare(**given)
        if isinstance(event, AgentSetup):
            current.agent = event.current_agent_name
        token = asked.set([event] if isinstance(event, ToolCall) else None)
        try:
            found = await bare(**given)
        finally:
            asked.reset(token)
        for item in found:
            if isinstance(item, StepWorkerResult) and isinstance(item.result, AgentOutput):
                current.replied(item.result.tool_calls)
        return found

    return worker
