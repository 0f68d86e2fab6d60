"""Expressions of a policy file. The language is a plugin of this protocol; CEL comes with the extra ``policy``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from surefoot import UsageError

__all__ = ["LANGUAGES", "TOTALS", "Cel", "Condition", "Expressions", "ends_soon", "holds", "language", "weight"]

Condition: TypeAlias = Callable[[Any], bool]
"""Says whether a condition holds for prepared values; raises where that cannot be said."""


TOTALS: Final = ("tokens_used", "cost_usd", "calls", "seconds")
"""What a guardrail may take the ``sum`` of."""
_STEPS: Final = 10_000_000
"""What the loops of one condition may take; a step is some tenths of a microsecond, at worst."""
_PATTERN: Final = 1000
"""What ``matches`` takes in a loop: its pattern is compiled each time."""
_LONGEST: Final = 4000
"""Characters of a condition. The library goes one level deeper for each term of ``a + b + c``, and a process dies of too many."""
_DEPTH: Final = 250
"""Levels; what can be stored has no more than 200."""
_TEXT: Final = 1000
"""Characters that weigh as much as one item of a list."""
_PLAIN: Final = frozenset([int, float, bool, type(None)])


def weight(value: Any, room: int = _DEPTH) -> int:
    """Return how much there is in a value to look at: items of lists and mappings, and texts by their length.

    Raises :class:`ValueError` for one that is nested deeper than ``room`` levels, or in itself: not every library survives it.
    """
    if isinstance(value, str | bytes):
        return 1 + len(value) // _TEXT
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return 1
    if not room:
        raise ValueError(f"it is nested deeper than {_DEPTH} levels")
    total = 1
    for item in [*value, *value.values()] if isinstance(value, Mapping) else value:
        kind = type(item)  # most are plain: a call for each would cost more than the rest of a decision
        total += 1 + len(item) // _TEXT if kind is str else 1 if kind in _PLAIN else weight(item, room - 1)
    return total


def holds(condition: Condition, values: Any) -> bool:
    """Return whether a condition holds. Raises :class:`TypeError` for an answer that is neither true nor false: no language is trusted."""
    found = condition(values)
    if not isinstance(found, bool):
        raise TypeError(f"it is not true or false but {type(found).__name__}")
    return found


class Expressions(ABC):
    """A language for conditions: pure, deterministic, and without loops that could last."""

    bounded: bool = False
    """Its author vouches that every condition ends soon, whatever it is given. Those of another language have a thread of their own,
    and what does not answer in time denies."""

    @abstractmethod
    def compile(self, text: str, names: Collection[str]) -> Condition:
        """Return the condition that ``text`` says over these names. Raises :class:`ValueError` for a text that is none."""

    @abstractmethod
    def values(self, values: Mapping[str, Any]) -> Any:
        """Return the values as conditions take them, prepared once for all conditions about a call."""


def ends_soon(expressions: Expressions) -> bool:
    """Return whether the author of a language vouches that its conditions end soon; who says nothing does not."""
    return bool(getattr(expressions, "bounded", False))


class _Values(NamedTuple):
    """What CEL's conditions take."""

    context: Any
    weight: int


class Cel(Expressions):
    """The Common Expression Language. ``sum(name)`` is what was used so far, which is kept as one number.

    The library neither counts what it does nor lets itself be interrupted, so a condition whose loops would take too long over what
    it is given is not begun.
    """

    bounded = True

    def __init__(self) -> None:
        try:
            import cel
        except ImportError as exc:
            raise UsageError("conditions in a policy are written in CEL: pip install 'surefoot[policy]'") from exc
        self._cel = cel

    def compile(self, text: str, names: Collection[str]) -> Condition:
        """Return the condition; a name or function that does not exist is a :class:`ValueError` now, not a surprise later."""
        if len(text) > _LONGEST:
            raise ValueError(f"it has more than {_LONGEST:,} characters; say it in several entries")
        program = self._cel.compile(text)
        code = _NO_CODE.sub(" ", text)
        bound = _BOUND.findall(code)
        if unknown := sorted(set(program.variables()).difference(names, bound)):
            raise ValueError(f"{', '.join(unknown)} is not known here; there are {', '.join(sorted(names))}")
        if unknown := sorted(name for name in program.functions() if name[0].isalpha() and name not in _FUNCTIONS):
            raise ValueError(f"there is no function {', '.join(unknown)}; there are {', '.join(sorted(_FUNCTIONS))}")

        if wrong := [given for given in re.findall(r"\bsum\(([^()]*)", code) if given.strip() not in TOTALS]:
            raise ValueError(f"sum({wrong[0]}) is no total; there are {', '.join(f'sum({name})' for name in TOTALS)}")
        loops, literals, pattern = _loops(code), code.count(","), _PATTERN if "matches" in code else 0

        def condition(values: _Values) -> Any:
            items = values.weight + literals
            if sum(items**depth * (items + pattern) for depth in loops) > _STEPS:
                raise ValueError(f"its loops would take more than {_STEPS:,} steps over what this call has")
            return program.execute(values.context)

        return condition

    def values(self, values: Mapping[str, Any]) -> Any:
        """Return a context. Raises :class:`ValueError` for a value that CEL does not have."""
        heavy = weight(values)  # before the library sees it
        return _Values(self._cel.Context(dict(values), {"sum": _same}), heavy)


def _loops(code: str) -> list[int]:
    """Return how deep each loop of an expression without texts is nested, the outermost 1.

    One over ``n`` items takes ``n`` times what its body takes, and that may look at all of them: ``x in list``, ``map``, which copies.
    """
    found: list[int] = []
    around: list[bool] = []
    """Whether each open bracket is a loop's."""
    for loop, bracket in _BRACKETS.findall(code):
        if bracket == "(":
            around.append(bool(loop))
            found += [sum(around)] if loop else []
        elif around:
            around.pop()
    return found


_QUOTED: Final = ('"""', "'''", '"', "'")
_NO_CODE: Final = re.compile(
    "|".join(
        [
            *(rf"[bB]?[rR][bB]?{quote}(?s:.*?){quote}" for quote in _QUOTED),
            *(rf"{quote}(?s:\\.|[^\\])*?{quote}" for quote in _QUOTED),
            r"//[^\n]*",
        ]
    )
)
"""Texts and comments. Of raw texts first: a backslash in one of them is a backslash."""
_LOOP: Final = r"\.\s*(?:all|exists|exists_one|existsOne|filter|map)\s*"
_BRACKETS: Final = re.compile(rf"({_LOOP}(?=\())?([()])")
_BOUND: Final = re.compile(rf"{_LOOP}\(\s*(\w+)\s*,")
"""The name that a loop gives its item."""


def _same(total: Any) -> Any:
    return total


_FUNCTIONS: Final = frozenset(
    [
        "all",
        "bool",
        "bytes",
        "contains",
        "double",
        "duration",
        "endsWith",
        "exists",
        "exists_one",
        "filter",
        "has",
        "int",
        "map",
        "matches",
        "max",
        "min",
        "size",
        "startsWith",
        "string",
        "sum",
        "timestamp",
        "type",
        "uint",
    ]
)
LANGUAGES: Final[dict[str, Callable[[], Expressions]]] = {"cel": Cel}
"""Name in ``expressions:`` → what makes the language. A plugin adds its own."""


def language(name: str) -> Expressions:
    """Return a language. Raises :class:`ValueError` for an unknown one."""
    if name not in LANGUAGES:
        raise ValueError(f"{name!r} is not an expression language; there are {', '.join(sorted(LANGUAGES))}")
    return LANGUAGES[name]()
