"""Snapshots of a context: what the framework leaves out of them, carried along, so that a resumed run knows what is behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from llama_index.core.agent.workflow import ToolCallResult
from llama_index.core.agent.workflow.workflow_events import AgentOutput
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import ToolSelection
from workflows.runtime.types.results import StepWorkerResult
from workflows.runtime.types.ticks import TickStepResult

from surefoot_adapters import Frame, Kinds, Program, Tx, Unit, passed, rejected, view
from surefoot_llama_index import _convert

__all__ = ["Behind", "passed_on", "watched"]

_KEY: Final = "surefoot"
"""Beside what the framework writes of a state."""


@dataclass(eq=False)
class Behind:
    """What a run of an agent has behind it, as far as a snapshot shows it."""

    replies: list[list[ToolSelection]] = field(default_factory=list)
    """What each reply of the model asked for."""
    answered: list[str] = field(default_factory=list)
    """Ids of the requests that have their answers."""
    said: list[ChatMessage] | None = None
    """What the memory holds, which the framework leaves out of a snapshot."""

    @classmethod
    def of(cls, state: Mapping[str, Any] | None) -> Behind:
        """Return what a snapshot's state says."""
        found = (state or {}).get(_KEY) or {}
        said = found.get("said")
        return cls(
            [[ToolSelection(**asked) for asked in reply] for reply in found.get("replies", [])],
            list(found.get("answered", [])),
            None if said is None else [ChatMessage.model_validate(message) for message in said],
        )

    def after(self, ticks: Sequence[Any], memory: Any) -> dict[str, Any]:
        """Return what a snapshot taken now is to say: after these ticks, which are what the framework goes by."""
        replies, answered = list(self.replies), list(self.answered)
        for tick in ticks:
            for item in tick.result if isinstance(tick, TickStepResult) else ():
                event = item.result if isinstance(item, StepWorkerResult) else None
                if isinstance(event, AgentOutput):
                    replies.append(event.tool_calls)
                elif isinstance(event, ToolCallResult):
                    answered.append(event.tool_id)
        said = self.said if memory is None else memory.get_all()
        return {
            "replies": [[_convert.data(_request(asked)) for asked in reply] for reply in replies],
            "answered": answered,
            "said": None if said is None else [message.model_dump(mode="json") for message in said],
        }

    async def restore(self, store: Any, llm: Any) -> None:
        """Give a resumed run its memory back, unless its state has one."""
        if self.said is not None and await store.get("memory", default=None) is None:
            await store.set("memory", ChatMemoryBuffer.from_defaults(chat_history=self.said, llm=llm))


def _request(asked: Any) -> dict[str, Any]:
    return {"tool_id": asked.tool_id, "tool_name": asked.tool_name, "tool_kwargs": asked.tool_kwargs}


def watched(store: Any, front: Any) -> Any:
    """Return a run's state whose snapshots say what is behind the run."""
    vars(store)["surefoot_front"] = front
    return view(store, _STORES)


def _namespace(kind: type) -> dict[str, Any]:
    bare: Any = kind

    def to_dict(self: Any, *args: Any, **kwargs: Any) -> Any:
        written = bare.to_dict(self, *args, **kwargs)
        return {**written, _KEY: vars(self)["surefoot_front"].behind()}

    return {"to_dict": to_dict}


_STORES: Final = Kinds(_namespace)


def passed_on(behind: Behind, frame: Frame) -> Program[None]:
    """Note that what a snapshot has behind it is asked for no more."""

    def work(unit: Unit, answered: frozenset[str]) -> None:
        rows = unit.calls.under(frame.run.scope, frame.path)
        passed(unit, [row for row in rows if row.alias in answered], frame.entry, rejected(frame.parent))

    yield Tx(partial(work, answered=frozenset(behind.answered)))
