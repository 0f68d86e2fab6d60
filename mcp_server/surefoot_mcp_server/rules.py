"""What the person who starts the proxy says about the tools behind it. Nothing that a server says about itself counts (AS-13)."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from surefoot import Effect, ToolRule, UsageError
from surefoot_mcp_server.probe import Prober

__all__ = ["Rules", "named_after"]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Rules:
    """Declarations by tool name or pattern, as the server spells its tools."""

    server: str
    """Name of the server: what tells its tools from another server's in the ledger."""
    reads: Sequence[str] = ()
    idempotent: Sequence[str] = ()
    unsafe: Sequence[str] = ()
    once: Sequence[str] = ()
    """Tools whose equal calls in the scope are one call, key or no key."""
    keyed: Sequence[str] = ()
    """Tools that are refused without an idempotency key."""
    probes: Mapping[str, str] = field(default_factory=dict)
    """Tools, and for each the read tool that says whether a call of it in doubt happened."""
    scope: str | None = None
    """What calls belong together: a task, a customer, a conversation. Default: the server."""
    qualifies: bool = True
    """Tools have the server's name before theirs in the ledger; not in process, where ``tools=`` names them as they are."""

    def __post_init__(self) -> None:
        """Raise :class:`~surefoot.UsageError` for what cannot work."""
        if not _NAME.fullmatch(self.server):
            raise UsageError(f"the server's name {self.server!r} may have letters, digits, '.', '_' and '-' only, 64 at most")
        if self.once and not self.scope:
            raise UsageError("--once makes equal calls one call, so it needs a --scope that ends: the name of the task or the conversation")

    @property
    def conversation(self) -> str:
        """How far a doubt reaches: equal calls in it get the doubt as their answer."""
        return f"mcp/{self.server}/{self.scope}" if self.scope else f"mcp/{self.server}"

    def qualified(self, tool: str) -> str:
        """Return the name of a tool in the ledger; no two servers' tools share one (AS-63)."""
        return f"{self.server}/{tool}" if self.qualifies else tool

    def tools(self, prober: Prober) -> dict[str, ToolRule]:
        """Return the guard's rules. A tool's own name counts before patterns, and of several that match, the strictest."""
        rules: dict[str, ToolRule] = {}
        for effect, patterns in self._declared():
            for pattern in patterns:
                rules.setdefault(self.qualified(pattern), ToolRule(effect))
        for tool, reader in self.probes.items():
            rules[self.qualified(tool)] = ToolRule(self._effect(tool), probe=prober.probe(reader))
        return rules

    def _declared(self) -> Sequence[tuple[Effect, Sequence[str]]]:
        """Return the classes and their patterns, the strictest first."""
        return ((Effect.UNSAFE, self.unsafe), (Effect.IDEMPOTENT, self.idempotent), (Effect.READ, self.reads))

    def _effect(self, tool: str) -> Effect:
        named = [effect for effect, patterns in self._declared() if tool in patterns]
        found = named or [effect for effect, patterns in self._declared() if _matches(tool, patterns)]
        return found[0] if found else Effect.UNCLASSIFIED

    def is_once(self, tool: str) -> bool:
        """Return whether equal calls of the tool in the scope are one call."""
        return _matches(tool, self.once)

    def needs_key(self, tool: str) -> bool:
        """Return whether the tool is refused without a key."""
        return _matches(tool, self.keyed)


def _matches(tool: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(tool, pattern) for pattern in patterns)


def named_after(command: Sequence[str]) -> str:
    """Return a name for the server that a command starts: the same each time, another one for another command."""
    digest = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", Path(command[0]).name)[:40] or "server"
    return f"{stem}-{digest}"
