"""Certify what comes with surefoot, ask which frameworks conflict, let the saboteurs loose, run the slow tests; print what each took.

Frameworks are certified at both ends of their range, each in an environment of its own. Always LangGraph and plain Python, the
adapters whose digest is not the one in the table of the docs, and two more drawn by the commit; with ``--all`` every one. The
certificates are written to ``certificates/``, the table to ``docs/reference/certificates.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from surefoot.errors import UsageError
from surefoot_conformance.cell import load
from surefoot_conformance.environments import environment
from surefoot_conformance.harness import Harness
from surefoot_conformance.harnesses import KNOWN
from surefoot_conformance.report import digest_of

ROOT = Path(__file__).resolve().parent.parent
CERTIFICATES = ROOT / "certificates"
TABLE = ROOT / "docs" / "reference" / "certificates.md"
REQUIRED = dict.fromkeys(("memory", "function", "claims", "llm", "quorum", "rules", "schema", "tiered"), "L1")
ALWAYS = ("langgraph", "python")
ELSEWHERE = ("crewai", "semantic-kernel")
"""Frameworks that the development environment cannot hold: the tests of their adapters run in one of their own."""
SERVERS = {"postgres": "SUREFOOT_TEST_POSTGRES"}
"""Stores that need a server, and the variable with its URL."""
DRAWN = 2


def stage(name: str, command: Sequence[str]) -> bool:
    """Run one stage, print how long it took, and return whether it ended well."""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    print(f"== {name} took {time.monotonic() - begun:.0f} s{'' if done.returncode == 0 else ': FAILED'}", flush=True)
    return done.returncode == 0


def found(name: str) -> Any:
    """Return a harness, or ``None`` where its framework is not installed here: it is an adapter's, and has an environment of its own."""
    try:
        return load(name)
    except ModuleNotFoundError:
        return None


def packages(name: str) -> Sequence[str]:
    """Return the import packages that a harness is about."""
    harness = found(name)
    return (f"surefoot_{name.replace('-', '_')}",) if harness is None else harness.packages


def is_adapter(name: str) -> bool:
    """Return whether a harness is an adapter's."""
    harness = found(name)
    return harness is None or isinstance(harness, Harness)


def has_range(name: str) -> bool:
    """Return whether a harness is about a framework, which has an oldest and a newest release."""
    harness = found(name)
    return harness is None or bool(isinstance(harness, Harness) and harness.distribution)


def shared_by_hosts(name: str) -> bool:
    """Return whether there is what several hosts share, for an adapter or for the store itself."""
    return bool(os.environ.get(SERVERS["postgres"])) and (is_adapter(name) or name == "postgres")


def chosen(commit: str, *, everything: bool) -> list[str]:
    """Return what to certify at this commit: stores and verifiers always, adapters as the module says."""
    installed = [name for name in sorted(KNOWN) if all(find_spec(package) for package in packages(name))]
    away = [name for name in installed if name in SERVERS and not os.environ.get(SERVERS[name])]
    for name in away:
        print(f"== certify {name}: not run, because {SERVERS[name]} names no server", flush=True)
    here = [name for name in installed if name not in away]
    rest = [name for name in here if is_adapter(name) and name not in ALWAYS]
    known = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    changed = {name for name in rest if digest_of(packages(name))[:12] not in known}
    start = int(commit[:8] or "0", 16)
    drawn = {rest[(start + number) % len(rest)] for number in range(DRAWN)} if rest else set()
    return [name for name in here if name not in rest or everything or name in changed | drawn]


def certificates(names: Sequence[str]) -> bool:
    """Certify each of them, frameworks at both ends; return whether all reached what is asked of them."""
    good = True
    for name in names:
        for end in ("oldest", "latest") if has_range(name) else ("",):
            version = ["--framework-version", end] if end else []
            level = REQUIRED.get(name, "L4" if shared_by_hosts(name) else "L3")
            command = ["-m", "surefoot_cli.main", "certify", name, *version, "--output", str(CERTIFICATES), "--require", level]
            good &= stage(f"certify {name} {end}".rstrip(), command)
        if name in ELSEWHERE:
            good &= tests_elsewhere(name)
    return good


def tests_elsewhere(name: str) -> bool:
    """Run an adapter's own tests, slow ones too, with the newest release of its framework; return whether they passed."""
    begun = time.monotonic()
    try:
        with environment(name, "latest", "policy", "test") as python:
            command = [python, "-m", "pytest", f"tests/surefoot_{name.replace('-', '_')}", "-m", ""]
            good = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    except UsageError as exc:
        print(exc, file=sys.stderr)
        good = False
    print(f"== tests of {name} took {time.monotonic() - begun:.0f} s{'' if good else ': FAILED'}", flush=True)
    return good


def table() -> str:
    """Return the page that shows every certificate there is."""
    lines = [
        "# Certificates",
        "",
        "Written by `make certify`. What the levels mean, and how to certify an adapter, a store or a verifier of your own:",
        "[certify](../how-to/certify.md).",
        "",
        "| certified | version | level | passed | skipped | not run | digest |",
        "|---|---|---|---|---|---|---|",
    ]
    gaps: dict[str, list[str]] = {}
    for file in sorted(CERTIFICATES.glob("*.json")):
        data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = data["versions"].get(data["name"], "-")
        row = [
            data["name"],
            version,
            data["level"],
            data["passed"],
            data["skipped"],
            data["not_run"],
            data["digests"]["implementation"][:12],
        ]
        lines.append(f"| {' | '.join(map(str, row))} |")
        for gap in data["not_tested"]:
            gaps.setdefault(f"{data['name']}: {gap['reason']}", []).append(f"`{gap['check']}`")
    lines += ["", "Not tested:", ""]
    lines += [f"- {gap}: {', '.join(dict.fromkeys(checks))}" for gap, checks in sorted(gaps.items())]
    return "\n".join([*lines, ""])


def main() -> int:
    """Run every stage, whatever failed before it; return 1 if any did."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607 - whichever git there is
    good = certificates(chosen(head.stdout.strip(), everything="--all" in sys.argv))
    TABLE.write_text(table(), encoding="utf-8")
    good &= stage("conflicts", ["scripts/conflicts.py"])
    good &= stage("saboteurs", ["-m", "surefoot_cli.main", "certify", "--saboteurs"])
    good &= stage("sweeps", ["-m", "pytest", "-m", "sweep"])
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
