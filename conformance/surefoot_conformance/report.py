"""The certificate: what ran, what it found, what was not tested, and on what it stands."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import inspect
import platform
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from surefoot_conformance.table import LEVELS

__all__ = ["FAILURES", "Report", "digest_of", "files", "ground", "nameless"]

FAILURES: Final = ("failed", "fault", "unexpected_pass")
"""States of a cell with which a run is never a pass; ``fault`` is the harness's or the suite's own."""
_PASSABLE: Final = frozenset({"passed", "skipped"})


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of the suite found about one implementation."""

    name: str
    kind: str
    cells: Sequence[Mapping[str, Any]]
    """``cell check level capability face point variant status reason effects seconds``, in the order of the table."""
    ground: Mapping[str, Any] = field(default_factory=dict)
    """Versions, commit and digests (see :func:`ground`)."""
    seed: int = 0
    seconds: float = 0.0
    problems: Sequence[str] = ()
    """What voids the run as a whole: a standard check that is missing or altered, a suite that died."""
    only: Sequence[str] = ()
    """The checks or cells that were chosen; a choice of checks has no level."""

    def count(self, *states: str) -> int:
        """Return how many cells are in one of these states."""
        return sum(cell["status"] in states for cell in self.cells)

    @property
    def level(self) -> str:
        """The highest level reached: every cell up to it passed or was skipped, and some passed in each; ``"none"``."""
        reached = "none"
        if self.only or self.problems or not self._passes(cell for cell in self.cells if cell["level"] == "harness"):
            return reached
        for level in LEVELS:
            cells = [cell for cell in self.cells if cell["level"] == level]
            if not any(cell["status"] == "passed" for cell in cells) or not self._passes(cells):
                return reached
            reached = level
        return reached

    @staticmethod
    def _passes(cells: Iterable[Mapping[str, Any]]) -> bool:
        return all(cell["status"] in _PASSABLE for cell in cells)

    @property
    def ok(self) -> bool:
        """Whether nothing failed, nothing is void, and something passed. Zero tests are not a pass, nor is a choice of them."""
        return self.level != "none" and self.count(*FAILURES) == 0

    def not_tested(self) -> list[dict[str, str]]:
        """Return what did not run, each thing once, with its reason."""
        found = {(cell["check"], cell["reason"]): None for cell in self.cells if cell["status"] in {"skipped", "not_run"}}
        return [{"check": check, "reason": reason} for check, reason in found]

    def data(self) -> dict[str, Any]:
        """Return the certificate as JSON data."""
        return {
            "schema_version": 1,
            "name": self.name,
            "kind": self.kind,
            "level": self.level,
            "ok": self.ok,
            "passed": self.count("passed"),
            "failed": self.count("failed", "unexpected_pass"),
            "faults": self.count("fault"),
            "expected_failures": self.count("expected_failure"),
            "skipped": self.count("skipped"),
            "not_run": self.count("not_run"),
            "problems": list(self.problems),
            "only": list(self.only),
            "not_tested": self.not_tested(),
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            **self.ground,
            "cells": [dict(cell) for cell in self.cells],
        }


def ground(harness: Any) -> dict[str, Any]:
    """Return what a run stands on: versions, commit, and digests of implementation, harness, core, suite and distributions."""
    framework = harness.distribution
    installed = sorted({f"{found.name}=={found.version}" for found in importlib.metadata.distributions() if found.name})
    return {
        "versions": {
            "surefoot": importlib.metadata.version("surefoot"),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "platform": platform.platform(),
            **({framework: harness.version()} if framework else {}),
        },
        "commit": _commit(),
        "harness": f"{type(harness).__module__}:{type(harness).__qualname__}",
        "digests": {
            "implementation": digest_of(harness.packages),
            "harness": _digest_of_class(type(harness)),
            "core": digest_of(["surefoot", "surefoot_journal", "surefoot_adapters", "surefoot_stores"]),
            "suite": digest_of(["surefoot_conformance"]),
            "lock": hashlib.sha256("\n".join(installed).encode()).hexdigest(),
        },
    }


def digest_of(packages: Sequence[str]) -> str:
    """Return the SHA-256 (hex) of the Python files of packages or modules: their names and bytes, in order."""
    seen = hashlib.sha256()
    for package in packages:
        for name, file in files(package):
            seen.update(f"{package}/{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return seen.hexdigest()


def nameless(packages: Sequence[str]) -> list[str]:
    """Return why a certificate would not say what it is about: no package is named, or there is none of that name."""
    if not packages:
        return ["the harness names no packages: say which import packages are certified, packages = ('my_package',)"]
    return [f"the harness names the package {name!r}, and it has no Python file here" for name in packages if not files(name)]


def files(package: str) -> list[tuple[str, Path]]:
    """Return the Python files of a package, or a module's own, each with its path in it."""
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # of the package that it would be in
        found = None
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    found_files = sorted((file.relative_to(place).as_posix(), file) for place in places for file in place.rglob("*.py"))
    return found_files or ([(Path(found.origin).name, Path(found.origin))] if found and found.origin and found.has_location else [])


def _digest_of_class(kind: type) -> str:
    """Return the SHA-256 (hex) of the files that a harness and its bases are written in."""
    files = dict.fromkeys(
        filter(None, (inspect.getsourcefile(base) for base in kind.__mro__ if base.__module__ not in {"builtins", "abc"}))
    )
    return hashlib.sha256(b"".join(hashlib.sha256(Path(file).read_bytes()).digest() for file in files)).hexdigest()


def _commit() -> str:
    """Return the commit of the working tree that this package lies in, with ``+`` when it was changed; ``""``: none."""
    try:
        told = ["git", "-C", str(Path(__file__).parent)]
        head = subprocess.run([*told, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*told, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head}+" if changed else head
