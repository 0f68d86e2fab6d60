"""Write the generated reference pages: errors, transitions, hooks, what adapters are made of, schema of a policy.

With ``--check`` say whether they are up to date.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path

import surefoot_adapters
from surefoot import SurefootError, errors, hookspecs
from surefoot.engine.transitions import TABLE
from surefoot_policy.model import json_schema

ALIASES = {
    "CANARY": f"The name of the synthetic tool that a canary has called: `{surefoot_adapters.CANARY}`.",
    "HIDDEN": f"What stands in the place of the value of a redacted argument: `{surefoot_adapters.HIDDEN}`.",
    "Instead": "Makes an attempt of a function that takes what the step takes: `Callable[[Callable[..., Any], Frame], Do]`.",
    "KEPT": "What `RunSpec.fork` says of an invocation with kept state: it goes on in the run that is open, and forks one that ended.",
    "Op": "What a program may ask for: `Tx | Do | Pause`.",
    "Program": "A generator that asks for an `Op` at a time and returns a `T`: `Generator[Op, Any, T]`.",
    "RERUNS": f"The effect classes whose calls may run again: {', '.join(sorted(surefoot_adapters.RERUNS))}.",
}
"""What has no docstring of its own."""
PAGES = Path(__file__).parent.parent / "docs" / "reference"


def errors_page() -> str:
    """Return the page of errors with their codes and exit codes."""
    lines = ["# Errors and exit codes", "", "| class | code | exit code | meaning |", "|---|---|---|---|"]
    names = sorted(name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__)
    for name in names:
        kind = getattr(errors, name)
        if issubclass(kind, SurefootError):
            lines.append(f"| `{name}` | `{kind.code}` | {kind.exit_code} | {_first(kind)} |")
    lines += ["", "Not errors of surefoot's own:", ""]
    others = [name for name in names if not issubclass(getattr(errors, name), SurefootError)]
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


def adapters_page() -> str:
    """Return what an adapter's author may use, with signatures, fields and docstrings."""
    lines = [
        "# What adapters are made of",
        "",
        "How they fit together: [an adapter of your own](../how-to/certify.md#an-adapter-of-your-own).",
        "",
    ]
    lines += [inspect.getdoc(surefoot_adapters) or "", ""]
    for name in sorted(surefoot_adapters.__all__, key=str.lower):
        lines += [*_entry(name, getattr(surefoot_adapters, name)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, value: object) -> list[str]:
    if inspect.isclass(value) and value.__module__.startswith("surefoot"):
        return [f"## `class {name}`", "", inspect.getdoc(value) or "", "", *_members(value)]
    if inspect.isfunction(value):
        return [f"## `{name}{_shown(value)}`", "", inspect.getdoc(value) or ""]
    return [f"## `{name}`", "", ALIASES[name]]


def _members(kind: type) -> list[str]:
    """Return the fields of a dataclass, each with the sentence below it, and the public methods."""
    said = _sentences(kind)
    fields = [field for field in dataclasses.fields(kind) if not field.name.startswith("_")] if dataclasses.is_dataclass(kind) else []
    lines = [f"- `{field.name}: {_plain(str(field.type))}`{': ' + said[field.name] if field.name in said else ''}" for field in fields]
    if not fields and "__init__" in vars(kind):
        init = vars(kind)["__init__"]
        lines += [f"- `{kind.__name__}{_shown(init)}`{': ' + _flat(init.__doc__) if init.__doc__ else ''}"]
    methods = {name: getattr(member, "fget", member) for name, member in vars(kind).items() if not name.startswith("_")}
    return [
        *lines,
        *(
            f"- `.{name}{_shown(method)}`: {_flat(inspect.getdoc(method) or '')}"
            for name, method in methods.items()
            if inspect.isfunction(method)
        ),
    ]


def _sentences(kind: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    pairs = zip(body.body, body.body[1:], strict=False) if isinstance(body, ast.ClassDef) else ()
    return {
        field.target.id: _flat(text.value.value)
        for field, text in pairs
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _shown(function: object) -> str:
    return _plain(re.sub(r"\(self(, )?", "(", str(inspect.signature(function))).replace("'", ""))  # type: ignore[arg-type]


def _plain(text: str) -> str:
    return re.sub(r"<function [^ ]+ at 0x[0-9a-f]+>|<class '?bytes'?>", "…", text)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _first(kind: type) -> str:
    return (inspect.getdoc(kind) or "").splitlines()[0]


def policy_schema() -> str:
    """Return the JSON Schema of a policy file, for editors."""
    return json.dumps(json_schema(), indent=2) + "\n"


def main() -> int:
    """Write or check the pages."""
    stale = 0
    pages = {"errors": errors_page(), "transitions": transitions_page(), "hooks": hooks_page(), "adapters": adapters_page()}
    for name, text in {**{f"{name}.md": text for name, text in pages.items()}, "policy.schema.json": policy_schema()}.items():
        page = PAGES / name
        if "--check" not in sys.argv:
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            print(f"{page.name} is not up to date: run python scripts/reference.py")
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main())
