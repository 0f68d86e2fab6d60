"""The laboratory: plays a scripted scenario in processes of its own, and counts from outside what it did."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import select
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from surefoot_conformance import hosts
from surefoot_conformance.effects import Effects
from surefoot_conformance.forks import PATIENCE, Child, Ended, die, fork
from surefoot_conformance.harness import Agent, Ask, Harness, Reply, Site, Tool, Turn, renamed
from surefoot_conformance.table import Broken, Cell, expect, judged

if TYPE_CHECKING:
    from surefoot import Call, Event, Guard

__all__ = ["POINTS", "Body", "Lab", "Latch", "Play", "Stage"]

POINTS: Final = ("before intent", "after intent", "after effect", "after outcome stored", "after framework checkpoint")
"""Where a process is killed: before the intent is written, when it is durable, when the effect has happened, when the outcome
is durable, and when the framework has committed the step and asks the model again."""
_LOOK: Final = 0.005
_LOOKS: Final = 2000
_EVENTS: Final = {"after intent": "call.claimed", "after outcome stored": "call.committed"}

Script: TypeAlias = Sequence[Sequence[tuple[str, int]]] | Callable[[int, Sequence[str], str], Sequence[tuple[str, int]]]
Body: TypeAlias = Callable[["Stage", str, int], Any]
"""What a tool does: gets the stage, its own name and the amount."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One scenario: what the model asks for, what the tools do, what is declared about them."""

    script: Script
    """The calls that each reply asks for, as (tool, amount); or a function of what the model knows (see :class:`Agent`)."""
    bodies: Mapping[str, Body] = field(default_factory=dict)
    """Tools that do something else than have their effect."""
    effects: Mapping[str, str] = field(default_factory=dict)
    """Declared effect classes."""
    guard: Mapping[str, Any] = field(default_factory=dict)
    """Further options of the guard."""
    shape: str = "loop"
    inside: bool = False
    shows_errors: bool = False
    retries: int = 0
    plain_tools: bool = False
    """Tools are plain functions on the asynchronous faces too."""
    returns: Callable[[str], Any] = str
    """What a tool makes of its text."""

    def tools(self) -> list[str]:
        """Return the names of the tools."""
        scripted = {} if callable(self.script) else {name: None for calls in self.script for name, _ in calls}
        return list({**scripted, **dict.fromkeys(self.bodies)})


class Latch:
    """Something that one process waits for and another one opens. No sleeps."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def open(self) -> None:
        """Let one waiter through."""
        os.write(self._write, b"x")

    def wait(self, seconds: float = PATIENCE) -> bool:
        """Wait until it is open; return whether it was in time."""
        ready = bool(select.select([self._read], [], [], seconds)[0])
        if ready:
            os.read(self._read, 1)
        return ready


class Stage:
    """The inside of one process of a play: its tools, its model, and the point at which it dies."""

    def __init__(self, lab: Lab, play: Play, *, kill: str | None, nth: int, bare: bool) -> None:
        self.lab, self.play, self.kill, self.nth = lab, play, kill, nth
        self.effects = lab.effects
        self.guard = None if bare else self._guard()
        self.entered, self.released, self.turns = threading.Event(), threading.Event(), threading.Lock()
        """A body says that it was entered; somebody lets it go on; bodies that must not overlap take turns."""
        self._seen: Counter[str] = Counter()
        self._counting = threading.Lock()

    def _guard(self) -> Guard:
        from surefoot import Allow, Effect, Gate, Guard, ToolRule
        from surefoot.plugins import Plugins

        stage = self

        class Killer(Gate):
            """Dies before the intent is written, if told so."""

            def check(self, call: Call) -> Allow:
                """Allow, or die."""
                if call.tool == "charge":
                    stage.at("before intent")
                return Allow()

        options = dict(self.play.guard)
        rules = {name: ToolRule(effect=Effect(effect)) for name, effect in self.play.effects.items()} | options.pop("tools", {})
        gates = [Killer(), *options.pop("gates", [])]
        plugins = Plugins()
        plugins.load_installed()
        for plugin in [*self.lab.harness.plugins, *options.pop("plugins", [])]:
            plugins.register(plugin)
        return Guard(self.lab.url, tools=rules, gates=gates, on_event=self._event, plugins=plugins, **options)

    def _event(self, event: Event) -> None:
        self.lab.events.add(event.type, event.data.get("tool"), event.call_id)
        for point, kind in _EVENTS.items():
            if event.type == kind and event.data.get("tool") == "charge":
                self.at(point)

    def at(self, point: str) -> None:
        """Die here, if told so, the n-th time."""
        with self._counting:  # parallel bodies come here at the same time
            self._seen[point] += 1
            if self.kill == point and self._seen[point] == self.nth:
                die()

    def effect(self, name: str, amount: int) -> str:
        """Have an effect and return the tool's text."""
        self.effects.add(name, amount)
        if name == "charge":
            self.at("after effect")
        return f"{name} {amount}"

    def person(self, name: str, amount: int) -> str:
        """Ask a person, then have the effect: the body of a tool that waits for somebody."""
        answer = self.lab.harness.ask_person(f"{name} {amount}?")
        self.effects.add(name, amount)
        return f"{name} {amount}: {answer}"

    def after(self, tool: str, then: Callable[[], Any]) -> Any:
        """Return what ``then`` returns, once a sibling's call of ``tool`` is committed."""

        async def coro() -> Any:
            for _ in range(_LOOKS):
                if self._is_committed(tool):
                    break
                await asyncio.sleep(_LOOK)
            return then()

        if self.lab.is_async:
            return coro()
        self.settled(tool)
        return then()

    def settled(self, tool: str) -> bool:
        """Wait until a call of ``tool`` is recorded by somebody else; return whether it was in time."""
        for _ in range(_LOOKS):
            if self._is_committed(tool):
                return True
            time.sleep(_LOOK)
        return False

    def _is_committed(self, tool: str) -> bool:
        return any(self.lab.events.count(kind, tool) for kind in ("call.committed", "call.landed_late"))

    def reply(self, given: int, seen: Sequence[str], said: str) -> Reply:
        """Play the model: write down what it saw, and answer by the script."""
        self.lab.model.add(given, list(seen), said)
        if given:
            self.at("after framework checkpoint")
        script = self.play.script
        asked = script(given, seen, said) if callable(script) else script[given] if given < len(script) else ()
        return Reply([Ask(name, {"amount": amount}) for name, amount in asked], "" if asked else "done")

    def agent(self) -> Agent:
        """Return the agent of the play."""
        tools = [Tool(name, self._function(name)) for name in self.play.tools()]
        play = self.play
        return Agent(tools, self.reply, play.shape, inside=play.inside, shows_errors=play.shows_errors, retries=play.retries)

    def inside(self, play: Play) -> Any:
        """Build another play's agent with this stage's model and guard, to be run inside one of its tools."""
        stage = object.__new__(Stage)
        stage.__dict__.update(
            self.__dict__, play=dataclasses.replace(play, script=self.play.script, bodies=dict.fromkeys(play.tools(), Stage.effect))
        )
        return self.lab.harness.build(stage.agent(), self.lab.site(self.guard))

    def _function(self, name: str) -> Callable[..., Any]:
        body = self.play.bodies.get(name, Stage.effect)

        def plain(amount: int) -> Any:
            return self.play.returns(body(self, name, amount))

        async def coro(amount: int) -> Any:
            result: Any = body(self, name, amount)
            return self.play.returns(await result if asyncio.iscoroutine(result) else result)

        function = coro if self.lab.is_async and not self.play.plain_tools else plain
        function.__name__ = function.__qualname__ = name
        function.__doc__ = f"Do {name}."
        function.__annotations__ = {"amount": int, "return": str if self.play.returns is str else Any}
        return function


class Lab:
    """One cell's laboratory: an empty folder, a face, and processes to play in."""

    def __init__(self, harness: Harness, folder: Path, cell: Cell) -> None:
        self.harness = harness
        self.folder = folder
        self.face = cell.face or "sync"
        self.point = cell.point
        self.variant = cell.variant
        self.url = f"sqlite:///{folder}/surefoot.db"
        self.effects = Effects(folder / "effects")
        self.model = Effects(folder / "model")
        self.events = Effects(folder / "events")

    @property
    def is_async(self) -> bool:
        """Whether the face is asynchronous."""
        return self.face.startswith("a")

    def site(self, guard: Guard | None) -> Site:
        """Return where an agent is built: in a folder of its own, so that whoever empties it takes no effect and no ledger along."""
        place = self.folder / "agent"
        place.mkdir(exist_ok=True)
        return Site(place, guard, self.face)

    # --- playing

    def start(self, play: Play, turn: Turn, *, kill: str | None = None, nth: int = 1, bare: bool = False) -> Child:
        """Begin one turn of a play in a process of its own."""

        def work() -> Any:
            return self.turn(Stage(self, play, kill=kill, nth=nth, bare=bare), turn)

        return fork(work, self.folder / "log")

    def start_on(self, host: str, play: Play, turn: Turn, *, clock: float) -> Child:
        """Begin one turn of a play on a host of that name, whose clock is so many seconds off."""

        def work() -> Any:
            hosts.play(self.folder / host)
            stage = Stage(self, play, kill=None, nth=1, bare=False)
            assert stage.guard is not None  # noqa: S101 - it is not bare
            stage.guard.clock = lambda: time.time() + clock
            return self.turn(stage, turn)

        return fork(work, self.folder / "log")

    def act(self, play: Play, turn: Turn, **options: Any) -> Ended:
        """Play one turn to its end, which must come in time."""
        return self.fair(self.start(play, turn, **options).wait())

    def done(self, play: Play, turn: Turn, **options: Any) -> Ended:
        """Play one turn that must end well."""
        ended = self.act(play, turn, **options)
        expect(not ended.killed, "the process died")
        expect(not ended.error, f"the turn raised {ended.error}: {ended.message}")
        return ended

    def killed(self, play: Play, turn: Turn, point: str, *, nth: int = 1, bare: bool = False) -> None:
        """Play one turn that must die at ``point``. It counts only if it really died of it."""
        ended = self.act(play, turn, kill=point, nth=nth, bare=bare)
        expect(ended.killed, f"the process never came to {point!r} ({ended.error or 'it ended well'}: {ended.message})")

    def look(self, work: Callable[[Guard], Any]) -> Any:
        """Look into the store from another process; return what ``work`` returns, as JSON data."""

        def child() -> Any:
            from surefoot import Guard

            with Guard(self.url) as guard:
                return work(guard)

        ended = fork(child, self.folder / "log").wait()
        expect(not ended.error, f"the store could not be looked into: {ended.error}: {ended.message}")
        return ended.value

    def turn(self, stage: Stage, turn: Turn) -> str:
        """Build the agent and run one turn on this face, here; return what it returned, as text."""
        if not self.is_async:
            return self._shown(self.plain(self.built(stage), turn))

        async def whole() -> str:
            return self._shown(await self.coro(self.built(stage), turn))

        return asyncio.run(whole())

    def built(self, stage: Stage) -> Any:
        """Build the agent of a stage here."""
        logging.disable()
        warnings.simplefilter("ignore")
        return self.harness.build(stage.agent(), self.site(stage.guard))

    def plain(self, target: Any, turn: Turn) -> Any:
        """Run one turn on the synchronous face."""
        return list(self.harness.stream(target, turn)) if self.face == "stream" else self.harness.invoke(target, turn)

    def here(self, work: Callable[[], Any]) -> Any:
        """Run the suite's own code in another process; return what it returns, as JSON data, if it raises nothing."""
        ended = self.fair(fork(work, self.folder / "log").wait())
        if ended.error == "Broken":
            raise Broken(ended.message)
        expect(not ended.error, f"{ended.error}: {ended.message}")
        return ended.value

    async def coro(self, target: Any, turn: Turn) -> Any:
        """Run one turn on the asynchronous face."""
        if self.face == "astream":
            return [item async for item in self.harness.astream(target, turn)]
        return await self.harness.ainvoke(target, turn)

    def _shown(self, raw: Any) -> str:
        return "\n".join(renamed(self.harness.shown(item)) for item in (raw if self.face.endswith("stream") else [raw]))

    def fair(self, ended: Ended) -> Ended:
        """Return how a child ended, unless it was the harness's own fault."""
        judged(self.harness, ended)
        expect(not ended.hung, "the process hung")
        return ended

    def bench(self, name: str) -> Lab:
        """Return a laboratory like this one in a folder of its own."""
        (self.folder / name).mkdir()
        other = object.__new__(Lab)
        other.__dict__.update(self.__dict__)
        other.folder = self.folder / name
        other.url = f"sqlite:///{other.folder}/surefoot.db"
        other.effects, other.model, other.events = (Effects(other.folder / file) for file in ("effects", "model", "events"))
        return other

    # --- what is seen from outside

    def again(self, turn: Turn) -> Turn:
        """Return the turn that resumes ``turn``, in the way that this cell's variant names."""
        resume = self.variant.partition("; ")[0]
        return dataclasses.replace(turn, input=None) if resume == "continue" else turn

    def seen(self) -> list[str]:
        """Return the tools' answers that the model saw when it was asked last."""
        asked = self.model.all()
        return list(asked[-1][1]) if asked else []

    def calls(self) -> list[dict[str, Any]]:
        """Return the ledger's calls: tool, state, effect, run, id, settled_by."""

        def rows(guard: Guard) -> Any:
            return [
                {"tool": row.tool, "state": row.state, "effect": row.effect, "run": row.run_id, "id": row.call_id, "by": row.settled_by}
                for row in guard.calls.list(limit=1000)
            ]

        found: list[dict[str, Any]] = json.loads(json.dumps(self.look(rows)))
        return found

    def states(self, tool: str = "charge") -> list[str]:
        """Return the states of a tool's calls, oldest first."""
        return [row["state"] for row in self.calls() if row["tool"] == tool]

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs, newest first: id, status, hold."""
        found: list[dict[str, Any]] = self.look(
            lambda guard: [{"id": run.run_id, "status": str(run.status), "hold": list(run.hold)} for run in guard.runs.list()]
        )
        return found

    def counted(self) -> dict[str, int]:
        """Return how often each tool had its effect."""
        names = [name for name, *_ in self.effects.all()]
        return {name: names.count(name) for name in sorted(set(names))}
