"""CrewAI objects as data: what a step is given, and converters for what it returns."""

# pyright: reportMissingImports=false
# crewai conflicts with other frameworks and lives in an environment of its own.

from __future__ import annotations

import typing
from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import Any

from pydantic import BaseModel

from surefoot_adapters import Codec, digest_of, words

__all__ = ["data", "digest", "model", "register"]


def data(value: Any) -> Any:
    """Return a value in a form that is equal in every process for equal values: models and enumerations become their content."""
    if hasattr(value, "model_dump"):
        return data(value.model_dump())
    if isinstance(value, Enum):
        return data(value.value)
    if isinstance(value, Mapping):
        return {key: data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    return value


def digest(codec: Codec, value: Any) -> str | None:
    """Return the digest of what a step is given, or ``None`` where it has none: such a step has no memo."""
    try:
        found = data(value)
    except RecursionError:
        return None
    return digest_of(codec, found)


def model(codec: Codec, kind: Any) -> None:
    """Teach the codec a model of the user's that is a result; what is no model is left alone.

    The code names it, never what is stored (I24). Local classes are left out: two may have one name.
    """
    if isinstance(kind, type) and hasattr(kind, "model_validate") and "<locals>" not in kind.__qualname__:
        validate: Any = kind.model_validate
        codec.register(f"crewai.{kind.__module__}.{kind.__qualname__}", kind, lambda value: value.model_dump(mode="json"), validate)


def register(codec: Codec) -> None:
    """Teach the codec what CrewAI returns."""
    from crewai.crews.crew_output import CrewOutput
    from crewai.lite_agent_output import LiteAgentOutput
    from crewai.tasks.output_format import OutputFormat
    from crewai.tasks.task_output import TaskOutput
    from crewai.types.usage_metrics import UsageMetrics

    for kind in (CrewOutput, TaskOutput, LiteAgentOutput):
        codec.register(f"crewai.{kind.__name__}", kind, _fields, partial(_built, kind))
    codec.register("crewai.OutputFormat", OutputFormat, lambda member: member.value, OutputFormat)
    model(codec, UsageMetrics)
    for output in (TaskOutput, LiteAgentOutput):
        for field in output.model_fields.values():
            for part in typing.get_args(field.annotation):
                if getattr(part, "__module__", "").startswith("crewai."):
                    model(codec, part)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).model_fields}


def _built(kind: Any, found: Mapping[str, Any]) -> Any:
    return kind.model_construct(**found)


def task_output(task: Any, agent: Any, said: Any) -> Any:
    """Return what a task came to where something else has said it: the text, or a :class:`TaskOutput` as it is."""
    from crewai.tasks.task_output import TaskOutput

    if isinstance(said, TaskOutput):
        return said
    pydantic = said if isinstance(said, BaseModel) else None
    raw = pydantic.model_dump_json() if pydantic is not None else words(said)
    known = {"name": task.name, "description": task.description, "expected_output": task.expected_output}
    return TaskOutput(**known, raw=raw, pydantic=pydantic, agent=str(getattr(agent, "role", "") or ""))
