"""Stops of a run on their way out through frameworks that make an answer of whatever a tool raises."""

from __future__ import annotations

from surefoot import SurefootError

__all__ = ["Stopped", "meant", "stops"]


class Stopped(BaseException):
    """A stop of the run on its way to the wrapped entry point.

    Not an ``Exception``: of those some frameworks make words for the model, or try again what raised them.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def meant(error: BaseException) -> BaseException:
    """Return the error that a stop carries; another error as it is."""
    return error.error if isinstance(error, Stopped) else error


def stops(exc: BaseException) -> bool:
    """Return whether an error that came out of the engine is no answer of the tool: it stops the run."""
    return isinstance(exc, SurefootError) or isinstance(getattr(exc, "error", None), SurefootError)
