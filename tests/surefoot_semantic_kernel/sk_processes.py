"""A process of two steps. Its steps are classes of a module, as the framework wants them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import BaseModel
from semantic_kernel.functions import kernel_function
from semantic_kernel.processes.kernel_process import KernelProcessStep, KernelProcessStepContext, KernelProcessStepState
from semantic_kernel.processes.local_runtime.local_event import KernelProcessEvent
from semantic_kernel.processes.local_runtime.local_kernel_process import start
from semantic_kernel.processes.process_builder import ProcessBuilder

__all__ = ["whole"]


class Counted(BaseModel):
    """How often a step was entered."""

    times: int = 0


class Charges(KernelProcessStep[Counted]):
    """Charges an order in its own code, and says so to the next step."""

    effects: ClassVar[Any] = None
    death: ClassVar[Any] = None
    state: Counted | None = None

    async def activate(self, state: KernelProcessStepState[Counted]) -> None:
        """Begin with what was counted."""
        state.state = state.state or Counted()
        self.state = state.state

    @kernel_function(name="charge")
    async def charge(self, context: KernelProcessStepContext, order: str) -> str:
        """Charge."""
        assert self.state is not None
        self.state.times += 1
        self.effects.add("charge", order)
        await context.emit_event("Charged", data=f"{order}, charged {self.state.times}x")
        return f"charged {order}"


class Ships(KernelProcessStep[Counted]):
    """Ships what was charged."""

    effects: ClassVar[Any] = None
    death: ClassVar[Any] = None
    shipped: ClassVar[list[str]] = []

    @kernel_function(name="ship")
    async def ship(self, order: str) -> str:
        """Ship."""
        self.death.at("before shipping")
        self.effects.add("ship", order)
        self.shipped.append(order)
        return f"shipped {order}"


def whole(kernel: Any, effects: Any, death: Any) -> Callable[[str], Any]:
    """Return what runs the process over an order and says what was shipped."""
    for kind in (Charges, Ships):
        kind.effects, kind.death = effects, death

    async def main(order: str) -> str:
        Ships.shipped.clear()
        process = ProcessBuilder(name="order")
        charges, ships = process.add_step(Charges), process.add_step(Ships)
        process.on_input_event("Start").send_event_to(charges, parameter_name="order")
        charges.on_event("Charged").send_event_to(ships, parameter_name="order")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the framework's own, of pydantic
            async with await start(process.build(), kernel, KernelProcessEvent(id="Start", data=order)):
                pass
        return "; ".join(Ships.shipped)

    return main
