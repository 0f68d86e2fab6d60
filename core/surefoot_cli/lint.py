"""The boundary lint: effects in source that go round the guard. It reads, and imports nothing.

An effect is fine in the body of a tool, and in what tools call. Anywhere else (a node, a callback, a script's top level) no ledger knows of
it. A body that is called past its tool, and an object that is used bare beside its wrapped form, go round the guard as well.
"""

from __future__ import annotations

import ast
import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

__all__ = ["Finding", "lint"]

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_EFFECTS: Final = (
    *(f"{module}.{verb}" for module in ("requests", "httpx") for verb in ("post", "put", "patch", "delete", "request")),
    *("subprocess.*", "smtplib.SMTP*", "asyncio.create_subprocess_*", "shutil.rmtree", "shutil.move"),
    *(f"os.{name}" for name in ("system", "popen", "remove", "unlink", "rename", "replace", "rmdir", "removedirs", "exec*", "spawn*")),
)
"""What changes the world, by the name that it has where it is defined."""
_CLIENTS: Final = ("requests.Session", "requests.session", "httpx.Client", "httpx.AsyncClient", "aiohttp.ClientSession")
_VERBS: Final = frozenset({"post", "put", "patch", "delete", "request"})
_WRITES: Final = frozenset({"write_text", "write_bytes", "unlink", "rmdir"})
_HARMLESS: Final = ("*Error", "*Expired", "subprocess.list2cmdline")
_BODIES: Final = frozenset({"func", "coroutine", "_run", "_arun", "on_invoke_tool", "__wrapped__"})
_STARTS: Final = frozenset({"invoke", "ainvoke", "stream", "astream", "batch", "abatch"})
_RUNNERS: Final = frozenset({"run", "run_sync", "run_streamed"})
_IGNORE: Final = "# surefoot: ignore - "
"""Ends a line that is meant as it is; a reason follows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that goes round the guard."""

    path: str
    line: int
    text: str


@dataclass
class _Module:
    path: Path
    tree: ast.Module
    lines: Sequence[str]
    names: dict[str, str] = field(default_factory=dict)
    """Name in the module → what it is imported from."""
    clients: set[str] = field(default_factory=set)
    """Names of sessions with which requests are made."""
    tools: set[str] = field(default_factory=set)
    """Names of functions that are bodies of tools."""

    def dotted(self, node: ast.expr) -> str:
        """Return what an expression names, through the imports; empty for what is no name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        inner = self.dotted(node.value) if isinstance(node, ast.Attribute) else ""
        return f"{inner}.{node.attr}" if isinstance(node, ast.Attribute) and inner else ""


def lint(paths: Sequence[Path]) -> tuple[int, list[Finding]]:
    """Return how many files were read, and what goes round the guard in them; one that cannot be read is a finding."""
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    modules, found = list[_Module](), list[Finding]()
    for file in files:
        try:
            modules.append(_read(file))
        except (OSError, SyntaxError, ValueError, RecursionError) as exc:  # ValueError: bytes that are no text, a null in the source
            found.append(Finding(str(file), getattr(exc, "lineno", None) or 1, f"it cannot be looked at ({type(exc).__name__}: {exc})"))
    within = _reached(modules)
    found += [finding for module in modules for finding in (*_effects(module, within), *_bypasses(module))]
    return len(modules), sorted(found, key=lambda finding: (finding.path, finding.line, finding.text))


def _read(path: Path) -> _Module:
    text = path.read_text(encoding="utf-8")
    module = _Module(path, ast.parse(text, str(path)), text.splitlines())
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            whole = {alias.asname or alias.name.partition(".")[0]: alias for alias in node.names}
            module.names |= {name: alias.name if alias.asname else name for name, alias in whole.items()}
        elif isinstance(node, ast.ImportFrom) and node.module:
            module.names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(module.tree):
        if isinstance(node, _FUNCTIONS) and any(_makes_tool(module, decorator) for decorator in node.decorator_list):
            module.tools.add(node.name)
        elif isinstance(node, ast.Call) and _makes_tool(module, node.func):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            module.tools |= {one.id for one in given if isinstance(one, ast.Name)}
        elif isinstance(node, ast.ClassDef) and any(module.dotted(base).endswith("Tool") for base in node.bases):
            module.tools |= {one.name for one in node.body if isinstance(one, _FUNCTIONS)}
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.withitem):
            _note_client(module, node)
    return module


def _makes_tool(module: _Module, node: ast.expr) -> bool:
    """Return whether an expression makes a tool: ``@tool``, ``function_tool(…)``, ``StructuredTool.from_function(…)``."""
    if isinstance(node, ast.Call):
        return _makes_tool(module, node.func)
    name = module.dotted(node) or (node.attr if isinstance(node, ast.Attribute) else "")
    last = name.rpartition(".")[2]
    return last in {"tool", "tool_plain", "function_tool"} or last.endswith("Tool") or "Tool.from_" in name


def _note_client(module: _Module, node: ast.Assign | ast.AnnAssign | ast.withitem) -> None:
    value = node.context_expr if isinstance(node, ast.withitem) else node.value
    if not isinstance(value, ast.Call) or module.dotted(value.func) not in _CLIENTS:
        return
    targets = node.targets if isinstance(node, ast.Assign) else [node.optional_vars if isinstance(node, ast.withitem) else node.target]
    module.clients |= {target.id for target in targets if isinstance(target, ast.Name)}


def _reached(modules: Sequence[_Module]) -> set[str]:
    """Return the names of functions that tools call, directly or through others; by name, whichever module they are in."""
    calls: dict[str, set[str]] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, _FUNCTIONS):
                named = (one.func for one in ast.walk(node) if isinstance(one, ast.Call))
                names = {one.id if isinstance(one, ast.Name) else one.attr for one in named if isinstance(one, ast.Name | ast.Attribute)}
                calls.setdefault(node.name, set()).update(names)
    found: set[str] = set()
    open_ = {name for module in modules for name in module.tools}
    while open_:
        found |= open_
        open_ = {called for name in open_ for called in calls.get(name, ()) if called in calls} - found
    return found


def _effects(module: _Module, within: set[str]) -> Iterator[Finding]:
    for node, around in _calls(module.tree, []):
        what = _effect(module, node)
        if what is None or any(function.name in within for function in around) or _meant(module, node):
            continue
        where = f"in {around[-1].name}()" if around else "at the top level"
        yield Finding(str(module.path), node.lineno, f"{what} {where} goes round the guard: no tool calls it; make it one (@surefoot.tool)")


def _calls(node: ast.AST, around: list[_Function]) -> Iterator[tuple[ast.Call, list[_Function]]]:
    """Yield every call below a node, with the functions around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield child, around
        yield from _calls(child, [*around, child] if isinstance(child, _FUNCTIONS) else around)


def _effect(module: _Module, node: ast.Call) -> str | None:
    """Return what a call changes in the world, ``None`` for one that is not known to."""
    name = module.dotted(node.func)
    if name == "open" or name.endswith(".open"):
        return f"open(…, {mode!r})" if (mode := _mode(node)) and set(mode) & set("wax+") else None
    if name == "urllib.request.urlopen":
        return f"{name}(…, data)" if len(node.args) > 1 or any(keyword.arg == "data" for keyword in node.keywords) else None
    if _like(name, _EFFECTS) and not _like(name, _HARMLESS):
        return name
    if not isinstance(node.func, ast.Attribute):
        return None
    owner = node.func.value
    client = isinstance(owner, ast.Name) and owner.id in module.clients
    if (client and node.func.attr in _VERBS) or node.func.attr in _WRITES:
        return f"{ast.unparse(node.func)}"
    return None


def _like(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _mode(node: ast.Call) -> str:
    given = [keyword.value for keyword in node.keywords if keyword.arg == "mode"] or node.args[1:2]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else ""


def _bypasses(module: _Module) -> Iterator[Finding]:
    """Yield bodies that are called past their tool, and what is used bare beside its wrapped form."""
    bare = _wrapped_elsewhere(module)
    for node, _around in _calls(module.tree, []):
        if _meant(module, node) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        if owner in module.tools and node.func.attr in _BODIES:
            yield Finding(str(module.path), node.lineno, f"{owner}.{node.func.attr}() calls the body past its tool; call the tool")
        first = node.args[0].id if node.args and isinstance(node.args[0], ast.Name) else ""
        used = owner if node.func.attr in _STARTS else first if owner == "Runner" and node.func.attr in _RUNNERS else ""
        if used in bare:
            yield Finding(str(module.path), node.lineno, f"{used} is used bare, and wrapped as {bare[used]}; use that")


def _wrapped_elsewhere(module: _Module) -> dict[str, str]:
    """Return name of a bare object → name that its wrapped form has."""
    found = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and module.dotted(node.value.func) == "surefoot.wrap":
            given, target = node.value.args[:1], node.targets[0]
            if given and isinstance(given[0], ast.Name) and isinstance(target, ast.Name) and target.id != given[0].id:
                found[given[0].id] = target.id
    return found


def _meant(module: _Module, node: ast.Call) -> bool:
    _, found, reason = module.lines[(node.end_lineno or node.lineno) - 1].partition(_IGNORE)
    return bool(found and reason.strip())
