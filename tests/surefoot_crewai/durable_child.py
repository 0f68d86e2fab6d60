"""What CrewAI itself can go on from, in processes of their own: checkpoints, persisted flows, flows that wait for a person."""

from __future__ import annotations

import threading
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crew_child import Child, say
from crewai import LLM, Agent, Crew, Flow, Task
from crewai.flow.async_feedback.types import HumanFeedbackPending
from crewai.flow.flow import listen, start
from crewai.flow.human_feedback import human_feedback
from crewai.flow.persistence import SQLiteFlowPersistence, persist
from crewai.llms.providers.openai.completion import OpenAICompletion
from crewai.state.checkpoint_config import CheckpointConfig
from crewai.tools import BaseTool
from crews import ask

import surefoot

with suppress(ImportError):  # what restoring a checkpoint imports takes seconds: here once, not in every child
    if tuple(map(int, version("lancedb").split(".")[:2])) >= (0, 33):  # older ones start a thread, which a fork leaves behind
        import crewai.memory.storage.lancedb_storage  # noqa: F401 - as above

_now: Durable


class Charge(BaseTool):
    """A tool that a checkpoint can hold: a class, without anything of its own."""

    name: str = "charge"
    description: str = "Charge a customer."

    def _run(self, amount: int) -> str:
        return _now.charged(amount)


def _said(_self: Any, messages: Any, *_args: Any, **_options: Any) -> Any:
    """Ask for one charge of the task's amount, then say that it is done; in the place of a model that a checkpoint can hold."""
    amount = next(n for n in (6, 5) if any(f"charge {n}" in str(message["content"]) for message in messages))
    _now.effects.add("model", amount)
    asked = sum(message["role"] == "assistant" for message in messages)
    return f"did {amount}" if asked else [ask("charge", amount=amount)]


async def _asaid(*args: Any, **options: Any) -> Any:
    return _said(*args, **options)


OpenAICompletion.call, OpenAICompletion.acall = _said, _asaid


class Durable(Child):
    """One process of a scenario in which CrewAI keeps something itself."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(told)
        self.folder = Path(told["folder"])

    def charged(self, amount: int) -> str:
        """Have the effect; the second one once a checkpoint is written, which a thread of CrewAI does."""
        for _ in range(6000 if "checkpoint" in self.told["form"] and amount == 6 else 0):
            if self._checkpoints():
                break
            threading.Event().wait(0.01)
        self.effects.add("charge", amount)
        self.death.at("effect")
        return f"charge {amount}"

    def tool(self) -> Any:
        """Return the charging tool for use in a method, guarded unless told otherwise."""
        charge = Charge()
        return charge if self.told.get("bare") else self.guard.tool(charge)

    def _config(self, event: str) -> CheckpointConfig:
        return CheckpointConfig(location=str(self.folder / "checkpoints"), on_events=[event])

    def _newest(self, event: str) -> CheckpointConfig:
        return self._config(event).model_copy(update={"restore_from": str(self._checkpoints()[-1])})

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").rglob("*.json"), key=lambda file: file.stat().st_mtime_ns)

    def checkpoint(self) -> Any:
        """Run a crew of two tasks that keeps checkpoints, or go on from its newest in the way that was told."""
        how = self.told.get("restore")
        inputs = {"customer": "maria"} if self.told.get("inputs", True) else None
        if how == "object":
            return self.wrap(Crew.from_checkpoint(self._newest("task_completed"))).kickoff(inputs=inputs).raw
        clerk = Agent(role="clerk", goal="serve", backstory="b", llm=LLM(model="openai/gpt-4o", api_key="none"), tools=[Charge()])
        tasks = [Task(description=f"charge {n} of {{customer}}", expected_output="a receipt", agent=clerk) for n in (5, 6)]
        crew = self.wrap(Crew(agents=[clerk], tasks=tasks, checkpoint=self._config("task_completed")))
        if how == "kickoff":
            return crew.kickoff(inputs=inputs, from_checkpoint=self._newest("task_completed")).raw
        if how == "class":
            return type(crew).from_checkpoint(self._newest("task_completed")).kickoff(inputs=inputs).raw
        return crew.kickoff(inputs=inputs).raw

    def flow_checkpoint(self) -> Any:
        """Run a flow that keeps checkpoints, or go on from its newest."""
        how = self.told.get("restore")
        kind = self._billing()
        if how == "object":
            return self.wrap(kind.from_checkpoint(self._newest("method_execution_finished"))).kickoff()
        flow = self.wrap(kind(checkpoint=self._config("method_execution_finished")))
        return flow.kickoff(from_checkpoint=self._newest("method_execution_finished")) if how == "kickoff" else flow.kickoff()

    def persisted(self) -> Any:
        """Run a flow that persists its state after every method."""
        kind = persist(SQLiteFlowPersistence(str(self.folder / "flow.db")))(self._billing())
        return self.wrap(kind()).kickoff(inputs={"id": "customer-7"})

    def streamed(self) -> Any:
        """Read the stream of a flow."""
        flow = self._billing()()
        flow.stream = True
        streaming = self.wrap(flow).kickoff()
        list(streaming)
        return streaming.result

    def _billing(self) -> Any:
        child, charge = self, self.tool()

        class Billing(Flow):
            """Charges in each of its methods."""

            @start()
            def first(self) -> str:
                """Charge and note it."""
                child.effects.add("first")
                self.state["paid"] = [*self.state.get("paid", []), charge.run(amount=5)]
                return "begun"

            @listen(first)
            def second(self) -> str:
                """Charge again."""
                child.effects.add("second")
                self.state["paid"] = [*self.state["paid"], charge.run(amount=6)]
                return "done"

            @listen(second)
            def last(self) -> str:
                """Say what was paid."""
                child.effects.add("last")
                return " and ".join(self.state["paid"])

        return Billing

    def feedback(self) -> Any:
        """Run a flow that waits for a person between two charges, or answer it."""
        child, charge = self, self.tool()

        class Phone:
            """Asks somebody who answers later."""

            def request_feedback(self, context: Any, flow: Any) -> str:
                """Ask."""
                child.effects.add("asked")
                raise HumanFeedbackPending(context=context)

        class Billing(Flow):
            """Charges, has it approved, and charges the rest."""

            @start()
            @human_feedback(message="Go on?", provider=Phone())
            def first(self) -> str:
                """Charge the deposit."""
                child.effects.add("first")
                return str(charge.run(amount=5))

            @listen(first)
            def rest(self, _answer: Any) -> str:
                """Charge the rest."""
                return str(charge.run(amount=6))

        kept = SQLiteFlowPersistence(str(self.folder / "flow.db"))
        if self.told.get("answer"):
            return self.wrap(Billing.from_pending("customer-7", kept)).resume(self.told["answer"])
        waits = self.wrap(Billing(persistence=kept)).kickoff(inputs={"id": "customer-7"})
        self.death.at("pending")
        return type(waits).__name__


def main(told: dict[str, Any]) -> None:
    """Run the process and print what came of it."""
    global _now  # noqa: PLW0603 - a tool that a checkpoint holds can hold no process
    _now = Durable(told)
    with surefoot.run(None if told.get("unnamed") else "invoice-7"):
        say(getattr(_now, told["form"].replace(" ", "_"))())
