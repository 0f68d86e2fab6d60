"""Pinned tool definitions: what a person approved is what may be called (I28, AS-62)."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from surefoot import Guard, IntegrityError
from surefoot.engine.program import Tx
from surefoot.engine.unit import Unit

__all__ = ["Change", "Lister", "Pins", "all_tools", "changes"]

Lister: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Sends ``tools/list`` with these parameters and returns the response."""
_NAMESPACE: Final = "mcp_pins"
_MOST_PAGES: Final = 100
_VOLATILE: Final = "_meta"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between what was approved and what the server says now."""

    tool: str
    path: str
    """Where in the definition (``inputSchema.properties.amount.type``), or ``""`` for the whole tool."""
    approved: Any
    """``None`` where there was nothing."""
    now: Any
    """``None`` where there is nothing any more."""

    def __str__(self) -> str:
        """Return it in a few words."""
        if not self.path:
            return f"{self.tool} was not approved" if self.approved is None else f"{self.tool} is gone"
        return f"{self.tool}: {self.path} was {_short(self.approved)} and is {_short(self.now)}"

    def as_json(self) -> dict[str, Any]:
        """Return it as data."""
        return {"tool": self.tool, "path": self.path, "approved": self.approved, "now": self.now}


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004 - a line of a terminal


def changes(tool: str, approved: Any, now: Any) -> list[Change]:
    """Return the differences between two definitions of a tool, each as deep as it goes."""
    if approved is None or now is None:
        return [] if approved == now else [Change(tool, "", approved, now)]
    return list(_differences(tool, "", approved, now))


def _differences(tool: str, path: str, approved: Any, now: Any) -> Iterator[Change]:
    if isinstance(approved, dict) and isinstance(now, dict):
        for name in sorted({*approved, *now}):
            yield from _differences(tool, f"{path}.{name}" if path else name, approved.get(name), now.get(name))
    elif approved != now or type(approved) is not type(now):
        yield Change(tool, path, approved, now)


async def all_tools(lister: Lister, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return every tool that a server lists, by name, all pages. Raises :class:`~surefoot.IntegrityError` for a list that is none."""
    found: dict[str, Any] = {}
    cursor: Any = None
    for _ in range(_MOST_PAGES):
        response = await lister({**params, **({"cursor": cursor} if cursor is not None else {})})
        result = response.get("result")
        tools = result.get("tools") if isinstance(result, dict) else None
        if not isinstance(result, dict) or not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
            raise IntegrityError(f"the server does not list its tools: {response.get('error', 'no list')}")
        for tool in tools:
            if tool.get("name") in found:
                raise IntegrityError(f"the server lists two tools called {tool.get('name')!r}")
            found[str(tool.get("name"))] = {name: value for name, value in tool.items() if name != _VOLATILE}
        cursor = result.get("nextCursor")
        if cursor is None:
            return found
    raise IntegrityError(f"the server's list of tools has more than {_MOST_PAGES} pages")


class Pins:
    """The approved definitions of one server's tools, kept in the store."""

    def __init__(self, guard: Guard, server: str) -> None:
        self._guard = guard
        self._server = server

    def approved(self) -> Mapping[str, Any] | None:
        """Return the approved definitions by tool, or ``None`` where nobody has approved any.

        Raises :class:`~surefoot.IntegrityError` for definitions that are not those whose digest was stored.
        """

        def look(unit: Unit) -> Any:
            record = unit.records.get(_NAMESPACE, self._server)
            return record.value if record else None

        stored = self._guard.transact(Tx(look, write=False))
        if stored is None:
            return None
        tools: dict[str, Any] = {name: pin["definition"] for name, pin in stored.items()}
        if any(self._digest(tools[name]) != pin["digest"] for name, pin in stored.items()):
            raise IntegrityError(f"the pins of {self._server} are damaged; approve the tools again with 'surefoot mcp pin'")
        return tools

    def approve(self, tools: Mapping[str, Any]) -> None:
        """Pin these definitions, and no others."""
        pins = {name: {"digest": self._digest(tool), "definition": tool} for name, tool in tools.items()}
        self._guard.transact(Tx(lambda unit: unit.records.put(_NAMESPACE, self._server, pins)))

    def _digest(self, definition: Any) -> str:
        return hashlib.sha256(self._guard.codec.canonical(definition)).hexdigest()

    def differences(self, tools: Mapping[str, Any]) -> list[Change]:
        """Return what differs between the approved tools and these, by tool."""
        approved = self.approved() or {}
        return [change for name in sorted({*approved, *tools}) for change in changes(name, approved.get(name), tools.get(name))]

    async def problem(self, tool: str, now: Callable[[], Awaitable[Mapping[str, Any]]]) -> Sequence[Change]:
        """Return what has changed of a tool since it was approved; ``now`` lists the server's tools, where anything is pinned."""
        approved = self.approved()
        if approved is None:
            return []
        return changes(tool, approved.get(tool), (await now()).get(tool)) or ([] if tool in approved else [Change(tool, "", None, None)])
