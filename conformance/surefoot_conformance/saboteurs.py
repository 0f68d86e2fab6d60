"""What the certificate is worth: surefoot broken on purpose, each time in one way, and the check that must find it.

A saboteur changes a few words of *shipped* source in a copy of it; the check it names runs on the copy and must fail, while it
passes on an unchanged copy, and a run without any call still works. Its words must stand in the source exactly once: when the
source changes, the saboteur says so and must be rewritten.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from surefoot.errors import UsageError
from surefoot_conformance.runner import run
from surefoot_conformance.sabotage import ADAPTER, CODE, STORE, VERIFIER

__all__ = ["PLANTED", "Patch", "Saboteur", "copied", "loose"]

_PACKAGES: Final = (
    "surefoot",
    "surefoot_adapters",
    "surefoot_journal",
    "surefoot_policy",
    "surefoot_stores",
    "surefoot_cli",
    "surefoot_langgraph",
    "surefoot_python",
    "surefoot_conformance",
)
_CONTROLS: Final[Mapping[str, str]] = dict.fromkeys(
    ("langgraph", "python"), "a_wrapped_agent_returns_what_the_bare_one_returns[sync, no call]"
)
"""What must still work in a sabotaged copy: whoever breaks everything has not been found, he has given himself up."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Words in a file, and what they become."""

    file: str
    old: str
    new: str

    def apply(self, folder: Path) -> None:
        """Change the file below ``folder``. Raises :class:`~surefoot.UsageError` unless the words stand there once."""
        path = folder / self.file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text.count(self.old) != 1:
            raise UsageError(f"{self.file} has these words {text.count(self.old)} times, not once; rewrite the saboteur: {self.old!r}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Saboteur:
    """One way to break surefoot."""

    name: str
    harness: str
    cell: str
    """What must find it."""
    patches: Sequence[Patch]


def _planted() -> Iterator[Saboteur]:
    for harness, planted in (("langgraph", ADAPTER), ("python", CODE), ("sqlite", STORE), ("function", VERIFIER)):
        for name, (cell, *patches) in planted.items():
            yield Saboteur(name, harness, cell, [Patch(*patch) for patch in patches])


PLANTED: Final = tuple(_planted())


@contextmanager
def copied(patches: Sequence[Patch] = ()) -> Iterator[Path]:
    """Copy the installed source, change the copy, and yield its folder."""
    folder = Path(tempfile.mkdtemp(prefix="surefoot-sabotage-"))
    try:
        for package in _PACKAGES:
            found = find_spec(package)
            for place in (found.submodule_search_locations or ()) if found else ():
                shutil.copytree(place, folder / package)
        for patch in patches:
            patch.apply(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def loose(only: Sequence[str] = (), jobs: int = 0) -> dict[str, Any]:
    """Let the saboteurs loose; return ``planted``, ``found``, ``by`` (saboteur → check) and ``missed`` (saboteur → why)."""
    chosen = [saboteur for saboteur in PLANTED if not only or saboteur.name in only]
    if not chosen:
        raise UsageError(f"there is no saboteur {', '.join(only)}; there are {', '.join(saboteur.name for saboteur in PLANTED)}")
    twins = _twins(chosen)
    with ThreadPoolExecutor(jobs or os.cpu_count() or 2) as pool:
        missed = dict(zip((saboteur.name for saboteur in chosen), pool.map(lambda one: _missed(one, twins), chosen), strict=True))
    by = {saboteur.name: "" if missed[saboteur.name] else saboteur.cell for saboteur in chosen}
    return {
        "schema_version": 1,
        "planted": len(chosen),
        "found": sum(map(bool, by.values())),
        "by": by,
        "missed": {name: why for name, why in missed.items() if why},
    }


def _twins(chosen: Sequence[Saboteur]) -> dict[str, str]:
    """Return the states of the named checks on an unchanged copy."""
    states: dict[str, str] = {}
    with copied() as folder:
        for harness in dict.fromkeys(saboteur.harness for saboteur in chosen):
            states |= _states(harness, sorted({one.cell for one in chosen if one.harness == harness}), folder, jobs=0)
    return states


def _states(harness: str, cells: Sequence[str], folder: Path, *, jobs: int) -> dict[str, str]:
    places: list[str] = []
    env = {**os.environ, "PYTHONPATH": str(folder)}
    report = run(harness, only=cells, jobs=jobs, env=env, place=places.append)
    if places != [str(folder)]:
        raise UsageError(f"the copy was not used: surefoot was loaded from {places}; leave PYTHONPATH and sys.path alone")
    return {cell["cell"]: cell["status"] for cell in report.cells}


def _missed(saboteur: Saboteur, twins: Mapping[str, str]) -> str:
    """Return why a saboteur was not found; ``""``: the check that he names found him."""
    if twins.get(saboteur.cell) != "passed":
        return f"its unpatched twin {twins.get(saboteur.cell, 'does not exist')}"
    control = _CONTROLS.get(saboteur.harness)
    try:
        with copied(saboteur.patches) as folder:
            states = _states(saboteur.harness, [saboteur.cell, *([control] if control else [])], folder, jobs=1)
    except UsageError as exc:
        return str(exc)
    if control and states[control] != "passed":
        return "it broke everything: not even a run without calls works"
    return "" if states[saboteur.cell] == "failed" else f"{saboteur.cell} {states[saboteur.cell]}"
