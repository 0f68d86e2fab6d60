"""A plain Python agent, guarded: run it, kill it anywhere, run it again under the same name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import surefoot
from surefoot import Guard, StepOutput, StepRule, Verdict


@dataclass(frozen=True)
class Receipt:
    """What the payment provider answers."""

    order_id: str
    amount: int


@surefoot.tool(effect="read")
async def find_orders(customer: str) -> list[str]:
    """Look up what is unpaid."""
    return [f"{customer}-1", f"{customer}-2"]


@surefoot.tool(effect="unsafe", key=["order_id"])
async def charge(order_id: str, amount: int) -> Receipt:
    """Charge an order, once whatever happens: hand the key of the call to the provider."""
    call = surefoot.current_call()
    assert call is not None  # noqa: S101 - called in a run
    print(f"charging {amount} for {order_id} as {call.idempotency_key[:16]}")
    return Receipt(order_id, amount)


def says_how_much(output: StepOutput) -> Verdict:
    """Accept a summary with a sum in it."""
    if any(char.isdigit() for char in output.output):
        return Verdict.passed()
    return Verdict.failed("INCOMPLETE", "Say how much was charged.")


guard = Guard("memory://", steps={"summarise": StepRule(goal="tell the customer", verifier=says_how_much)})


def summarise(receipts: list[Receipt]) -> str:
    """Stand in for a model that forgets the sum at first. Put a real one here."""
    step = surefoot.current_step()
    hint = step.hint if step is not None else ""
    return f"You paid {sum(receipt.amount for receipt in receipts)}." if hint else "You paid."


tell = surefoot.wrap(summarise, guard=guard)


async def main(customer: str) -> str:
    """Charge every open order of a customer and say so."""
    orders = await find_orders(customer)
    return tell(list(await asyncio.gather(*(charge(order, 42) for order in orders))))


agent = surefoot.wrap(main, guard=guard)

if __name__ == "__main__":
    with surefoot.run("invoice-7"):
        print(asyncio.run(agent("maria")))
