"""Harnesses of the verifiers that come with surefoot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from surefoot_conformance.judges import VerifierHarness

if TYPE_CHECKING:
    from surefoot import Verifier

__all__ = ["ClaimsHarness", "LlmHarness", "QuorumHarness", "RulesHarness", "SchemaHarness", "TieredHarness"]

_OURS = ("surefoot_verifiers",)


class RulesHarness(VerifierHarness):
    """``rules``: asks nobody."""

    name = "rules"
    packages = _OURS
    has_judge = False

    def verifier(self, judge: Callable[[], Any]) -> Verifier:  # noqa: ARG002 - it has none
        """Return the rules with every heuristic."""
        from surefoot_verifiers import HEURISTICS, rules

        return rules(min_length=1, heuristics=[*HEURISTICS])

    def output(self, meaning: Literal["pass", "fail"]) -> Any:
        """Return an answer, or JSON that stops half-way."""
        return "The answer is 4." if meaning == "pass" else '{"answer": [4'


class SchemaHarness(VerifierHarness):
    """``schema``, with a transition: asks nobody."""

    name = "schema"
    packages = _OURS
    has_judge = False

    def verifier(self, judge: Callable[[], Any]) -> Verifier:  # noqa: ARG002 - it has none
        """Return a verifier of a state with a status."""
        from surefoot_verifiers import schema

        return schema(dict[str, Any], transitions={"status": {None: ["open"]}})

    def output(self, meaning: Literal["pass", "fail"]) -> Any:
        """Return a state that may come, or one that may not."""
        return {"status": "open" if meaning == "pass" else "paid", "items": [1, 2]}


class ClaimsHarness(VerifierHarness):
    """``claims``: asks nobody but the ledger."""

    name = "claims"
    packages = _OURS
    has_judge = False

    def verifier(self, judge: Callable[[], Any]) -> Verifier:  # noqa: ARG002 - it has none
        """Return the verifier of claims."""
        from surefoot_verifiers import claims

        return claims()

    def output(self, meaning: Literal["pass", "fail"]) -> Any:
        """Return an offer, or a claim that no call backs."""
        return "I can e-mail Bob, if you like." if meaning == "pass" else "I e-mailed Bob."


class LlmHarness(VerifierHarness):
    """``llm`` with a function in the place of a provider."""

    name = "llm"
    packages = _OURS

    def verifier(self, judge: Callable[[], Any]) -> Verifier:
        """Return the verifier, whose model is the suite's judge."""
        from surefoot_verifiers import llm

        return llm(ask=lambda _system, _question: judge(), timeout=5)

    def reply(self, meaning: Literal["pass", "fail"]) -> Any:
        """Return what a model writes."""
        if meaning == "pass":
            return '{"verdict": "PASS", "confidence": 0.9}'
        return '{"verdict": "FAIL", "error_class": "GOAL_DRIFT", "hint": "Answer the question.", "confidence": 0.9}'


class _Combined(VerifierHarness):
    """A verifier made of others, each of which is the suite's judge as a function; he is asked once about each output."""

    packages = _OURS

    def verifier(self, judge: Callable[[], Any]) -> Verifier:
        """Return the combination."""
        from concurrent.futures import Future

        said: list[tuple[Any, Future[Any]]] = []

        def one(output: Any) -> Any:
            if not said or said[0][0] is not output:
                said[:] = [(output, Future())]
                try:
                    said[0][1].set_result(judge())
                except BaseException as exc:  # noqa: BLE001 - as the judge raises it
                    said[0][1].set_exception(exc)
            return said[0][1].result()

        return self.combined(one)

    def combined(self, one: Callable[[Any], Any]) -> Verifier:
        """Return the combination of this one, several times."""
        raise NotImplementedError

    def reply(self, meaning: Literal["pass", "fail"]) -> Any:
        """Return a verdict."""
        from surefoot import Verdict

        return Verdict.passed(confidence=0.9) if meaning == "pass" else Verdict.failed("INCOMPLETE", "Say more.", confidence=0.9)


class QuorumHarness(_Combined):
    """``quorum`` of three, within ``all_of`` and ``any_of``, with hints of its own."""

    name = "quorum"

    def combined(self, one: Callable[[Any], Any]) -> Verifier:
        """Return it."""
        from surefoot_verifiers import all_of, any_of, hinted, quorum

        return hinted(all_of(any_of(one), quorum(2, one, one, one)), {"SCHEMA": "Mind the form."})


class TieredHarness(_Combined):
    """``tiered``."""

    name = "tiered"

    def combined(self, one: Callable[[Any], Any]) -> Verifier:
        """Return it."""
        from surefoot_verifiers import all_of, tiered

        return tiered(low=one, medium=one, high=all_of(one))
