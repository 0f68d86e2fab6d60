"""Write the generated reference pages: errors, transitions, hooks. With ``--check`` say whether they are up to date."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from surefoot import SurefootError, errors, hookspecs
from surefoot.engine.transitions import TABLE

PAGES = Path(__file__).parent.parent / "docs" / "reference"


def errors_page() -> str:
    """Return the page of errors with their codes and exit codes."""
    lines = ["# Errors and exit codes", "", "| class | code | exit code | meaning |", "|---|---|---|---|"]
    for name in errors.__all__:
        kind = getattr(errors, name)
        if issubclass(kind, SurefootError):
            lines.append(f"| `{name}` | `{kind.code}` | {kind.exit_code} | {_first(kind)} |")
    lines += ["", "Not errors of surefoot's own:", ""]
    others = [name for name in errors.__all__ if not issubclass(getattr(errors, name), SurefootError)]
    lines += [f"- `{name}`: {_first(getattr(errors, name))}" for name in others]
    return "\n".join(lines) + "\n"


def transitions_page() -> str:
    """Return the table that the engine executes."""
    lines = ["# States and transitions of a call", "", "The engine executes this table; what is not in it cannot happen.", ""]
    lines += ["| state | event | becomes | equal requests get the answer | why |", "|---|---|---|---|---|"]
    for (state, event), transition in TABLE.items():
        sticky = {True: "from now on", False: "no longer", None: ""}[transition.sticky]
        lines.append(f"| {state or 'unknown'} | `{event}` | {transition.to} | {sticky} | {transition.why} |")
    return "\n".join(lines) + "\n"


def hooks_page() -> str:
    """Return the hooks with their signatures and docstrings."""
    lines = ["# Hooks", "", inspect.getdoc(hookspecs) or "", ""]
    for name, function in vars(hookspecs).items():
        if name.startswith("surefoot_"):
            lines += [f"## `{name}{inspect.signature(function)}`", "", inspect.getdoc(function) or "", ""]
    return "\n".join(lines)


def _first(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def main() -> int:
    """Write or check the pages."""
    stale = 0
    for name, text in (("errors", errors_page()), ("transitions", transitions_page()), ("hooks", hooks_page())):
        page = PAGES / f"{name}.md"
        if "--check" not in sys.argv:
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            print(f"{page.name} is not up to date: run python scripts/reference.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
