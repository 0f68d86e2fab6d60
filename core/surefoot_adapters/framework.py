"""Is the installed framework one that can be guarded? Its range, and a proof by a call."""

from __future__ import annotations

import importlib.metadata
import re
import threading
from collections.abc import Callable
from typing import Any, Final

from surefoot import AdapterUnavailable, Guard

__all__ = ["CANARY", "Framework"]

CANARY: Final = "surefoot_canary"
"""The name of the synthetic tool that a canary has called."""


class Framework:
    """The framework that an adapter is for. An adapter has one, and calls :meth:`ready` before it wraps anything.

    The supported range is written once, in the extra of the adapter's own distribution, and read back from the metadata. That the
    guard sees a call is not believed of any release: it is tried, once in a process.
    """

    def __init__(self, package: str, canary: Callable[[Guard], Any], *, extra: str | None = None, declared_by: str = "surefoot") -> None:
        """Describe the framework whose package on PyPI is ``package``.

        :param canary: has the framework call one tool named :data:`CANARY`, guarded by the guard that it is given; what it
            returns is not looked at. It runs in a thread of its own, so that it may run an event loop.
        :param extra: the extra that declares the range; default: the package's name.
        :param declared_by: the distribution that has this extra.
        """
        self.package = package
        self.proven = False
        """The installed release has been seen to be guarded."""
        self._canary = canary
        self._extra = extra or package
        self._declared_by = declared_by
        self._lock = threading.Lock()
        self._trying = threading.local()

    def ready(self) -> None:
        """Raise :class:`~surefoot.AdapterUnavailable` unless the framework is installed, new enough, and seen to be guarded."""
        self.check()
        self.prove()

    def check(self) -> None:
        """Raise :class:`~surefoot.AdapterUnavailable` unless the installed release is at least the extra's floor (AS-57)."""
        try:
            version = importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            wanted = f"{self._declared_by}[{self._extra}]"
            raise AdapterUnavailable(f"{self.package} is not installed; run: pip install '{wanted}'") from None
        floor = self.floor()
        if _numbers(version) < _numbers(floor):
            msg = f"{self.package} {version} is too old to be guarded; run: pip install '{self.package}>={floor}'"
            raise AdapterUnavailable(msg)

    def floor(self) -> str:
        """Return the oldest release that the extra allows; ``"0"``: it names none."""
        try:
            requires = importlib.metadata.requires(self._declared_by) or []
        except importlib.metadata.PackageNotFoundError:
            requires = []
        for line in requires:
            spec, _, marker = line.partition(";")
            bounds = re.fullmatch(rf"{re.escape(self.package)}\s*\(?((?:[<>=!~][^)]*)?)\)?", spec.strip(), re.IGNORECASE)
            if bounds and f"extra == '{self._extra}'" in marker.replace('"', "'"):
                return next((bound.strip()[2:].strip() for bound in bounds[1].split(",") if bound.strip().startswith(">=")), "0")
        return "0"

    def prove(self) -> None:
        """Have the framework call one synthetic tool, once in a process; the guard must see exactly that call (AS-61).

        Raises :class:`~surefoot.AdapterUnavailable` when it does not: better no agent than an unguarded one (AS-59).
        """
        if hasattr(self._trying, "it"):  # the canary itself wraps something
            return
        with self._lock:
            if self.proven:
                return
            seen = self._seen()
            if seen != [(CANARY, "committed")]:
                msg = f"guard not installed: a synthetic tool call through {self.package} was recorded as {seen}"
                raise AdapterUnavailable(f"{msg}; install a release of it that {self._declared_by} names")
            self.proven = True

    def _seen(self) -> list[tuple[str, str]]:
        """Return what the ledger has after the canary, which runs where no loop runs and no run is open."""
        from concurrent.futures import ThreadPoolExecutor

        guard = Guard("memory://")
        try:
            with ThreadPoolExecutor(1, "surefoot-prove") as pool:
                pool.submit(self._tried, guard).result()
        except AdapterUnavailable:
            raise
        except Exception as exc:
            msg = f"guard not installed: a synthetic tool call through {self.package} failed ({type(exc).__name__}: {exc})"
            raise AdapterUnavailable(msg) from exc
        return [(record.tool, str(record.state)) for record in guard.calls.list()]

    def _tried(self, guard: Guard) -> None:
        self._trying.it = True  # its thread ends with it
        self._canary(guard)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.strip().split(".")[:3] if part.isdigit())
