"""Runs the suite on one harness in a process of its own and makes the report of what that prints."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from surefoot.errors import UsageError
from surefoot_conformance.report import Report

__all__ = ["STANDARD", "expected_failures", "run"]

STANDARD: Final = Path(__file__).parent / "standard.json"
"""Every standard check with its level and the digest of its code: what must run, whatever the table says."""


def run(
    name: str,
    *,
    only: Sequence[str] = (),
    seed: int = 0,
    jobs: int = 0,
    expected: Mapping[str, str] | None = None,
    watch: Callable[[Mapping[str, Any]], None] = lambda _cell: None,
    python: str = sys.executable,
    env: Mapping[str, str] | None = None,
    place: Callable[[str], None] = lambda _folder: None,
) -> Report:
    """Run the suite on the harness ``name`` and return its report.

    :param only: names of checks or cells; the report then covers nothing else. :param expected: cell → why it is known to fail.
    :param watch: sees every cell as it ends. :param python: the interpreter whose environment is judged.
    :param place: is told the folder that the suite was loaded from.
    """
    begun = time.monotonic()
    command = [python, "-m", "surefoot_conformance.cell", name, str(jobs), str(seed), *only]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env) as process,
    ):
        head, seen = {}, {}
        assert process.stdout is not None  # noqa: S101 - asked for above
        for line in process.stdout:
            told = json.loads(line)
            if "cells" in told:
                head = told
                place(told["place"])
            else:
                seen[told["cell"]] = told
                watch(told)
        process.wait()
        errors.seek(0)
        trouble = errors.read()
    if not head:
        last = trouble.strip().splitlines()[-1:] or ["it printed nothing"]
        raise UsageError(f"{name} cannot be certified ({last[0]})")
    cells = [_expected(seen.get(cell["cell"]) or _missing(cell), expected or {}) for cell in head["cells"]]
    problems = [] if only else [*head["problems"], *_altered(head)]
    unknown = set() if only else set(expected or {}) - set(seen)
    problems += [f"{cell} is listed as an expected failure, and there is no such cell" for cell in sorted(unknown)]
    if process.returncode:
        problems.append(f"the suite's own process ended with {process.returncode}: {trouble.strip()[-500:]}")
    return Report(head["harness"], head["kind"], cells, head["ground"], seed, time.monotonic() - begun, problems, tuple(only))


def _missing(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**cell, "status": "fault", "reason": "it did not run", "effects": {}}


def _expected(cell: Mapping[str, Any], expected: Mapping[str, str]) -> dict[str, Any]:
    """Return the cell as the list of known failures makes it: a listed one that passes fails the run."""
    why = expected.get(cell["cell"])
    if why is None or cell["status"] == "fault":
        return dict(cell)
    if cell["status"] == "failed":
        return {**cell, "status": "expected_failure", "reason": f"{why} ({cell['reason']})"}
    return {**cell, "status": "unexpected_pass", "reason": f"listed as an expected failure ({why}), and it {cell['status']}"}


def _altered(head: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the table that ran: a standard check that is missing from it, or is another one."""
    standard = json.loads(STANDARD.read_text(encoding="utf-8"))[head["kind"]]
    ran = head["standard"]
    problems = [f"the standard check {name} is missing: nothing was deleted from the standard" for name in standard if name not in ran]
    problems += [f"the standard check {name} was replaced" for name in standard if name in ran and ran[name] != standard[name]]
    with_cells = {cell["check"] for cell in head["cells"]}
    return problems + [f"the standard check {name} has no cell" for name in standard if name in ran and name not in with_cells]


def expected_failures(path: Path) -> dict[str, str]:
    """Return the known failures that a TOML file lists: ``"<cell>" = "why"``."""
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as exc:
        raise UsageError(f"{path} cannot be read as a list of expected failures ({exc})") from exc
    return {str(cell): str(why) for cell, why in listed.items()}
