"""The call protocol against the small model of it: hypothesis drives the machine over each store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.errors import HypothesisException
from hypothesis.stateful import run_state_machine_as_test
from sweeps.machine import SITUATIONS, Machine, machine

from surefoot import Store
from surefoot.engine import call as calls
from surefoot.engine import claims
from surefoot.engine import step as steps
from surefoot_stores import EncryptedStore, MemoryStore, SqliteStore

STORES: Final[dict[str, Callable[[Path], Store]]] = {
    "memory": lambda _: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(f"sqlite:///{folder}/s.db"),
    "encrypted": lambda _: EncryptedStore(MemoryStore(), key=b"k" * 32),
}
COMMON: Final = settings(deadline=None, suppress_health_check=list(HealthCheck), stateful_step_count=50)


@pytest.mark.parametrize("store", STORES)
def test_i1_i4_i7_the_protocol_agrees_with_its_model(store: str) -> None:
    """Whatever processes do, in any order, the ledger is what the model says (here in the same few cases each time)."""
    cases = {"memory": 40, "sqlite": 15, "encrypted": 8}[store]
    run_state_machine_as_test(machine(STORES[store]), settings=settings(COMMON, max_examples=cases, derandomize=True, database=None))


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", STORES)
def test_i1_i4_i7_the_protocol_agrees_with_its_model_at_length(store: str, say: Callable[[str], None]) -> None:
    """The same in other cases each time, but for continuous integration, where hypothesis itself takes the same ones."""
    Machine.reached.clear()
    cases = {"memory": 2000, "sqlite": 1000, "encrypted": 500}[store]
    run_state_machine_as_test(machine(STORES[store]), settings=settings(COMMON, max_examples=cases, print_blob=True, database=None))
    say(f"{store}: {Machine.reached['steps']:,} steps without a difference, which reached {dict(Machine.reached)}")
    assert set(Machine.reached) >= SITUATIONS


def _no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (calls, claims, steps):
        monkeypatch.setattr(module, "fence", lambda _unit, _frame: None, raising=False)


def _doubt_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RERUNS", frozenset({*claims.RERUNS, *claims.Effect}))


def _late_landing_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls.outcomes, "_land", partial(calls.outcomes._end, event=claims.CallEvent.COMMITTED))


@pytest.mark.parametrize("broken", [_no_fence, _doubt_forgotten, _late_landing_forgotten])
def test_negative_control_a_broken_protocol_differs(broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without entry tokens, with doubts that run again, or without late landings, the same machine finds a difference."""
    broken(monkeypatch)
    limits = settings(COMMON, max_examples=400, derandomize=True, database=None, report_multiple_bugs=False, phases=["generate"])
    with pytest.raises(BaseException, match=r".") as caught:
        run_state_machine_as_test(machine(STORES["memory"]), settings=limits)
    assert not isinstance(caught.value, HypothesisException)
