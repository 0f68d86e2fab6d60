"""Rules that need no model: by default only what is certain, and the form that you ask for; guesses one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from surefoot import ErrorClass, StepOutput, UsageError, Verdict, Verifier
from surefoot.types import are_texts, expect
from surefoot_verifiers.form import shape
from surefoot_verifiers.heuristics import HEURISTICS, broken_json
from surefoot_verifiers.view import data_of, is_empty, text_of

__all__ = ["rules"]

_SHOWN: Final = 3
_Finding: TypeAlias = tuple[str, str]
"""Class of error, and what the next attempt is told."""


class _Rules(Verifier):
    timeout = None  # it computes, and waits for nothing

    def __init__(self, checks: Sequence[Callable[[Any], Iterator[_Finding]]]) -> None:
        self._checks = checks

    def verify(self, output: StepOutput) -> Verdict:
        """Apply every rule; what is found first names the class, the hint names up to three findings."""
        found = [finding for check in self._checks for finding in check(output.output)]
        if not found:
            return Verdict.passed()
        return Verdict.failed(found[0][0], " ".join(dict.fromkeys(hint for _, hint in found[:_SHOWN])))


def rules(
    *,
    schema: Any = None,
    required: Sequence[str] = (),
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    forbidden: str | None = None,
    heuristics: Sequence[str] = (),
) -> Verifier:
    """Return a verifier of form. Without options it rejects what is no output: nothing, blank text, JSON that stops half-way.

    :param schema: a JSON Schema, a pydantic model or a type (see :func:`schema`). :param required: keys that the output has.
    :param min_length: characters that a text, or items that a collection has at least. :param max_length: and at most.
    :param pattern: a regular expression that is found in the text. :param forbidden: one that is not.
    :param heuristics: names from :data:`HEURISTICS`; each is a guess, whose rates are published.

    Of a state with messages the newest message is judged. Raises :class:`~surefoot.UsageError` for an option that cannot work.
    """
    expect("required", required, "a list of keys", are_texts)
    expect(
        "heuristics",
        heuristics,
        f"a list of some of {', '.join(HEURISTICS)}",
        lambda given: are_texts(given) and HEURISTICS.keys() >= set(given),
    )
    checks: list[Callable[[Any], Iterator[_Finding]]] = [_certain]
    if schema is not None:
        wrong = shape(schema)
        checks.append(
            lambda output: ((ErrorClass.SCHEMA, f"The output does not have the required form: {one}.") for one in wrong(data_of(output)))
        )
    if required:
        checks.append(lambda output: _missing(output, required))
    if min_length is not None or max_length is not None:
        for option, given in (("min_length", min_length), ("max_length", max_length)):
            expect(option, given, "a number, 0 or more", lambda n: n is None or (isinstance(n, int) and not isinstance(n, bool) and n >= 0))
        checks.append(lambda output: _length(output, min_length or 0, max_length))
    for expression, must in ((pattern, True), (forbidden, False)):
        if expression is not None:
            checks.append(_matching(_compiled(expression), must=must))
    checks += [_guessing(*HEURISTICS[name]) for name in heuristics]
    return _Rules(checks)


def _certain(output: Any) -> Iterator[_Finding]:
    if is_empty(output):
        yield ErrorClass.INCOMPLETE, "The last output was empty. Answer the task."
    text = text_of(output)
    hint = broken_json(text) if text is not None else None
    if hint is not None:
        yield ErrorClass.INCOMPLETE, hint


def _missing(output: Any, required: Sequence[str]) -> Iterator[_Finding]:
    data = data_of(output)
    missing = [key for key in required if not isinstance(data, Mapping) or data.get(key) is None]
    if missing:
        yield ErrorClass.SCHEMA, f"The output must be an object with {', '.join(missing)}."


def _length(output: Any, least: int, most: int | None) -> Iterator[_Finding]:
    text = text_of(output)
    whole = data_of(output) if text is None else text
    if not hasattr(whole, "__len__"):
        yield ErrorClass.SCHEMA, "The output must be a text or a collection."
        return
    size, unit = len(whole), "items" if text is None else "characters"
    if size < least:
        yield ErrorClass.INCOMPLETE, f"The output has {size} {unit}; give at least {least}."
    if most is not None and size > most:
        yield ErrorClass.SCOPE_CREEP, f"The output has {size} {unit}; give at most {most}."


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except (re.error, TypeError) as exc:
        raise UsageError(f"{expression!r} is no regular expression ({exc})") from exc


def _matching(expression: re.Pattern[str], *, must: bool) -> Callable[[Any], Iterator[_Finding]]:
    def check(output: Any) -> Iterator[_Finding]:
        text = text_of(output)
        if text is None and must:
            yield ErrorClass.SCHEMA, "The output must be a text."
        if text is not None and bool(expression.search(text)) is not must:
            yield ErrorClass.SCHEMA, f"The output must {'' if must else 'not '}match {expression.pattern!r}."

    return check


def _guessing(error_class: str, guess: Callable[[str], str | None]) -> Callable[[Any], Iterator[_Finding]]:
    def check(output: Any) -> Iterator[_Finding]:
        text = text_of(output)
        hint = guess(text) if text is not None else None
        if hint is not None:
            yield error_class, hint

    return check
