"""Crews for processes of their own, killed at a named point: what :mod:`zygote` forks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OTEL_SDK_DISABLED": "true", "CREWAI_TRACING_ENABLED": "false", "CREWAI_TESTING": "true"}
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="surefoot-crewai-")

from crash import Death, store_of
from crewai import Agent, Crew, Flow, Task
from crewai.flow.flow import listen, start
from crewai.tools import tool
from crews import Effects, Script, ask

import surefoot
from surefoot import Guard, ToolRule


class Child:
    """One process of a scenario: what it was told, its effects, and the guard that dies where it was told to."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.death = Death(told)
        folder = Path(told["folder"])
        self.effects = Effects(folder / "effects")
        self.context = ""
        effect = told.get("effect", "unclassified")
        self.guard = Guard(
            store_of(folder),
            tools={"charge": ToolRule(effect=effect)} if effect != "unclassified" else {},
            gates=[self.death],
            on_event=self.death.event,
        )

    def charge(self) -> Any:
        """Return the charging tool."""

        @tool("charge")
        def charge(amount: int) -> str:
            """Charge a customer."""
            self.effects.add("charge", amount)
            self.death.at("effect")
            return f"charge {amount}"

        return charge

    def agent(self, role: str, *replies: Any, tools: Any = (), **options: Any) -> Any:
        """Return an agent whose model gives these replies, by how many it sees that it has given."""

        def said(messages: Any) -> Any:
            self.effects.add("model", role)
            given = sum(message["role"] == "assistant" for message in messages)
            self.seen = [message["content"] for message in messages if message["role"] == "tool"]
            self.context = str(messages)
            if given and self.told.get("model_fails"):
                raise RuntimeError("the model is down")
            reply = replies[min(given, len(replies) - 1)]
            return reply(messages) if callable(reply) else reply

        return Agent(role=role, goal="serve", backstory="b", llm=Script([said]), tools=list(tools), verbose=False, **options)

    def crew(self, amount: int = 5, **options: Any) -> Any:
        """Return a crew whose tasks charge, each by an agent of its own."""
        agents = [
            self.agent(
                f"clerk {n}",
                [ask("charge", amount=amount + n)],
                f"charge {amount + n}" if n == 0 and self._tasks > 1 else "done",
                tools=[self.charge()],
            )
            for n in range(self._tasks)
        ]
        tasks = [Task(description=f"charge {{customer}} {n}", expected_output="a receipt", agent=a) for n, a in enumerate(agents)]
        return Crew(agents=agents, tasks=tasks, verbose=False, **options)

    @property
    def _tasks(self) -> int:
        return int(self.told.get("tasks", 1))

    def wrap(self, target: Any) -> Any:
        """Wrap, unless told otherwise."""
        return target if self.told.get("bare") else surefoot.wrap(target, guard=self.guard)

    # --- forms

    def kickoff(self) -> Any:
        """Kick a crew off."""
        return self.wrap(self.crew()).kickoff(inputs={"customer": "maria"}).raw

    def akickoff(self) -> Any:
        """Kick a crew off on the asynchronous face."""
        return asyncio.run(self.wrap(self.crew()).akickoff(inputs={"customer": "maria"})).raw

    def stream(self) -> Any:
        """Read the stream of a crew."""
        streaming = self.wrap(self.crew(stream=True)).kickoff(inputs={"customer": "maria"})
        list(streaming)
        return streaming.result.raw

    def alone(self) -> Any:
        """Kick an agent off."""
        return self.wrap(self.agent("clerk", [ask("charge", amount=5)], "done", tools=[self.charge()])).kickoff("charge maria").raw

    def flow(self) -> Any:
        """Run a crew in a flow's method."""
        child = self

        class Billing(Flow):
            """Charges in its only method."""

            @start()
            def bill(self) -> str:
                """Charge."""
                return str(child.kickoff())

        return self.wrap(Billing()).kickoff()

    def each(self) -> Any:
        """Kick a crew off for three customers, who pay different amounts."""

        def asked(messages: Any) -> Any:
            return [ask("charge", amount=1 + next(n for n, name in enumerate(names) if name in str(messages)))]

        names = ["maria", "jo", "li"]
        clerk = self.agent("clerk", asked, "done", tools=[self.charge()])
        crew = Crew(agents=[clerk], tasks=[Task(description="bill {customer}", expected_output="x", agent=clerk)], verbose=False)
        return [output.raw for output in self.wrap(crew).kickoff_for_each(inputs=[{"customer": name} for name in names])]

    def state(self) -> Any:
        """Run a flow whose methods hand over by their state."""
        child = self
        charge = self.charge()
        if not self.told.get("bare"):
            charge = self.guard.tool(charge)

        class Billing(Flow):
            """Charges twice."""

            @start()
            def begin(self) -> str:
                """Charge and note it."""
                child.effects.add("begin")
                self.state["paid"] = [charge.run(amount=1)]
                self.state["paid"].append("noted")
                return "begun"

            @listen(begin)
            def note(self) -> str:
                """Change what is in the state already."""
                self.state["paid"].append("twice")
                return "noted"

            @listen(note)
            def finish(self) -> str:
                """Charge again."""
                charge.run(amount=2)
                return f"from {' '.join(self.state['paid'])}"

        return self.wrap(Billing()).kickoff()

    def delegation(self) -> Any:
        """Have a lead delegate to a clerk."""
        clerk = self.agent("clerk", [ask("charge", amount=5)], [ask("charge", amount=6)], "charged", tools=[self.charge()])
        request = ask("delegate_work_to_coworker", task="charge maria", context="now", coworker="clerk")
        lead = self.agent("lead", [request], "done", allow_delegation=True)
        task = Task(description="see to it", expected_output="done", agent=lead)
        return self.wrap(Crew(agents=[lead, clerk], tasks=[task], verbose=False)).kickoff().raw

    def _crew_in_a_tool(self) -> Any:
        @tool("hand_over")
        def hand_over(customer: str) -> str:
            """Have another crew charge."""
            return str(self._inner().kickoff(inputs={"customer": customer}).raw)

        lead = self.agent("lead", [ask("hand_over", customer="maria")], "done", tools=[hand_over])
        return (
            self.wrap(Crew(agents=[lead], tasks=[Task(description="see to it", expected_output="done", agent=lead)], verbose=False))
            .kickoff()
            .raw
        )

    def _inner(self) -> Any:
        clerk = self.agent("clerk", [ask("charge", amount=5)], [ask("charge", amount=6)], "done", tools=[self.charge()])
        return self.wrap(Crew(agents=[clerk], tasks=[Task(description="{customer}", expected_output="x", agent=clerk)], verbose=False))

    def _crew_in_a_flow(self) -> Any:
        child = self

        class Billing(Flow):
            """Runs a crew."""

            @start()
            async def bill(self) -> str:
                """Have a crew charge."""
                return str((await child._inner().akickoff(inputs={"customer": "maria"})).raw)

        return self.wrap(Billing()).kickoff()


def say(what: Any) -> None:
    """Print a line of JSON in one write: threads of CrewAI print too, and would come between it and its end."""
    sys.stdout.write(f"\n{json.dumps(what)}\n")


def main(told: dict[str, Any]) -> None:
    """Run the process and print what came of it."""
    child = Child(told)
    child.seen = []
    forms = {"agent": child.alone, "crew in a tool": child._crew_in_a_tool, "crew in a flow": child._crew_in_a_flow}
    with surefoot.run("invoice-7"):
        raw = forms.get(told["form"], getattr(child, told["form"].replace(" ", "_"), None))()
    say({"raw": raw, "seen": child.seen, "context": child.context})
