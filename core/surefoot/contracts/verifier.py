"""The verifier contract: judge one step output before it is committed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable

from surefoot.types import HOOK_SECONDS, StepOutput, Verdict

__all__ = ["Verifier"]


class Verifier(ABC):
    """Judges the output of a step.

    A verifier has no side effects that matter and may be called again for the same output. What it
    raises, anything but a :class:`~surefoot.Verdict` that it returns, and no answer in time, count as UNVERIFIED,
    which is never PASS (P15, I13).

    .. code-block:: python

        class NotEmpty(Verifier):
            def verify(self, output: StepOutput) -> Verdict:
                if output.output:
                    return Verdict.passed()
                return Verdict.failed(ErrorClass.INCOMPLETE, "The answer was empty. Answer in one sentence.")
    """

    timeout: float | None = HOOK_SECONDS
    """Seconds in which it must answer, settable on the class or the object, or as an attribute of a plain function; ``None``: it is
    waited for without end. What has one judges in a thread of its own; a coroutine is awaited where the caller is."""

    @abstractmethod
    def verify(self, output: StepOutput) -> Verdict | Awaitable[Verdict]:
        """Return the verdict on ``output``; may be a coroutine function."""
