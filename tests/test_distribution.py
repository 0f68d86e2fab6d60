"""What a user gets: the wheel, built from this tree and installed into an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.sweep, pytest.mark.timeout(300)]

ROOT = Path(__file__).parent.parent
NEEDED_BY_PYDANTIC = {"annotated-types", "pydantic-core", "typing-extensions", "typing-inspection"}
BROUGHT_BY_VENV = {"pip", "setuptools"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and return what it printed; it must succeed."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel without any extra and return the environment's interpreter."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    interpreter = folder / "bin" / "python"
    run(interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    return interpreter


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    """The wheel holds every file of the packages in the source roots, their metadata, and nothing else."""
    packages = [init.parent for root in ("core", "adapters", "mcp_server", "conformance") for init in ROOT.glob(f"{root}/*/__init__.py")]
    files = [path for package in packages for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {"/".join(path.relative_to(ROOT).parts[1:]) for path in files}
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_installation_brings_four_libraries_as_56(python: Path, tmp_path: Path) -> None:
    """AS-56: beside surefoot an installation brings pluggy, rfc8785, pydantic, click, and what these need themselves."""
    listed = json.loads(run(python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check", cwd=tmp_path))
    brought = {found["name"].lower().replace("_", "-") for found in listed} - BROUGHT_BY_VENV - NEEDED_BY_PYDANTIC
    assert brought == {"surefoot", "pluggy", "rfc8785", "pydantic", "click"}


def test_every_plugin_loads_without_a_framework_as_56(python: Path, tmp_path: Path) -> None:
    """AS-56: where no framework is installed the command line starts and every entry point loads, none is skipped."""
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]["surefoot"]
    answer = json.loads(run(python.parent / "surefoot", "plugins", "list", "--json", cwd=tmp_path))
    assert answer["skipped"] == {}
    assert set(entry_points) <= set(answer["loaded"])
