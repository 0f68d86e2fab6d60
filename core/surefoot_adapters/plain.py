"""Plain data of what frameworks hand over: values, schemas of tools, messages."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["defaults", "plain", "without", "words"]


def plain(value: Any) -> Any:
    """Return a value as JSON data; what has no such form becomes its representation."""
    if type(value) is str:
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=repr, bytes_mode="base64")


def words(said: Any) -> str:
    """Return what somebody said as a text; what is none, as its JSON."""
    return said if isinstance(said, str) else json.dumps(plain(said), ensure_ascii=False)


def without(data: Any, names: Collection[str]) -> Any:
    """Return data without these keys, at whatever depth: what is new each time it is made does not tell it from another one."""
    if isinstance(data, Mapping):
        return {key: without(item, names) for key, item in data.items() if key not in names}
    return [without(item, names) for item in data] if isinstance(data, list) else data


def defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the static defaults that a tool's JSON Schema names, by parameter."""
    properties = schema.get("properties", {})
    return {name: spec["default"] for name, spec in properties.items() if isinstance(spec, dict) and "default" in spec}
