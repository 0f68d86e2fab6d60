"""One environment per framework and end of its supported range, which is read from its extra."""

import tomllib
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.options.default_venv_backend = "uv|virtualenv"

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())["project"]
EXTRAS = {name: Requirement(requires[0]) for name, requires in PROJECT["optional-dependencies"].items() if requires}
PACKAGES = {name: package for name, package in PROJECT["entry-points"]["surefoot"].items() if Path("adapters", package).is_dir()}
FRAMEWORKS = sorted(EXTRAS.keys() & PACKAGES.keys())


@nox.session
@nox.parametrize("end", ["oldest", "latest"])
@nox.parametrize("framework", FRAMEWORKS)
def adapter(session: nox.Session, framework: str, end: str) -> None:
    """Run one adapter's tests against one end of its supported range."""
    requirement = EXTRAS[framework]
    floor = next(part.version for part in requirement.specifier if part.operator == ">=")
    pins = [f"{requirement.name}=={floor}"] if end == "oldest" else []
    session.install("-e", f".[{framework},test]", *pins)
    session.run("python", "-m", "pytest", f"tests/{PACKAGES[framework]}", *session.posargs)
