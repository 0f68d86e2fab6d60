"""What the tests of the verifiers share: outputs to judge, calls to have made, and an answer from a verifier of any kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from surefoot import CallRecord, CallState, Effect, StepOutput, Verdict
from surefoot.engine.program import drive
from surefoot.engine.verify import judge

__all__ = ["asked", "called", "made"]

_ROW = CallRecord(
    call_id="c1",
    key="k",
    tenant="default",
    conversation="run",
    run_id="run",
    scope="run",
    path="a#1",
    tool="send_email",
    args_digest="d",
    arguments='{"to":"bob"}',
    effect=Effect.UNSAFE,
    state=CallState.COMMITTED,
    entry=1,
    touched=1,
    owner="me",
)


def made(output: Any, **more: Any) -> StepOutput:
    """Return a step's output."""
    whole = StepOutput("run", "a#1", "a", "do it", 1, None, output)
    return dataclasses.replace(whole, **more)


def called(tool: str, state: CallState = CallState.COMMITTED, **more: Any) -> CallRecord:
    """Return a row of the ledger."""
    return _ROW.changed(tool=tool, state=state, **more)


def asked(verifier: Any, output: Any, calls: Sequence[CallRecord] = (), **more: Any) -> Verdict:
    """Return the verdict as the engine gets it."""
    return drive(judge(verifier, made(output, ledger=calls, **more)), lambda _tx: None)
