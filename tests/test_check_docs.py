"""The pages are true, and the script that says so can tell."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from surefoot import errors

ROOT = Path(__file__).parent.parent


def load_script() -> ModuleType:
    """Import ``scripts/check_docs.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("check_docs", ROOT / "scripts" / "check_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check_docs = load_script()
PAGES = check_docs.pages(ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_is_true(page: Path) -> None:
    """Every relative link of a page resolves, every Python block compiles and every "# run" block runs."""
    assert [*check_docs.link_problems(page), *check_docs.code_problems(page)] == []


def test_readme_is_among_the_pages() -> None:
    """The pages that are checked include the README and the index of the documentation."""
    assert {ROOT / "README.md", ROOT / "docs" / "index.md"} <= set(PAGES)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[gone](gone.md)", "no such file: gone.md"),
        ("# Here\n\n[there](#there)", "no such heading: #there"),
        ("```python\ndef\n```\n", ":2: does not compile: invalid syntax"),
        ("```python\n# run\n1 / 0\n```\n", ":2: ZeroDivisionError: division by zero"),
        ("```python\n# run\nimport sys\nsys.exit(3)\n```\n", ":2: exit code 3"),
        ("```python\n# run\nimport warnings\nwarnings.warn('old')\n```\n", ":2: UserWarning: old"),
    ],
)
def test_untrue_page_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    """A broken link, code that does not compile and code that fails are each one problem that says where."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    (found,) = [*check_docs.link_problems(page), *check_docs.code_problems(page)]
    assert found.startswith(str(page))
    assert found.endswith(problem)


def test_good_page_has_no_problem(tmp_path: Path) -> None:
    """Resolvable links, addresses, other languages, and code that is only shown are not reported."""
    page = tmp_path / "page.md"
    page.write_text("# A (b) c\n[1](#a-b-c) [2](https://example.org)\n```sh\n[x](y)\n```\n```python\n1 / 0\n```\n", encoding="utf-8")
    assert [*check_docs.link_problems(page), *check_docs.code_problems(page)] == []


def test_errors_page_lists_every_error() -> None:
    """The errors page has each error class with the code and the exit code that it really has."""
    listed = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = {line for line in listed.splitlines() if line.startswith("| `")}
    classes = [kind for name in sorted(vars(errors)) if isinstance(kind := getattr(errors, name), type)]
    for kind in classes:
        if issubclass(kind, errors.SurefootError):
            assert any(row.startswith(f"| `{kind.__name__}` | `{kind.code}` | {kind.exit_code} |") for row in rows), kind


def test_generated_pages_are_up_to_date() -> None:
    """The reference pages say what the code says."""
    done = subprocess.run([sys.executable, ROOT / "scripts" / "reference.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
