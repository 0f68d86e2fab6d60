"""A framework, an adapter for it, and the harness that certifies the adapter. Run it: it prints the certificate's level.

The same from the command line, in this folder: ``surefoot certify toy_adapter:ToyHarness``.
"""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from typing import Any

import surefoot
from surefoot import Adapter, Capabilities, Guard
from surefoot_adapters import (
    Do,
    Opened,
    Program,
    Request,
    RunSpec,
    StepSpec,
    call,
    declared_rule,
    element,
    frame_at,
    here,
    in_run,
    is_guarded,
    named_run,
    nested_step,
    step,
    thread_of,
)
from surefoot_conformance import Agent, Harness, Site, Turn
from surefoot_conformance.runner import run

# --- the framework: somebody else's


class Toy:
    """An agent: a model that asks for calls, and tools."""

    def __init__(self, model: Any, tools: dict[str, Any]) -> None:
        self.model, self.tools = model, tools

    def run(self, words: str, thread: str) -> str:  # noqa: ARG002 - a name for people
        """Ask the model, run what it asks for, until it is done."""
        seen: list[str] = []
        given = 0
        while calls := (reply := self.model(given, seen, words)).calls:
            seen += [self.call(ask.tool, ask.arguments) for ask in calls]
            given += 1
        return str(reply.text)

    def call(self, name: str, arguments: Any) -> str:
        """Run a tool."""
        return str(self.tools[name](**arguments))


# --- the adapter


class ToyAdapter(Adapter):
    """Makes a Toy's runs and calls go through a guard."""

    name = "toy"
    capabilities = Capabilities(streaming=False)

    def matches(self, target: object) -> bool:
        """Claim every Toy."""
        return any(kind.__qualname__ == "Toy" for kind in type(target).__mro__)

    def wrap(self, target: Any, guard: Guard) -> Any:
        """Return a guarded copy."""
        if is_guarded(getattr(target, "guard", None), guard, "this Toy"):
            return target
        guarded = copy.copy(target)
        guarded.guard = guard
        for name, function in target.tools.items():
            guard.register(name, f"{function.__module__}.{function.__qualname__}", declared_rule(function))
        guard.announce("a Toy")

        def whole(words: str, thread: str) -> Any:
            return guard.drive(governed(guard, words, thread, Do(lambda: type(target).run(guarded, words, thread))))

        def one(name: str, arguments: Any) -> Any:
            request = Request(name, dict(arguments), target.tools[name])  # a copy: what gates are shown is not what runs
            return guard.drive(call(guard, frame_at(here(), guard, name), request, Do(lambda: target.call(name, arguments))))

        guarded.run, guarded.call = whole, one
        return guarded


def governed(guard: Guard, words: str, thread: str, body: Do) -> Program[str]:
    """Be the run that this invocation belongs to, and its only step; inside of another run, be a step of that."""
    named, place, digest = named_run(), here(), guard.codec.digest(words)
    if place is not None:
        return nested_step(guard, place, "run", words, digest, lambda _frame: body)

    def only_step(opened: Opened) -> Program[str]:
        return step(guard, StepSpec(opened.run, None, element("run", 1), "run", words, digest), lambda _frame: body)

    return in_run(guard, RunSpec("toy", named.tenant, thread_of(named, thread), "input", words, digest), only_step)


@surefoot.hookimpl
def surefoot_adapter() -> Adapter:
    """Hand over the adapter, as an installed one does by its entry point."""
    return ToyAdapter()


# --- the harness


class ToyHarness(Harness):
    """How the suite's agents are built in this framework, and what it does not have."""

    name = "toy"
    packages = ("toy_adapter",)
    plugins = (sys.modules[__name__],)  # nobody installed it
    has_checkpoints = has_model = has_parallel_calls = has_steps = has_nesting = has_error_display = False

    def build(self, agent: Agent, site: Site) -> Any:
        """Make a Toy of the agent's model and tools."""
        return site.wrap(Toy(agent.reply, {tool.name: tool.function for tool in agent.tools}))

    def invoke(self, target: Any, turn: Turn) -> Any:
        """Run it."""
        return target.run(turn.input, turn.thread)


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    report = run("toy_adapter:ToyHarness")
    print(f"{report.name}: {report.level}, {report.count('passed')} passed, {report.count('failed', 'fault')} failed")
    raise SystemExit(not report.ok)
