"""What a tool said it did, read back from the world; and verifiers as a gate before a call is dispatched."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from surefoot import Allow, Call, CallRecord, CallState, Decision, Deny, Effect, Gate, StepOutput, Verdict, VerdictStatus, Verifier
from surefoot.codec import Codec
from surefoot.engine.claims import as_call
from surefoot.engine.program import Do, Program, drive
from surefoot.engine.verify import judge
from surefoot.types import Happened, NotSeen, Probe, WillNotHappen, are_texts, expect
from surefoot_verifiers.asking import ask, named
from surefoot_verifiers.taxonomy import DRIFT, HINTS

__all__ = ["barrier", "probe"]


class _Probe(Verifier):
    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self._codec = Codec()

    def verify(self, output: StepOutput) -> Verdict | Awaitable[Verdict]:
        """Ask the probe of every committed call of the run that has one."""
        return ask(self._program(output))

    def _program(self, output: StepOutput) -> Program[Verdict]:
        for row in output.ledger or output.receipts:
            look = self._probe(row)
            if look is None or row.state is not CallState.COMMITTED:
                continue
            arguments = self._codec.loads(row.arguments) if row.arguments else {}
            call = as_call(row, arguments)
            try:
                answer: Any = yield Do(lambda look=look, call=call: look(call))  # type: ignore[misc]
            except Exception as exc:  # noqa: BLE001 - a probe that fails has seen nothing, and missed nothing
                return Verdict.unverified(f"the probe of {row.tool} raised {type(exc).__name__}")
            match answer:
                case Happened():
                    continue
                case NotSeen() | WillNotHappen():
                    return Verdict.failed(
                        DRIFT, f"{HINTS[DRIFT]} It was {row.tool}.", reason=f"{row.call_id} is committed and cannot be read back"
                    )
            return Verdict.unverified(f"the probe of {row.tool} returned {type(answer).__name__}, which is no answer")
        return Verdict.passed()

    def _probe(self, row: CallRecord) -> Probe | None:
        return self._probes.get(row.tool) or next(
            (look for name, look in self._probes.items() if fnmatch.fnmatchcase(row.tool, name)), None
        )


def probe(probes: Mapping[str, Probe]) -> Verifier:
    """Return a verifier that rejects an output while something that a tool reported cannot be read back (AS-24).

    :param probes: by tool name or pattern a function of the :class:`~surefoot.Call` that looks at the outside world and returns
        :func:`surefoot.happened`, or else :func:`surefoot.not_seen` or :func:`surefoot.will_not_happen`; sync or async. What
        a ``ToolRule(probe=…)`` asks works here too.

    It asks about every committed call of the run. A probe that raises, or answers nothing of this, leaves the output UNVERIFIED.
    """
    expect("probes", probes, "a mapping of tool names to functions", lambda given: bool(given) and all(map(callable, given.values())))
    return _Probe(dict(probes))


class _Barrier(Gate):
    def __init__(self, verifier: Verifier, tools: Sequence[str], goal: str) -> None:
        self._verifier = verifier
        self._tools = tuple(tools)
        self._goal = goal

    def check(self, call: Call) -> Decision:
        """Allow a call that the verifier passes; what it could not judge is denied too."""
        if call.effect is Effect.READ or not any(fnmatch.fnmatchcase(call.tool, pattern) for pattern in self._tools):
            return Allow()
        asked = copy.deepcopy({"tool": call.tool, "arguments": dict(call.arguments)})
        proposed = StepOutput(call.run_id, call.step, call.tool, self._goal, 1, None, asked, criticality="high")
        verdict = drive(judge(self._verifier, proposed), lambda _tx: None)
        if verdict.status is VerdictStatus.PASS:
            return Allow()
        if verdict.status is VerdictStatus.FAIL:
            return Deny(f"rejected before it ran ({verdict.error_class}). {verdict.hint}".strip(), "verification_failed")
        return Deny("it could not be verified before it ran; nothing was done", "verification_failed")


def barrier(verifier: Any, tools: Sequence[str] = ("*",), *, goal: str = "") -> Gate:
    """Return a gate that dispatches a call only after the verifier passed it: ``Guard(gates=[barrier(…)])`` (AS-53).

    A step's output is judged after its calls ran; this judges a call before it does. The verifier sees the call as output:
    ``{"tool": name, "arguments": {…}}``. Declared reads, and tools that no pattern in ``tools`` names, are let through.
    """
    expect("tools", tools, "a list of tool names or patterns", are_texts)
    return _Barrier(named(verifier), tools, goal)
