"""What the author of a verifier writes: the verifier, with its judge played by the suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from surefoot_conformance.capability import capability
from surefoot_conformance.table import Fault

if TYPE_CHECKING:
    from surefoot import StepOutput, Verdict, Verifier
    from surefoot_conformance.table import Cell

__all__ = ["FunctionHarness", "VerifierBench", "VerifierHarness"]


class VerifierHarness(ABC):
    """How one verifier is made, and what its judge (a model, a service, a rule engine) says when it means something."""

    name: str
    distribution: str | None = None
    packages: Sequence[str] = ()

    @abstractmethod
    def verifier(self, judge: Callable[[], Any]) -> Verifier:
        """Return the verifier with its judge played by ``judge``: call it instead of the real one; it may raise."""

    def reply(self, meaning: Literal["pass", "fail"]) -> Any:
        """Return the raw reply of the judge that means this."""
        raise NotImplementedError

    def output(self, meaning: Literal["pass", "fail"]) -> Any:  # noqa: ARG002 - for those who judge by it
        """Return an output that deserves this, where the verifier judges by rules and asks nobody."""
        return {"text": "the output", "items": [1, 2]}

    def version(self) -> str:
        """Return the judge's version."""
        return "-"

    has_judge: bool = capability("the verifier asks something that can fail", implements="reply")


class FunctionHarness(VerifierHarness):
    """A plain function given as ``StepRule(verifier=…)``."""

    name = "function"
    packages = ("surefoot.engine.verify",)

    def verifier(self, judge: Callable[[], Any]) -> Verifier:
        """Return the kernel's wrapper of a function."""
        from surefoot.engine.verify import as_verifier

        def unknown(_spec: str) -> Any:
            raise LookupError

        made = as_verifier(lambda _output: judge(), unknown)
        assert made is not None  # noqa: S101 - a callable was given
        return made

    def reply(self, meaning: Literal["pass", "fail"]) -> Any:
        """Return a verdict."""
        from surefoot import Verdict

        return Verdict.passed() if meaning == "pass" else Verdict.failed("INCOMPLETE", "Say more.")


class VerifierBench:
    """One cell's bench: asks the verifier through the engine."""

    def __init__(self, harness: VerifierHarness, folder: Path, cell: Cell) -> None:
        self.harness = harness
        self.folder = folder
        self.variant = cell.variant
        self._asked = False

    def mean(self, meaning: Literal["pass", "fail"]) -> Verdict:
        """Return the verdict on an output that deserves this, with a judge, if there is one, who says so."""
        return self.ask(partial(self.harness.reply, meaning), self.harness.output(meaning))

    def ask(self, judge: Callable[[], Any], output: Any = "the output") -> Verdict:
        """Return the verdict that the engine gets while the judge does this."""
        return self.asking(self.harness.verifier(self.judge(judge)), output)

    def judge(self, says: Callable[[], Any]) -> Callable[[], Any]:
        """Return a judge who says this, and remembers that he was asked."""

        def judge() -> Any:
            self._asked = True
            return says()

        return judge

    def asking(self, verifier: Verifier, output: Any) -> Verdict:
        """Return this verifier's verdict. Raises :class:`Fault` when it asks a judge and its harness says that it has none."""
        from surefoot.engine.program import drive
        from surefoot.engine.verify import judge as asked

        try:
            return drive(asked(verifier, step_output(output)), lambda _tx: None)
        finally:
            if self._asked and not self.harness.has_judge:
                raise Fault("the verifier asked its judge, and its harness has has_judge = False")

    def counted(self) -> dict[str, int]:
        """Return no effects: a verifier has none."""
        return {}


def step_output(output: Any) -> StepOutput:
    """Return a step's output with everything filled in."""
    from surefoot import StepOutput

    return StepOutput("run", "a#1", "a", "say it", 1, "the input", output)
