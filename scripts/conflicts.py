"""Ask the resolver which frameworks go into one environment at their newest; write its refusals to ``docs/reference/conflicts.md``.

Run by ``make certify``. Returns 1 where the pairs are others than the page had: it has been written anew.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "conflicts.md"
REFUSED = "No solution found"


def frameworks() -> list[str]:
    """Return what the extra of each framework with an adapter asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    packages = project["entry-points"]["surefoot"].items()
    return sorted(extras[name][0] for name, package in packages if (ROOT / "adapters" / package).is_dir() and extras[name])


def resolved(*requirements: str) -> tuple[str, str]:
    """Return what the resolver chose for these, and what it said where it refuses them; one of the two is empty.

    Raises :class:`RuntimeError` where it failed otherwise: no index is reachable, say.
    """
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "-"]
    done = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, check=False)
    if done.returncode and REFUSED not in done.stderr:
        raise RuntimeError(done.stderr)
    return (done.stdout, "") if done.returncode == 0 else ("", done.stderr)


def newest(requirement: str) -> str:
    """Return a framework pinned to the release that the resolver chooses for it alone."""
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
    chosen, refusal = resolved(requirement)
    found = re.search(rf"^{re.escape(name)}==\S+$", chosen, re.MULTILINE)
    if found is None:
        raise RuntimeError(refusal or f"{name} is not among what was chosen for it")
    return found[0]


def reason(refusal: str) -> str:
    """Return the resolver's own words, on one line of a table."""
    said = " ".join(refusal.partition(REFUSED)[2].partition(":")[2].split())
    return re.sub(r"^(?:cause:|╰─▶)\s*", "", said).replace("|", "\\|")


def page(pins: Sequence[str], refusals: Sequence[tuple[str, str, str]]) -> str:
    """Return the page."""
    lines = [
        "# Frameworks that do not go into one environment",
        "",
        "Written by `make certify`, which asks the resolver for every two of the supported frameworks at their newest. Give those that it",
        f"refuses an environment each; one store may serve them all. Asked for: {', '.join(f'`{pin}`' for pin in pins)}.",
        "",
        "| one | other | what the resolver says |",
        "|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {one} | {other} | {why} |" for one, other, why in refusals), ""])


def pairs(text: str) -> set[tuple[str, str]]:
    """Return which frameworks a page says conflict, whatever their releases."""
    return set(re.findall(r"^\| ([\w.-]+)==\S+ \| ([\w.-]+)==\S+ \|", text, re.MULTILINE))


def main() -> int:
    """Ask about every pair, print the refusals and write the page; return 1 if its pairs are others than before."""
    pins = [newest(requirement) for requirement in frameworks()]
    answers = [(one, other, resolved(one, other)[1]) for one, other in itertools.combinations(pins, 2)]
    refusals = [(one, other, reason(refusal)) for one, other, refusal in answers if refusal]
    for refusal in refusals:
        print(*refusal, sep=" | ")
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    after = page(pins, refusals)
    PAGE.write_text(after, encoding="utf-8")
    return 0 if pairs(before) == pairs(after) else 1


if __name__ == "__main__":
    raise SystemExit(main())
