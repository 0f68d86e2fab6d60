"""Check every page: its relative links resolve, its Python blocks compile, and those that start with ``# run`` run.

Prints one line per problem and exits with 1 if there is any. Blocks run one by one, each in a new interpreter and
an empty folder, with warnings as errors.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Block", "blocks", "code_problems", "link_problems", "pages"]

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
RUN_SECONDS = 60


class Block(NamedTuple):
    """One fenced block of a page: its language, the line its code starts on (from 1), and the code."""

    language: str
    line: int
    code: str


def pages(root: Path) -> list[Path]:
    """Return the Markdown pages at the root of the repository and below ``docs``."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md")])


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for match in FENCED.finditer(text):
        yield Block(match[1], text.count("\n", 0, match.start(2)) + 1, match[2])


def anchors(page: Path) -> set[str]:
    """Return the anchors that the headings of a page make."""
    headings = HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def link_problems(page: Path) -> Iterator[str]:
    """Yield one line for each relative link of a page that leads nowhere."""
    for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists():
            yield f"{page}: no such file: {target}"
        elif anchor and anchor not in anchors(linked):
            yield f"{page}: no such heading: {target}"


def code_problems(page: Path) -> Iterator[str]:
    """Yield one line for each Python block of a page that does not compile, or should run and fails."""
    for block in blocks(page):
        if block.language != "python":
            continue
        try:
            compile(block.code, str(page), "exec")
        except SyntaxError as exc:
            yield f"{page}:{block.line}: does not compile: {exc.msg}"
            continue
        if block.code.startswith("# run") and (error := run(block.code)):
            yield f"{page}:{block.line}: {error}"


def run(code: str) -> str:
    """Run code in a new interpreter and return the last line that it complained with, or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "error", "-c", code]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"still running after {RUN_SECONDS} s"
    return (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1] if done.returncode else ""


def main() -> int:
    """Check the pages of this repository; return 1 if there is a problem."""
    found = pages(Path(__file__).resolve().parent.parent)
    problems = [problem for page in found for check in (link_problems, code_problems) for problem in check(page)]
    print("\n".join([*problems, f"{len(found)} pages, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
