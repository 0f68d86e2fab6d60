"""Plain programs for processes of their own, killed or stopped at a named point: run as a script, told in JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from crash import Death, Effects, store_of

import surefoot
from surefoot import Guard, ToolRule

__all__ = ["Program"]


class Program:
    """One process of a scenario: what it was told, its effects, and a guard that dies where it was told to."""

    def __init__(self, told: dict[str, Any]) -> None:
        folder = Path(told["folder"])
        self.told = told
        self.death = Death(told)
        self.effects = Effects(folder / "effects")
        self.guard = Guard(
            store_of(folder),
            tools={"charge": ToolRule(effect=told.get("effect", "unclassified"))},
            gates=[self.death],
            on_event=self.death.event,
            wait=told.get("wait"),
        )

    def charge(self, amount: int) -> str:
        """Have the effect; wait or die in the body if told so."""
        if self.told.get("waits"):
            print("in the body", flush=True)
            sys.stdin.readline()
        self.effects.add("charge", amount)
        self.death.at("effect")
        return f"charged {amount}"

    def main(self) -> Any:
        """Return the program of the kind that was told, wrapped unless told otherwise."""
        made = globals()[self.told.get("kind", "plain")](self)
        return made if self.told.get("bare") else surefoot.wrap(made, guard=self.guard)


def plain(program: Program) -> Any:
    """Return a function that charges by a function."""

    @surefoot.tool()
    def charge(amount: int) -> str:
        return program.charge(amount)

    def main(order: int) -> list[str]:
        return [f"order {order}", charge(5)]

    return main


def coroutine(program: Program) -> Any:
    """Return a coroutine function that charges by one."""

    @surefoot.tool()
    async def charge(amount: int) -> str:
        await asyncio.sleep(0)
        return program.charge(amount)

    async def main(order: int) -> list[str]:
        return [f"order {order}", await charge(5)]

    return main


def generator(program: Program) -> Any:
    """Return a generator function that charges by one."""

    @surefoot.tool()
    def charge(amount: int) -> Iterator[str]:
        yield program.charge(amount)

    def main(order: int) -> Iterator[str]:
        yield f"order {order}"
        yield from charge(5)

    return main


def asynchronous(program: Program) -> Any:
    """Return an asynchronous generator function that charges by one."""

    @surefoot.tool()
    async def charge(amount: int) -> AsyncIterator[str]:
        yield program.charge(amount)

    async def main(order: int) -> AsyncIterator[str]:
        yield f"order {order}"
        async for item in charge(5):
            yield item

    return main


def nested(program: Program) -> Any:
    """Return a function that charges in a step of it, after a step whose charge of another amount was committed."""

    @surefoot.tool()
    def charge(amount: int) -> str:
        return program.charge(amount)

    def bill(amount: int) -> str:
        return charge(amount)

    step = bill if program.told.get("bare") else surefoot.wrap(bill, guard=program.guard)

    def main(order: int) -> list[str]:
        return [f"order {order}", *(step(amount) for amount in (5, 6, 7))]

    return main


def run(main: Any, order: int) -> Any:
    """Call a program of any kind to its end and return its result, or its items."""

    async def items() -> list[Any]:
        return [item async for item in main(order)]

    result = main(order)
    if hasattr(result, "__await__"):
        return asyncio.run(_awaited(result))
    if hasattr(result, "__aiter__"):
        return asyncio.run(items())
    return list(result)


async def _awaited(coro: Any) -> Any:
    return await coro


def serve() -> None:
    """Run what the command line tells and print what it returned."""
    program = Program(json.loads(sys.argv[1]))
    if program.told.get("looks"):
        program.guard.clock = lambda clock=program.guard.clock: print("looked", flush=True) or clock()
    with surefoot.run(program.told.get("name", "order-7")):
        print(json.dumps(run(program.main(), program.told.get("order", 7))), flush=True)


if __name__ == "__main__":
    serve()
