"""The servers behind one endpoint: what is told of each, in the options of a command or in a file."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from surefoot import AdapterUnavailable, NotFound, UsageError
from surefoot_mcp_server.child import Child
from surefoot_mcp_server.probe import Prober
from surefoot_mcp_server.rules import Rules, named_after

if TYPE_CHECKING:
    from surefoot_mcp_server.remote import Remote

__all__ = ["Server", "named", "read"]

_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,32}")
_RULES: Final = {
    "read": "reads",
    "idempotent": "idempotent",
    "unsafe": "unsafe",
    "once": "once",
    "require_key": "keyed",
    "probe": "probes",
    "scope": "scope",
}
"""What a file says of a server's tools, as the options of the command are called, and the rule that it is."""
_LISTS: Final = ("command", "read", "idempotent", "unsafe", "once", "require_key")
_TABLES: Final = ("environment", "probe")
_TEXTS: Final = ("url", "authorization_from", "scope")
_KEYS: Final = (*_LISTS, *_TABLES, *_TEXTS, "timeout")


@dataclass(frozen=True, slots=True)
class Server:
    """One server: how it is reached, and how its calls are governed."""

    rules: Rules
    command: Sequence[str] = ()
    """What starts it, where it is a process of our own."""
    url: str | None = None
    """Where it is, where it speaks HTTP."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What its process has in its environment, beside what we have."""
    authorization: str | None = None
    """Our credential for it, over HTTP."""
    limit: float | None = None
    """Seconds to wait for a tool."""
    prober: Prober = field(default_factory=Prober)

    def __post_init__(self) -> None:
        """Raise :class:`~surefoot.UsageError` for a URL that is none."""
        parts = urlsplit(self.url or "http://unused")
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"the server's URL {self.url!r} is not of the form http://host:port/path")

    async def start(self) -> Child | Remote:
        """Start it, or open the way to it. Raises :class:`~surefoot.UsageError` for a command that cannot be started."""
        if self.url is None:
            return await Child.start(self.command, self.environment)
        try:
            from surefoot_mcp_server.remote import Remote
            from surefoot_mcp_server.upstream import Upstream
        except ImportError as exc:
            raise AdapterUnavailable(f"a server over HTTP needs {exc.name}; run: pip install 'surefoot[mcp-gateway]'") from exc
        return Remote(self.url, Upstream().open(), self.authorization)


def named(command: Sequence[str], url: str | None, name: str | None, limit: float | None, **rules: Any) -> Server:
    """Return the one server that the options of a command describe. Raises :class:`~surefoot.UsageError`."""
    if (url is None) is not bool(command):
        raise UsageError("give one of these: the server's command, --upstream URL, or --servers FILE")
    declared = Rules(name or named_after([url] if url else command), **rules)
    return Server(declared, command, url, authorization=os.environ.get("SUREFOOT_MCP_AUTHORIZATION"), limit=limit)


def read(file: Path) -> list[Server]:
    """Return the servers that a file describes, one table ``[servers.NAME]`` each.

    Raises :class:`~surefoot.NotFound`, and :class:`~surefoot.UsageError` for what cannot be meant.
    """
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except (OSError, ValueError) as exc:
        raise UsageError(f"{file} is not TOML ({exc})") from exc
    servers = found.pop("servers", None)
    if found or not isinstance(servers, dict) or not servers:
        raise UsageError(f"{file} has a table [servers.NAME] for each server, and nothing else")
    made = [_server(file, name, about) for name, about in servers.items()]
    lowered = [server.rules.server.lower() for server in made]
    if len(set(lowered)) < len(lowered):
        raise UsageError(f"{file}: two servers have names that differ in capital letters only; people would take one for the other")
    return made


def _server(file: Path, name: str, about: Any) -> Server:
    """Return the server that a table describes. Raises :class:`~surefoot.UsageError`."""
    if (why := _wrong(name, about)) is not None:
        raise UsageError(f"{file}: server {name!r} {why}")
    rules = {rule: about[key] for key, rule in _RULES.items() if key in about}
    own = os.environ[about["authorization_from"]] if "authorization_from" in about else None
    environment, command = about.get("environment", {}), tuple(about.get("command", ()))
    return Server(Rules(name, **rules), command, about.get("url"), environment, own, about.get("timeout"))


def _wrong(name: str, about: Any) -> str | None:
    """Return why a table describes no server, or ``None``."""
    if not _NAME.fullmatch(name):  # an underscore would let two servers' tools have one name
        return "may have letters, digits and '-' in its name only, 32 at most"
    if not isinstance(about, dict):
        return "is no table"
    if unknown := sorted({*about} - {*_KEYS}):
        return f"has {unknown[0]!r}, which is none of {', '.join(_KEYS)}"
    for key, value in about.items():
        fits, kind = _kind_of(key)
        if not fits(value):
            return f"has a {key!r} that is no {kind}"
    if ("url" in about) is bool(about.get("command")):
        return "needs a 'command' or a 'url', and not both"
    source = about.get("authorization_from")
    if source is not None and ("url" not in about or source not in os.environ):
        return f"takes its credential from {source}, which " + ("is for a 'url'" if "url" not in about else "is not set")
    return None


def _kind_of(key: str) -> tuple[Callable[[Any], bool], str]:
    """Return what a key's value has to be, and the words for it."""
    if key in _LISTS:
        return lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value), "list of texts"
    if key in _TABLES:
        return lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values()), "table of texts"
    if key in _TEXTS:
        return lambda value: isinstance(value, str), "text"
    return lambda value: isinstance(value, int | float) and value is not True and value > 0, "number of seconds above 0"
