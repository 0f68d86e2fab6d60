"""Reading a policy file: every mistake is one sentence that says where it is."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from surefoot import UsageError

if TYPE_CHECKING:
    from surefoot_policy.model import PolicyFile

__all__ = ["find", "parse", "read"]

_PLACES: Final = 100_000
_Lines: TypeAlias = dict[tuple[str | int, ...], int]


def find(folder: Path) -> Path | None:
    """Return the policy file of a folder: ``surefoot.yaml``, else a ``pyproject.toml`` that has ``[tool.surefoot]``."""
    if (path := folder / "surefoot.yaml").exists():
        return path
    project = folder / "pyproject.toml"
    if not project.exists():
        return None
    try:
        return project if _has_table(tomllib.loads(project.read_text(encoding="utf-8"))) else None
    except (OSError, ValueError, RecursionError):
        return project  # whoever reads it is told what is wrong with it


def _has_table(found: Mapping[str, Any]) -> bool:
    tool = found.get("tool")
    return isinstance(tool, Mapping) and "surefoot" in tool


def read(path: Path) -> PolicyFile:
    """Return the policy of a file. Raises :class:`~surefoot.UsageError`, which names file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the policy {path} cannot be read ({exc}); 'surefoot policy check' says what it finds") from exc
    try:
        data, lines = _data(path, text)
        return parse(data, str(path), lines)
    except RecursionError:
        raise UsageError(f"{path}: it is nested too deep for a policy") from None


def parse(data: Any, where: str, lines: _Lines | None = None) -> PolicyFile:
    """Return the policy that plain data says. Raises :class:`~surefoot.UsageError` for the first thing that is wrong."""
    import pydantic

    from surefoot_policy.model import PolicyFile

    try:
        return PolicyFile.model_validate(data)
    except pydantic.ValidationError as exc:
        error = exc.errors(include_url=False, include_context=False)[0]
        place = tuple(part for part in error["loc"] if part not in {"str", "list[str]"})
        message = "unknown key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}{_line(lines or {}, place)}: {_path(place)}: {message}") from None


def _line(lines: _Lines, place: tuple[Any, ...]) -> str:
    """Return ``:12`` for the line of a place, or of the nearest one around it."""
    while place and place not in lines:
        place = place[:-1]
    return f":{lines[place]}" if place in lines else ""


def _path(place: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or "the policy"


def _data(path: Path, text: str) -> tuple[Any, _Lines]:
    try:
        match path.suffix:
            case ".toml":
                found = tomllib.loads(text)
                if path.name == "pyproject.toml":
                    if not _has_table(found):
                        raise UsageError(f"{path} has no [tool.surefoot]: nothing in it is a policy")
                    found = found["tool"]["surefoot"]
                return found, {}
            case ".json":
                return json.loads(text, object_pairs_hook=partial(_once, path)), {}
    except ValueError as exc:
        raise UsageError(f"{path}: not {path.suffix[1:].upper()}: {exc}") from exc
    return _yaml(path, text)


def _once(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON. Raises :class:`~surefoot.UsageError` for a key that is there twice: JSON's last one would win."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise UsageError(f"{path}: {key}: the key is there twice")
        found[key] = value
    return found


def _yaml(path: Path, text: str) -> tuple[Any, _Lines]:
    try:
        import yaml
    except ImportError as exc:
        raise UsageError(f"{path} is YAML: pip install 'surefoot[policy]', or write the policy as TOML") from exc
    lines: _Lines = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _note_lines(path, node, (), lines, ())
        data = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{path}{place}: not YAML: {getattr(exc, 'problem', exc)}") from exc
    if not isinstance(data, Mapping):
        raise UsageError(f"{path}: a policy is a mapping of keys like tools: and budgets:, and this is none")
    return data, lines


def _note_lines(path: Path, node: Any, place: tuple[str | int, ...], lines: _Lines, around: tuple[int, ...]) -> None:
    """Note the line of every key below a node of YAML.

    Raises :class:`~surefoot.UsageError` for a key that is there twice, a node that is inside of itself, and aliases of aliases that
    would make a small file a large policy.
    """
    if id(node) in around or len(lines) > _PLACES:
        why = "it contains itself" if id(node) in around else f"its aliases make more than {_PLACES:,} keys of it"
        raise UsageError(f"{path}:{node.start_mark.line + 1}: {_path(place)}: {why}")
    lines.setdefault(place, node.start_mark.line + 1)
    around = (*around, id(node))
    if node.id == "sequence":
        for index, item in enumerate(node.value):
            _note_lines(path, item, (*place, index), lines, around)
    elif node.id == "mapping":
        for key, value in node.value:
            inner = (*place, str(key.value))
            if inner in lines:
                raise UsageError(f"{path}:{key.start_mark.line + 1}: {_path(inner)}: the key is there twice")
            lines[inner] = key.start_mark.line + 1
            _note_lines(path, value, inner, lines, around)
