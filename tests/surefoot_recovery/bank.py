"""A transfer between accounts in plain Python, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import Death, Effects, store_of

import surefoot
from surefoot import Call, Guard
from surefoot_recovery import undone_on_failure

__all__ = ["Bank"]


class Bank:
    """Accounts whose movements are counted in a file, and the tools that move money.

    ``declares``: which tools say how they are undone. ``fails``: what raises, and how often: a tool, or ``undo <tool>``.
    """

    def __init__(self, folder: Path, told: dict[str, Any] | None = None) -> None:
        told = told or {}
        self.told = told
        self.death = Death(told)
        self.effects = Effects(folder / "effects")
        self.guard = Guard(store_of(folder), gates=[self.death], on_event=self.event)
        self.fails: dict[str, int] = dict(told.get("fails", {}))
        declares = told.get("declares", ["credit", "withdraw", "notify"])
        self.credit, self.withdraw, self.notify = (self._tool(name, undone=name in declares) for name in ("credit", "withdraw", "notify"))
        self.transfer = surefoot.wrap(self._program(), guard=self.guard)

    def event(self, event: Any) -> None:
        """Die right after something became durable, if told so."""
        tool = event.data.get("tool", "")
        self.death.at(f"{event.type} {tool}".strip())

    def _do(self, what: str, *amounts: Any) -> None:
        if self.fails.get(what):
            self.fails[what] -= 1
            raise surefoot.NotCommitted(f"{what} is closed")
        self.effects.add(what, *amounts)
        self.death.at(f"effect {what}")

    def _tool(self, name: str, *, undone: bool) -> Any:
        def undo(call: Call, value: Any) -> str:
            self._do(f"undo {name}", call.arguments["amount"], value)
            return f"undid {name}"

        def tool(account: str, amount: int) -> str:
            self._do(name, account, amount)
            return f"{name} {amount}"

        tool.__name__ = tool.__qualname__ = name
        undo.__qualname__ = f"undo_{name}"
        return surefoot.tool(effect="unsafe", compensate=undo if undone else None)(tool)

    def _program(self) -> Any:
        def fetch(amount: int) -> str:
            self.death.at("before credit")
            return str(self.credit("a", amount))

        def send(amount: int) -> str:
            self.death.at("before notify")
            self.notify("a", amount)
            try:
                return str(self.withdraw("b", amount))
            except surefoot.NotCommitted:
                if self.told.get("tries", 1) == 1:
                    raise
                return str(self.withdraw("b", amount))

        steps = [surefoot.wrap(step, guard=self.guard) for step in (fetch, send)]

        def transfer(amount: int) -> list[str]:
            return [step(amount) for step in steps]

        transfer.__qualname__ = "transfer"
        return transfer

    def run(self, name: str = "t-7", amount: int = 10) -> Any:
        """Transfer money in a run of that name."""
        with surefoot.run(name):
            return self.transfer(amount)

    def scoped(self, name: str = "t-7", amount: int = 10) -> Any:
        """Transfer money, all of it or nothing."""
        with undone_on_failure(self.guard, name):
            return self.transfer(amount)

    @property
    def newest(self) -> Any:
        """The newest run that is no rollback."""
        return next(run for run in self.guard.runs.list() if run.adapter != "rollback")

    def did(self) -> list[str]:
        """Return the names of all effects, in order."""
        return [str(effect[0]) for effect in self.effects.all()]


def main(told: dict[str, Any]) -> None:
    """Do what was told: ``run`` the transfer, or ``undo`` the newest run."""
    os.environ["SUREFOOT_POISON_CRASHES"] = told.get("limit", "0")
    bank = Bank(Path(told["folder"]), told)
    if told["do"] == "run":
        print(json.dumps(bank.run()))
    else:
        undone = bank.guard.runs.rollback(bank.newest.run_id, to=told.get("to"), partial=told.get("partial", False), by="tester")
        print(json.dumps([undone.status, len(undone.compensated)]))
