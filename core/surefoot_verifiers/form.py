"""The form of an output, and what may follow what: JSON Schema or a pydantic model, and rules for state transitions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

from surefoot import ErrorClass, StepOutput, UsageError, Verdict, Verifier
from surefoot.types import expect
from surefoot_verifiers.view import data_of

__all__ = ["Shape", "Transitions", "schema", "shape"]

_SHOWN: Final = 3
Shape: TypeAlias = Callable[[Any], list[str]]
"""Returns what is wrong with plain data, one sentence each."""
Transitions: TypeAlias = Mapping[str, Mapping[Any, Collection[Any]]]
"""Field → its value before → the values that may follow."""


def shape(form: Any) -> Shape:
    """Return what checks data against a form: a pydantic model, any type that pydantic validates, or a JSON Schema as a dict.

    Raises :class:`~surefoot.UsageError` for a schema that is none, or where ``jsonschema`` is missing.
    """
    return _json_schema(form) if isinstance(form, Mapping) else _pydantic(form)


def _json_schema(form: Mapping[str, Any]) -> Shape:
    try:
        import jsonschema
        from jsonschema.validators import validator_for
    except ImportError as exc:
        raise UsageError("a JSON Schema needs jsonschema; pip install 'surefoot[jsonschema]', or give a pydantic model") from exc
    kind = validator_for(form, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(dict(form))
    except jsonschema.SchemaError as exc:
        raise UsageError(f"this is no JSON Schema: {exc.message}") from exc
    validator = kind(dict(form))

    def wrong(data: Any) -> list[str]:
        errors = sorted(validator.iter_errors(data), key=lambda error: error.json_path)
        return [f"{error.json_path}: {error.message[:200]}" for error in errors]

    return wrong


def _pydantic(form: Any) -> Shape:
    import pydantic

    try:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(form)
    except pydantic.errors.PydanticUserError as exc:
        raise UsageError(f"schema={form!r} is neither a JSON Schema, as a dict, nor a type that pydantic validates") from exc

    def wrong(data: Any) -> list[str]:
        try:
            adapter.validate_python(data)
        except pydantic.ValidationError as exc:
            return [f"{_path(error['loc'])}: {error['msg']}" for error in exc.errors(include_url=False, include_input=False)]
        return []

    return wrong


def _path(steps: Sequence[int | str]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


class _Schema(Verifier):
    def __init__(self, form: Any, transitions: Transitions, checks: Sequence[Callable[[Any, Any], Any]]) -> None:
        if form is None and not transitions and not checks:
            raise UsageError("schema() checks nothing: give a form, transitions= or checks=")
        expect("transitions", transitions, "a mapping of field to {before: [after, …]}", _are_transitions)
        expect("checks", checks, "a list of functions of (before, after)", lambda given: all(map(callable, given)))
        self._shape: Shape = shape(form) if form is not None else lambda _data: []
        self._transitions = transitions
        self._checks = list(checks)

    def verify(self, output: StepOutput) -> Verdict:
        """Check form, then what changed against the step's input."""
        after = data_of(output.output)
        wrong = self._shape(after) or [*self._moved(data_of(output.input), after)]
        if not wrong:
            return Verdict.passed()
        more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
        return Verdict.failed(ErrorClass.SCHEMA, f"The output does not have the required form. {'; '.join(wrong[:_SHOWN])}{more}.")

    def _moved(self, before: Any, after: Any) -> list[str]:
        wrong = []
        for field, allowed in self._transitions.items():
            was, now = _field(before, field), _field(after, field)
            if now in (None, was):
                continue
            if now not in allowed.get(was, ()):
                may = ", ".join(repr(value) for value in allowed.get(was, ())) or "nothing"
                wrong.append(f"{field} cannot become {now!r}: after {was!r} may come {may}")
        for check in self._checks:
            answer = check(before, after)
            if answer is not True and answer is not None:
                wrong.append(answer if isinstance(answer, str) else f"{getattr(check, '__name__', 'a check')} does not hold")
        return wrong


def _are_transitions(given: Any) -> bool:
    if not isinstance(given, Mapping):
        return False
    return all(isinstance(moves, Mapping) and all(_is_set(after) for after in moves.values()) for moves in given.values())


def _is_set(given: Any) -> bool:
    return isinstance(given, Collection) and not isinstance(given, str)


def _field(data: Any, name: str) -> Any:
    return data.get(name) if isinstance(data, Mapping) else None


def schema(form: Any = None, *, transitions: Transitions | None = None, checks: Sequence[Callable[[Any, Any], Any]] = ()) -> Verifier:
    """Return a verifier of the form of an output and of its state transitions: the barrier before a state is committed.

    :param form: a JSON Schema (a dict; needs ``surefoot[jsonschema]``), a pydantic model, or a type that pydantic validates.
    :param transitions: by field of the state, which values may follow which: ``{"status": {"draft": ["sent"], "sent": []}}``.
        The step's input is the state before; a field that the output leaves out, or leaves as it is, has not moved.
    :param checks: functions of (before, after) that return ``True`` or ``None``, or what is wrong.

    A text is read as JSON, fenced or not. What the form finds is reported before any transition is looked at. Raises
    :class:`~surefoot.UsageError` for a form that is none.
    """
    return _Schema(form, transitions or {}, checks)
