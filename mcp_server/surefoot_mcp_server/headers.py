"""HTTP headers: who may ask, what passes on, and whether they say the same as the body (I29, I30)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from surefoot_mcp_server.wire import Asked

__all__ = ["MISMATCH", "REFUSED", "Door", "mismatch", "onward", "parameters", "tenant_of", "unreadable"]

MISMATCH: Final = -32020
REFUSED: Final = frozenset({301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 411, 413, 415, 421, 429})
"""Statuses with which HTTP and the protocol refuse a request before it is read as a call."""
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_ENCODED: Final = re.compile(r"=\?base64\?(?P<payload>[A-Za-z0-9+/=]*)\?=")
_PARAMETER: Final = "mcp-param-"
_ROUTING: Final = ("mcp-method", "mcp-name", "mcp-protocol-version")
_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "accept-encoding",
    )
)
_SECRET: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Door:
    """Whom the proxy talks to: a page of another site may not reach it through a browser, whatever name it gives us (I30)."""

    hosts: Sequence[str] = ()
    """Host names that it may be asked for by, beside those of this machine's loopback."""
    origins: Sequence[str] = ()
    """Origins of pages that may ask, beside those of the loopback."""

    def refuses(self, headers: Mapping[str, str]) -> str | None:
        """Return why a request may not come in, or ``None``."""
        host = headers.get("host", "")
        if _name(f"//{host}") not in {*_LOOPBACK, *self.hosts}:
            return f"this proxy is not {host!r}; start it with --allow-host to serve under that name"
        origin = headers.get("origin")
        if origin is None or origin in self.origins or _name(origin) in _LOOPBACK:
            return None
        return f"pages of {origin!r} may not use this proxy; start it with --allow-origin to let them"


def _name(url: str) -> str:
    try:
        found = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return f"[{found}]" if ":" in found else found


def onward(headers: Pairs, *, secrets: bool) -> list[tuple[str, str]]:
    """Return the headers that pass to the other side: none of this connection's own, and credentials only where that was asked for."""
    named = {name.strip().lower() for key, value in headers if key.lower() == "connection" for name in value.split(",")}
    barred = _HOP | named | (frozenset() if secrets else _SECRET)
    return [(name, value) for name, value in headers if name.lower() not in barred]


def unreadable(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """Return the name of a header that cannot be passed on as it came, or ``None``."""
    for name, value in headers:
        try:
            value.decode()
        except UnicodeDecodeError:
            return name.decode("latin-1")
    return None


def tenant_of(authorization: str | None) -> str:
    """Return whose ledger rows a request sees: those of the same credential, and no one else's (I27)."""
    return f"http-{hashlib.sha256(authorization.encode()).hexdigest()[:16]}" if authorization else "default"


def parameters(headers: Pairs) -> dict[str, str]:
    """Return the headers that mirror arguments. A call that was recorded with others is not this one."""
    return {name.lower(): value for name, value in headers if name.lower().startswith(_PARAMETER)}


def mismatch(headers: Pairs, asked: Asked, message: Mapping[str, Any]) -> str | None:
    """Return what in the headers contradicts the body, or ``None``: nothing is answered that a server must refuse (SEP-2243)."""
    given: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        if key in given and (key in _ROUTING or key.startswith(_PARAMETER)):
            return f"the header {name} appears twice"
        given[key] = value
    body = {"mcp-method": message.get("method"), "mcp-name": asked.tool}
    if asked.modern:
        body["mcp-protocol-version"] = message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"]
    for name, wanted in body.items():
        if (name in given or asked.modern) and _decoded(given.get(name)) != wanted:
            return f"the header {name} does not say the same as the body"
    return None


def _decoded(value: str | None) -> str | None:
    found = _ENCODED.fullmatch(value) if value is not None else None
    if found is None:
        return value
    payload = found["payload"]
    try:
        data = base64.b64decode(payload, validate=True)
        return data.decode() if base64.b64encode(data).decode() == payload else None
    except (binascii.Error, UnicodeDecodeError):
        return None
