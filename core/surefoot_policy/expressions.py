"""Expressions of a policy file. The language is a plugin of this protocol; CEL comes with the extra ``policy``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

from surefoot import UsageError

__all__ = ["LANGUAGES", "TOTALS", "Cel", "Condition", "Expressions", "holds", "language"]

Condition: TypeAlias = Callable[[Any], bool]
"""Says whether a condition holds for prepared values; raises where that cannot be said."""


TOTALS: Final = ("tokens_used", "cost_usd", "calls", "seconds")
"""What a guardrail may take the ``sum`` of."""


def holds(condition: Condition, values: Any) -> bool:
    """Return whether a condition holds. Raises :class:`TypeError` for an answer that is neither true nor false: no language is trusted."""
    found = condition(values)
    if not isinstance(found, bool):
        raise TypeError(f"it is not true or false but {type(found).__name__}")
    return found


class Expressions(ABC):
    """A language for conditions: pure, deterministic, and without loops that could last."""

    @abstractmethod
    def compile(self, text: str, names: Collection[str]) -> Condition:
        """Return the condition that ``text`` says over these names. Raises :class:`ValueError` for a text that is none."""

    @abstractmethod
    def values(self, values: Mapping[str, Any]) -> Any:
        """Return the values as conditions take them, prepared once for all conditions about a call."""


class Cel(Expressions):
    """The Common Expression Language. ``sum(name)`` is what was used so far, which is kept as one number."""

    def __init__(self) -> None:
        try:
            import cel
        except ImportError as exc:
            raise UsageError("conditions in a policy are written in CEL: pip install 'surefoot[policy]'") from exc
        self._cel = cel

    def compile(self, text: str, names: Collection[str]) -> Condition:
        """Return the condition; a name or function that does not exist is a :class:`ValueError` now, not a surprise later."""
        program = self._cel.compile(text)
        bound = re.findall(r"\.(?:all|exists|exists_one|filter|map)\(\s*(\w+)\s*,", text)
        if unknown := sorted(set(program.variables()).difference(names, bound)):
            raise ValueError(f"{', '.join(unknown)} is not known here; there are {', '.join(sorted(names))}")
        if unknown := sorted(name for name in program.functions() if name[0].isalpha() and name not in _FUNCTIONS):
            raise ValueError(f"there is no function {', '.join(unknown)}; there are {', '.join(sorted(_FUNCTIONS))}")

        if wrong := [given for given in re.findall(r"\bsum\(([^()]*)", text) if given.strip() not in TOTALS]:
            raise ValueError(f"sum({wrong[0]}) is no total; there are {', '.join(f'sum({name})' for name in TOTALS)}")
        return program.execute

    def values(self, values: Mapping[str, Any]) -> Any:
        """Return a context. Raises :class:`ValueError` for a value that CEL does not have."""
        return self._cel.Context(dict(values), {"sum": _same})


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
