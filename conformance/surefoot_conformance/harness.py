"""What the author of an adapter writes: how each scenario is built in the framework, with its own scripted model.

A harness says nothing about what is right. It gets an :class:`Agent`, which is in no framework's terms, and returns the
framework's own object for it; it gets a :class:`Turn` and invokes that object. The suite supplies what the model says and
what the tools do, so it sees from outside what the framework made of them.
"""

from __future__ import annotations

import importlib.metadata
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot_conformance.capability import capability

if TYPE_CHECKING:
    from surefoot import Guard

__all__ = ["NOTHING", "Agent", "Ask", "Harness", "Reply", "Site", "Tool", "Turn", "renamed"]

NOTHING = ...
"""Stands for "no answer", because ``None`` is one that a person may give."""
_GENERATED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}|call_[0-9a-f]{8}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|\+00:00)")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Ask:
    """One tool call that the scripted model asks for, with a fresh id each time, as real models give."""

    tool: str
    arguments: Mapping[str, Any]
    call_id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:8]}")


@dataclass(frozen=True, slots=True)
class Reply:
    """What the scripted model says: it asks for calls, or it is done."""

    calls: Sequence[Ask]
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: a plain function ``name(amount: int) -> str``, a coroutine function where the agent runs asynchronously."""

    name: str
    function: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent in no framework's terms: it asks the model, runs what that asks for, and asks again until it is done."""

    tools: Sequence[Tool]
    reply: Callable[[int, Sequence[str], str], Reply]
    """The scripted model. Give it how many replies it has given to the newest user's words, the texts that tools have answered
    to it since, in the order of the requests, and those words: the input, or the hint of a verifier. The suite looks here at
    what became of its calls."""
    shape: str = "loop"
    """``loop``; ``nested``: the loop as one step of another workflow; ``hand_off``: agents A and B, which hand over A → B → A,
    and A runs the loop on both visits; ``fan_out``: two parallel branches with equal inputs, each of which calls the first
    tool with ``amount=5`` from its own code."""
    step: str = "worker"
    """The name of the step that holds the loop in the shape ``nested``."""
    inside: bool = False
    """It is run inside a tool of another agent and needs no checkpoints of its own."""
    shows_errors: bool = False
    """What a tool raises is shown to the model instead of ending the run."""
    retries: int = 0
    """How often the framework itself retries a step that raised :class:`ConnectionError`."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One invocation of an agent."""

    thread: str | None
    """The durable conversation; ``None`` where there is none."""
    input: str | None = None
    """The user's words; ``None``: go on with what is unfinished."""
    answer: Any = NOTHING
    """A person's answer to what a tool asked."""
    mode: str = ""
    """One of the harness's :attr:`Harness.modes`."""
    run: str | None = None
    """The name of the request, where a framework has no other: the same one when it is resumed."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where an agent is built: its folder, and the guard, if it is to be guarded."""

    folder: Path
    guard: Guard | None
    face: str
    """``sync``, ``async``, ``stream`` or ``astream``."""

    @property
    def is_async(self) -> bool:
        """Whether the face is asynchronous."""
        return self.face.startswith("a")

    def wrap(self, target: Any) -> Any:
        """Return ``target`` wrapped, or as it is where the bare framework is looked at."""
        import surefoot

        return target if self.guard is None else surefoot.wrap(target, guard=self.guard)

    def tool(self, target: Any) -> Any:
        """Return a tool that code calls by itself, guarded or bare."""
        return target if self.guard is None else self.guard.tool(target)


def renamed(text: str) -> str:
    """Return text with generated ids renamed by first appearance, and times and addresses taken out."""
    names: dict[str, str] = {}
    text = _ADDRESS.sub("", _TIME.sub("TIME", text))
    return _GENERATED.sub(lambda found: names.setdefault(found[0], f"ID{len(names)}"), text)


class Harness(ABC):
    """How one framework builds and runs the suite's agents. Write :meth:`build` and :meth:`invoke`, and what else it has.

    A capability is a property: what you implement you have, the others you set where the default is not true
    (``has_checkpoints = False``). What an adapter does not have is skipped with that reason and stands on the certificate as
    not tested.
    """

    name: str
    """Name on the certificate, usually the adapter's."""
    distribution: str | None = None
    """The framework's package on PyPI; ``None`` where there is none."""
    packages: Sequence[str] = ()
    """Import packages of the adapter; the certificate carries a digest of their files."""
    plugins: Sequence[object] = ()
    """Plugins to register with the guard, where the adapter is not installed with an entry point."""
    modes: Sequence[str] = ("",)
    """Ways in which the framework keeps its own state (LangGraph: its durabilities); the first one is the usual."""

    @abstractmethod
    def build(self, agent: Agent, site: Site) -> Any:
        """Return the framework's object for ``agent``, passed through ``site.wrap``.

        Where the framework has checkpoints, keep them in ``site.folder``: another process resumes from there. Where
        ``site.is_async`` this is called inside the running loop.
        """

    @abstractmethod
    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run one turn and return what the framework returns."""

    async def ainvoke(self, target: Any, turn: Turn) -> Any:
        """Run one turn on the asynchronous face."""
        raise NotImplementedError

    def stream(self, target: Any, turn: Turn) -> Iterator[Any]:
        """Run one turn on the streaming face."""
        raise NotImplementedError

    def astream(self, target: Any, turn: Turn) -> AsyncIterator[Any]:
        """Run one turn on the asynchronous streaming face."""
        raise NotImplementedError

    def ask_person(self, question: str) -> Any:
        """Ask a person, from inside a tool, as the framework does it; return the answer."""
        raise NotImplementedError

    def shown(self, raw: Any) -> str:
        """Return what the framework returned as text that can be compared; generated ids are renamed afterwards."""
        return repr(raw)

    def outline(self, target: Any) -> Any:
        """Return what people see of an object without running it: type, name, schemas, drawing."""
        return [type(target).__module__, type(target).__qualname__]

    def move_hook_point(self) -> None:
        """Change the imported framework so that calls no longer pass where the adapter hooks in, as a new release might."""
        raise NotImplementedError

    def touch(self, target: Any, turn: Turn) -> None:
        """Have the framework count a step more between two turns without changing anything (LangGraph: ``update_state``)."""
        raise NotImplementedError

    def version(self) -> str:
        """Return the framework's installed version."""
        return importlib.metadata.version(self.distribution) if self.distribution else "-"

    # --- capabilities

    has_async: bool = capability("there is an asynchronous face", implements="ainvoke")
    has_streaming: bool = capability("there is a streaming face", implements="stream")
    has_async_streaming: bool = capability("there is an asynchronous streaming face", implements="astream")
    has_people: bool = capability("a tool can ask a person and go on in another process", implements="ask_person")
    has_movable_hook_point: bool = capability("the harness can take away what the adapter hooks into", implements="move_hook_point")
    has_touch: bool = capability("the framework's own step count can move between two turns", implements="touch")
    has_checkpoints: bool = capability("the framework keeps checkpoints that another process resumes from without the input")
    has_model: bool = capability("a model asks for the calls, and is told in words what is in doubt; plain code is told by an error")
    has_parallel_calls: bool = capability("the calls of one reply run at the same time")
    has_worker_threads: bool = capability("plain tools run in threads on the asynchronous face, and outlive their caller", default=False)
    has_copies: bool = capability("wrapping makes a guarded copy; without, the object itself is changed")
    has_cancellation: bool = capability("cancelling a turn reaches the coroutine that a tool waits in")
    has_pausing_streams: bool = capability("a stream does nothing while nobody reads it")
    has_steps: bool = capability("a step named worker can be verified before it is committed, and sees the hint of its verifier")
    has_nesting: bool = capability("an agent can be a step of another workflow (shape nested)")
    has_delegation: bool = capability("an agent can be run inside a tool of another one")
    has_hand_off: bool = capability("agents hand over to one another (shape hand_off)", default=False)
    has_fan_out: bool = capability("branches with equal inputs run in parallel (shape fan_out)", default=False)
    has_retries: bool = capability("the framework itself retries a step that raised", default=False)
    has_error_display: bool = capability("what a tool raises can be shown to the model")
    has_body_guard: bool = capability("the guard is at the tool's body; without, no certificate above L1")

    @property
    def has_framework(self) -> bool:
        """There is a framework that can be missing or too old."""
        return self.distribution is not None
