"""What models cost: the policy's own prices first, then a list with a date, then nothing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

import surefoot
import surefoot_policy
from surefoot import BudgetExceeded, Guard
from surefoot.plugins import Plugins
from surefoot_cli.main import cli
from surefoot_policy import prices

MILLION = 1_000_000


def spent(guard: Guard, model: str, read: int = MILLION, written: int = 0) -> float:
    """Return what one reply of a model costs in a run of its own."""
    with surefoot.run(f"{model} {read}"):
        surefoot.wrap(lambda: surefoot_policy.record(model=model, input_tokens=read, output_tokens=written), guard=guard)()
    return sum(used.cost_usd for used in surefoot_policy.cost(guard) if used.model == model)


def test_as_36_a_model_without_a_price_in_the_policy_has_the_one_of_the_list(policed: Callable[[str], Guard]) -> None:
    """Listed models cost what the list says, others what the policy says, and what neither knows costs nothing."""
    with policed("budgets: [{tokens: 100000000}]\nprices: [{model: 'gpt-4o', input: 7.0, output: 1.0}]") as guard:
        assert spent(guard, "gpt-4o") == 7.0  # the policy goes first
        assert spent(guard, "gpt-4o-mini-2024-07-18") == prices.listed("gpt-4o-mini")[0]  # type: ignore[index]
        assert spent(guard, "openai/gpt-4.1", 0, MILLION) == prices.listed("gpt-4.1")[1]  # type: ignore[index]
        assert spent(guard, "somebody's model") == 0


def test_as_36_a_limit_of_cost_holds_without_a_price_in_the_policy(policed: Callable[[str], Guard]) -> None:
    """A ``cost_usd`` limit stops a run whose model only the list knows."""
    sent: list[int] = []

    @surefoot.tool()
    def send(n: int) -> str:
        sent.append(n)
        return "sent"

    def work() -> None:
        for n in range(5):
            surefoot_policy.record(model="claude-haiku-4-5-20251001", input_tokens=MILLION)
            send(n)

    with policed("budgets: [{cost_usd: 1.5}]") as guard, pytest.raises(BudgetExceeded):
        surefoot.wrap(work, guard=guard)()
    assert sent == [0]


def test_what_a_model_reads_decides_its_price() -> None:
    """A model that costs more for long prompts does so from the first token over the limit."""
    assert prices.listed("gemini-2.5-pro", 200_000) == (1.25, 10)
    assert prices.listed("models/gemini-2.5-pro", 200_001) == (2.5, 15)
    assert prices.listed("gemini-2.5-pro-exp") is None


def test_the_list_has_a_date_and_makes_sense() -> None:
    """It was taken on a day that has been; nothing is free, and no tier is cheaper than the one below it."""
    assert dt.date.fromisoformat(prices.TAKEN) < dt.datetime.now(dt.UTC).date()
    for tiers in prices._PRICES.values():
        assert [most for most, *_ in tiers] == sorted({most for most, *_ in tiers})
        assert tiers[-1][0] == float("inf")
        assert all(0 < reads <= writes for _, reads, writes in tiers)
        assert [reads for _, reads, _ in tiers] == sorted(reads for _, reads, _ in tiers)


def test_a_report_says_what_came_from_the_list(policed: Callable[[str], Guard], tmp_path: Any) -> None:
    """``runs cost`` names the models whose price is the list's, and its date."""
    with policed("budgets: [{tokens: 100000000}]") as guard:
        spent(guard, "gpt-4o")
    Plugins.default().cli(cli)
    run = lambda *args: CliRunner().invoke(cli, ["--store", f"sqlite:///{tmp_path}/surefoot.db", "runs", "cost", *args]).output  # noqa: E731 - a short name
    assert f"surefoot's list of {prices.TAKEN} counted: gpt-4o" in run()
    assert json.loads(run("--json"))["listed"] == ["gpt-4o"]


def test_as_36_a_model_s_name_that_is_no_unicode_stops_nothing(policed: Callable[[str], Guard]) -> None:
    """A name with a lone surrogate is counted under a readable one."""
    with policed("budgets: [{tokens: 100000000}]") as guard:
        with surefoot.run("odd"):
            surefoot.wrap(lambda: surefoot_policy.record(model="m\ud800", input_tokens=3), guard=guard)()
        assert [(used.model, used.input_tokens) for used in surefoot_policy.cost(guard)] == [("m\\ud800", 3)]
