"""Steps of processes: what a step has emitted, and its state, are recorded with its call, for when its body does not run again."""

# pyright: reportMissingImports=false
# semantic-kernel conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from surefoot_adapters import Codec, plain, returned, storable
from surefoot_semantic_kernel import _convert

__all__ = ["Step", "register"]

_CONTEXT: Final = "KernelProcessStepContext"


class Emitted:
    """What a step of a process came to."""

    def __init__(self, value: Any = None, events: list[Any] | None = None, state: Any = None) -> None:
        self.value = value
        self.events: list[Any] = events or []
        """Id, data and visibility of each event that it emitted, in order."""
        self.state = state
        """What its own state was then, as data."""


class Step:
    """A step of a process that is called: listens to what it emits, and does it in its place."""

    def __init__(self, instance: Any, channel: Any) -> None:
        self._instance = instance
        self._channel = channel
        self._events: list[Any] = []
        self._entered = False

    @classmethod
    def of(cls, method: Any, arguments: dict[str, Any]) -> Step | None:
        """Return the step that a method belongs to, and listen in its context; ``None`` for a function that is given none."""
        for name, given in arguments.items():
            if type(given).__name__ == _CONTEXT:
                made = cls(getattr(method, "__self__", None), given.step_message_channel)
                arguments[name] = type(given)(_listening(made._channel, made._events))
                return made
        return None

    def entered(self, codec: Codec, value: Any) -> Emitted:
        """Return what is recorded of a body that has run."""
        self._entered = True
        state = getattr(self._instance, "state", None)
        events = [[name, storable(codec, data, _convert.Shown), visibility] for name, data, visibility in self._events]
        return Emitted(value, events, plain(state) if isinstance(state, BaseModel) else None)

    async def done(self, recorded: Emitted) -> Any:
        """Do what the body did, unless it has just done so; return its value."""
        if not self._entered:
            state = getattr(self._instance, "state", None)
            if isinstance(state, BaseModel) and recorded.state is not None:
                vars(state).update(vars(type(state).model_validate(recorded.state)))
            for event in recorded.events:
                await self._channel.emit_event(_event(event))
        return recorded.value


def register(codec: Codec) -> None:
    """Teach the codec what steps come to."""
    codec.register("semantic_kernel.emitted", Emitted, lambda it: [it.value, it.events, it.state], lambda found: Emitted(*found))


def _listening(channel: Any, events: list[Any]) -> Any:
    """Return a channel that notes what passes through it."""
    from semantic_kernel.processes.kernel_process.kernel_process_message_channel import KernelProcessMessageChannel

    class Listening(KernelProcessMessageChannel):  # type: ignore[misc] # Semantic Kernel is not there for the type checker
        """Notes what passes."""

        async def emit_event(self, process_event: Any) -> None:
            """Emit an event."""
            events.append([process_event.id, process_event.data, str(process_event.visibility.value)])
            await channel.emit_event(process_event)

    return Listening()


def _event(found: list[Any]) -> Any:
    from semantic_kernel.processes.kernel_process.kernel_process_event import KernelProcessEvent

    name, data, visibility = found
    return KernelProcessEvent(id=name, data=returned(data), visibility=visibility)
