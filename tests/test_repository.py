"""Rules about the repository itself: what is written twice agrees, and nothing outgrows its limit."""

from __future__ import annotations

import ast
import importlib
import io
import re
import statistics
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from copies import copied
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SOURCE_ROOTS = ["core", "adapters", "mcp_server", "conformance"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = sorted(init.parent for root in SOURCE_ROOTS for init in ROOT.glob(f"{root}/*/__init__.py"))
ADAPTERS = [package.name for package in PACKAGES if package.parent.name == "adapters"]
MODULES = sorted(module for package in PACKAGES for module in package.rglob("*.py"))
KERNEL = [module for module in MODULES if module.is_relative_to(ROOT / "core" / "surefoot")]
INITS = [module for module in MODULES if module.name == "__init__.py"]
OURS = [*SOURCE_ROOTS, "tests", "scripts", "docs", "examples", "changelog.d", ".ci"]
BUDGET_OF_THE_KERNEL = 3000
LONGEST_MODULE = 500
LEAST_COPY = 18
"""Nodes of the syntax tree: a body of fewer is one line that says the same thing anywhere."""
MEDIAN_MODULE_OF_THE_KERNEL = 150


def name_of(path: Path) -> str:
    """Return the path as seen from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def docstrings(tree: ast.AST) -> Iterator[range]:
    """Yield the lines of every statement that is only a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield range(node.lineno, (node.end_lineno or node.lineno) + 1)


def undocumented(node: ast.Module | ast.ClassDef, name: str) -> Iterator[str]:
    """Yield the names below a module or class, itself included, that are public and have no docstring."""
    if ast.get_docstring(node) is None:
        yield name
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{name}:{child.name}")
        elif ast.get_docstring(child) is None:
            yield f"{name}:{child.name}"


def code_lines(source: str) -> int:
    """Return how many lines hold code: not blank, not a comment, not a docstring."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines.difference(*docstrings(ast.parse(source))))


def imported_packages(source: str) -> set[str]:
    """Return the top-level packages that a module imports anywhere, for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0] if node.level == 0 else "surefoot")
    return found


def modules_after_importing(package: str) -> set[str]:
    """Return the top-level packages outside the standard library that a fresh interpreter loads for a package."""
    program = f"import sys; before = set(sys.modules); import {package}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {module.partition(".")[0] for module in done.stdout.split()} - sys.stdlib_module_names


def own_exports(init: Path) -> set[str]:
    """Return the public names that a package's ``__init__`` imports from its own modules."""
    package = ".".join(init.parent.relative_to(ROOT).parts[1:])
    names = set()
    for node in ast.walk(ast.parse(init.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.level or f"{node.module}.".startswith(f"{package}.")):
            names.update(alias.asname or alias.name for alias in node.names)
    return {name for name in names if not name.startswith("_")}


def indented(text: str) -> str:
    """Return lines one level further in."""
    return "".join(f"    {line}" for line in text.splitlines(keepends=True))


def in_order(names: list[str]) -> list[str]:
    """Return names in the order that ruff keeps: constants, classes, the rest."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def test_packages_are_declared() -> None:
    """The wheel holds exactly the packages that lie in the source roots."""
    assert sorted(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == [name_of(package) for package in PACKAGES]


def test_packages_are_typed() -> None:
    """Every package tells type checkers that it is typed."""
    assert [name_of(package) for package in PACKAGES if not (package / "py.typed").exists()] == []


def test_packages_are_layered_and_covered() -> None:
    """Import-linter and coverage know every package."""
    names = sorted(package.name for package in PACKAGES)
    assert sorted(PYPROJECT["tool"]["importlinter"]["root_packages"]) == names
    assert sorted(PYPROJECT["tool"]["coverage"]["run"]["source_pkgs"]) == names


@pytest.mark.parametrize("package", ADAPTERS)
def test_adapter_is_advertised(package: str) -> None:
    """Every adapter has an entry point and an extra of the same name."""
    entry_points = {target: name for name, target in PYPROJECT["project"]["entry-points"]["surefoot"].items()}
    assert package in entry_points
    assert entry_points[package] in PYPROJECT["project"]["optional-dependencies"]


@pytest.mark.parametrize("module", [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name_of)
def test_public_names_have_a_docstring(module: Path) -> None:
    """Every module, and every public class, function and method in it, has a docstring; so has every test."""
    assert list(undocumented(ast.parse(module.read_text(encoding="utf-8")), name_of(module))) == []


def test_undocumented_finds_public_names_only() -> None:
    """Modules, classes, methods and async functions are found; private and nested ones are not."""
    source = "class A:\n    def b(self):\n        def c(): ...\n    def _d(self): ...\nasync def e(): ...\n"
    assert list(undocumented(ast.parse(source), "m")) == ["m", "m:A", "m:A:b", "m:e"]


def test_module_length() -> None:
    """No module is longer than 500 lines."""
    lengths = {name_of(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_adapter_has_a_copy_of_anothers_helper() -> None:
    """No two adapters have a function with an equal body, whatever it and its variables are called: what they share is in their kit."""
    sources = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in MODULES if path.is_relative_to(ROOT / "adapters")}
    assert sources
    found = copied(sources, LEAST_COPY)
    assert found == [], "copied helpers; move each into core/surefoot_adapters and use it from there"


def test_copies_are_found_under_other_names() -> None:
    """A body in two folders is found whatever its names, types and docstring are; in one folder, with other words, or short, it is not."""
    body = '    found: list[str] = []\n    for item in {0}:\n        found.append(str(item) + "{1}")\n    return found\n'
    first = "def a(items: list[int]) -> list[str]:\n" + body.format("items", "s")
    renamed = 'class B:\n    async def b(self, given):\n        """Do."""\n' + indented(body.format("given", "s")).replace(
        ": list[str]", ""
    )
    renamed = renamed.replace("found", "texts").replace("(self, given)", "(given)")
    short = "def c(target):\n    return str(target)\n"
    sources = {Path("one/a.py"): first + short, Path("one/b.py"): first, Path("two/a.py"): renamed + short}
    assert copied(sources, LEAST_COPY) == [["one/a.py:1 a", "two/a.py:2 b"]]
    assert copied({**sources, Path("two/a.py"): renamed.replace('"s"', '"t"')}, LEAST_COPY) == []


def test_kernel_is_small() -> None:
    """The kernel has at most 3,000 code lines, and half of its modules at most 150 lines."""
    sources = [module.read_text(encoding="utf-8") for module in KERNEL]
    assert sum(map(code_lines, sources)) <= BUDGET_OF_THE_KERNEL
    assert statistics.median(len(source.splitlines()) for source in sources) <= MEDIAN_MODULE_OF_THE_KERNEL


def test_code_lines_counts_code_only() -> None:
    """Blank lines, comments and docstrings are not code; every line of a long string value is."""
    source = '"""Module."""\n\n# why\nA = """x\ny"""  # here\n\n\nclass B:\n    """Doc.\n\n    More.\n    """\n\n'
    source += '    c: int = 1\n    """Field."""\n'
    assert code_lines(source) == 4


@pytest.mark.parametrize("module", KERNEL, ids=name_of)
def test_kernel_imports(module: Path) -> None:
    """The kernel imports the standard library, pluggy, rfc8785 and itself, and nothing else."""
    foreign = imported_packages(module.read_text(encoding="utf-8")) - sys.stdlib_module_names
    assert foreign <= {"surefoot", "pluggy", "rfc8785"}


@pytest.mark.parametrize(
    "package", ["surefoot", "surefoot_adapters", "surefoot_policy", "surefoot_stores", "surefoot_verifiers", "surefoot_bench", *ADAPTERS]
)
def test_import_is_light_as_56(package: str) -> None:
    """AS-56: importing the kernel, the kit, stores, verifiers, benchmarks or an adapter loads no framework, no pydantic and no click."""
    below = {"surefoot_adapters": {"surefoot_journal"}, "surefoot_langchain": {"surefoot_langgraph"}}.get(package, set())
    assert modules_after_importing(package) <= {"surefoot", "pluggy", "rfc8785", package} | below


def test_dependencies_as_56() -> None:
    """AS-56: installing surefoot without an extra asks for pluggy, rfc8785, pydantic and click only."""
    assert {Requirement(line).name for line in PYPROJECT["project"]["dependencies"]} == {"pluggy", "rfc8785", "pydantic", "click"}


@pytest.mark.parametrize("init", INITS, ids=name_of)
def test_exports(init: Path) -> None:
    """A package's ``__all__`` is sorted, names only what exists, and misses nothing that its ``__init__`` brings in."""
    module = importlib.import_module(".".join(init.parent.relative_to(ROOT).parts[1:]))
    listed = list(getattr(module, "__all__", []))
    assert listed == in_order(listed)
    assert own_exports(init) - set(listed) == set()
    assert [name for name in listed if not hasattr(module, name)] == []


def test_lint_exceptions_have_a_reason() -> None:
    """Every ignored lint rule says why on its line, in pyproject and in the code."""
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.ruff.lint]")[2]
    ignored = re.findall(r'^    "[A-Z]+\d*",.*$', settings, re.MULTILINE)
    assert ignored
    assert [line for line in ignored if not re.search(r"# \w", line)] == []
    bare = re.compile(r"# (?:noqa(?!: [A-Z]+\d+(?:, ?[A-Z]+\d+)* \S)|type: ignore(?!\[)|pyright: ignore(?!\[))")
    sources = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    assert [name_of(source) for source in sources if bare.search(source.read_text(encoding="utf-8"))] == []


def test_readme_commands_exist() -> None:
    """Every ``make`` command in the README and in .ci/run is a target of the Makefile."""
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    named |= set(re.findall(r"^stage (\w+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_no_path_of_a_machine() -> None:
    """No file names a folder of the machine that it was written on."""
    machine = re.compile(r"(?<![\w.<])/(?:home|Users|root|work|tmp|opt|mnt)/\w|\b[A-Z]:\\\\?Users")
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".coverage"]
    files += [path for folder in OURS for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert [name_of(path) for path in files if machine.search(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("package", [f"surefoot_{name}" for name in ("conformance", "policy", "recovery", "stores", "verifiers")])
def test_a_public_name_that_is_loaded_on_demand_is_there(package: str) -> None:
    """Each public name of a package that imports them on demand is found; a name that is none says so."""
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018 - reading it is the test
