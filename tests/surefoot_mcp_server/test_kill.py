"""SIGKILL of client, proxy and server at every boundary that a message crosses in the proxy; effects are counted in the server's file."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp_support import code_of, words
from zygote import Zygote

HERE = Path(__file__).parent
KEYED: dict[str, Any] = {"key": "order-1", "rules": {}}
UNSAFE: dict[str, Any] = {"key": "order-1", "rules": {"unsafe": ["pay"]}}
SCOPED: dict[str, Any] = {"key": None, "rules": {"once": ["pay"], "scope": "task-1"}}


@pytest.fixture(scope="module", params=["wire", "http"])
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    """Start the process that the others are forked from: over standard input and output, and over HTTP."""
    found = Zygote(HERE / f"{request.param}_child.py")
    yield found
    found.close()


class World:
    """One payment, asked for until it is answered, and what the world saw of it."""

    def __init__(self, zygote: Zygote, folder: Path, how: dict[str, Any], *, ungoverned: bool = False) -> None:
        folder.mkdir()
        self._zygote = zygote
        self._folder = folder
        self._told = {**how, "store": f"sqlite:///{folder / 'ledger.db'}", "effects": str(folder / "effects"), "ungoverned": ungoverned}

    def ask(self, victim: str = "proxy", at: int | None = None) -> dict[str, Any] | None:
        """Ask once; ``None`` where no answer came."""
        folder = self._folder / ("first" if at is not None else "again")
        folder.mkdir(exist_ok=True)
        done = self._zygote.run({**self._told, "victim": victim, "at": at, "folder": str(folder)})
        assert done.returncode in {0, -signal.SIGKILL}, done.stderr
        answered = done.stdout.strip()
        return json.loads(answered) if answered else None

    def crossed(self, at: int | None) -> int:
        """Return how many boundaries a proxy that ran to its end crossed; 0 for one that did not."""
        file = self._folder / ("first" if at is not None else "again") / "crossed"
        return int(file.read_text()) if file.exists() else 0

    def effects(self) -> int:
        """Return how often the payment was made."""
        file = self._folder / "effects"
        return file.read_text().count("pay") if file.exists() else 0


def problem(world: World, victim: str, at: int) -> str | None:
    """Kill somebody, ask again, and return what is wrong with what came of it."""
    first = world.ask(victim, at)
    second = world.ask()
    if second is None:
        return "the second request got no answer"
    if world.effects() > 1:
        return f"{world.effects()} payments were made"
    if code_of(second) == "in_doubt":
        return None if first is None or code_of(first) == "in_doubt" else "a result was given, and is in doubt now"
    if "result" not in second or words(second) not in {"paid 7", "paid"}:
        return f"the answer is {second}"
    return None if world.effects() == 1 else "it says paid, and no payment was made"


@pytest.mark.parametrize("victim", ["client", "proxy", "server"])
@pytest.mark.parametrize("at", [3, 7])
def test_killed_at_a_boundary(tmp_path: Path, zygote: Zygote, victim: str, at: int) -> None:
    """I4, I31: whoever is killed, one payment is made at most, and the next request gets its result or that it is in doubt."""
    assert problem(World(zygote, tmp_path / "world", KEYED), victim, at) is None


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", [KEYED, UNSAFE, SCOPED], ids=["keyed", "unsafe", "scoped"])
@pytest.mark.parametrize("victim", ["client", "proxy", "server"])
def test_killed_at_every_boundary(tmp_path: Path, zygote: Zygote, victim: str, how: dict[str, Any]) -> None:
    """I4, I31: as above, at every boundary that the message, its answer and what the ledger writes of them cross."""
    problems = {}
    for at in itertools.count():
        world = World(zygote, tmp_path / str(at), how)
        if found := problem(world, victim, at):
            problems[at] = found
        if at > world.crossed(None) + 4:
            break
    assert problems == {}
    assert at > 12


@pytest.mark.sweep
@pytest.mark.timeout(300)
def test_without_a_ledger_payments_are_made_twice(tmp_path: Path, zygote: Zygote) -> None:
    """The negative control: the same sweep over a relay that governs nothing finds payments that were made twice."""
    found = [problem(World(zygote, tmp_path / str(at), KEYED, ungoverned=True), "proxy", at) for at in range(8)]
    assert "2 payments were made" in found
