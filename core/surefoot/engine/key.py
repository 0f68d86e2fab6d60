"""Identity: which call is this? Keys, slots, step paths."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from surefoot.codec import Codec
from surefoot.errors import UsageError
from surefoot.types import Call, CallRecord, ToolRule

__all__ = ["below", "business_key", "call_id", "conflict_key", "element", "owned", "quote", "slot_key", "top"]


def quote(name: str) -> str:
    """Return a step or tool name without the characters that structure a path (``/ # % [``)."""
    for char in "%/#[":
        name = name.replace(char, f"%{ord(char):02x}")
    return name


def owned(tenant: str, name: str) -> str:
    """Return the name of something that is a tenant's: no two tenants' things have one name (I27)."""
    return f"{quote(tenant)}/{name}"


def element(name: str, instance: int, branch: str = "") -> str:
    """Return one path element: ``tools#2``, or ``pay#1[3fa9…:0]`` in a fan-out branch."""
    return f"{quote(name)}#{instance}[{branch}]" if branch else f"{quote(name)}#{instance}"


def below(path: str, call: Call | CallRecord, occurrence: str) -> str:
    """Return the path of what is requested inside of a call that was requested at ``path``."""
    part = f"{quote(call.tool)}({call.args_digest[:12]}.{occurrence})"
    return f"{path}/{part}" if path else part


def top(path: str) -> tuple[str, int]:
    """Return the quoted step name and instance number of a path's first element; ``("", 0)`` for the root."""
    first = path.split("/", 1)[0].split("[", 1)[0]
    name, _, number = first.rpartition("#")
    return (name, int(number)) if number.isdigit() else ("", 0)


def _hash(*parts: str) -> str:
    """Return the SHA-256 (hex) of the parts, each behind its length, so that no two lists of parts look the same."""
    return hashlib.sha256("".join([f"{len(part)}:{part}" for part in parts]).encode("utf-8", "surrogatepass")).hexdigest()


def call_id(key: str) -> str:
    """Return the id of the ledger row for a key: one row a key, so the id is made of it and one index serves both."""
    return f"call_{key[:32]}"


def conflict_key(key: str, args_digest: str) -> str:
    """Return the key of a request that has the business key of another one, but not its arguments."""
    return _hash("conflict", key, args_digest)


def slot_key(tenant: str, tool: str, scope: str, path: str, args_digest: str, occurrence: str) -> str:
    """Return the key of a call without business key: where in the run it was asked for, and for what."""
    return _hash("slot", tenant, tool, scope, path, args_digest, occurrence)


def business_key(codec: Codec, rule: ToolRule, tenant: str, tool: str, scope: str, arguments: Mapping[str, Any]) -> str:
    """Return the key made of the declared fields; raises :class:`~surefoot.UsageError` when one is missing."""
    missing = [name for name in rule.key if name not in arguments]
    if missing:
        raise UsageError(f"tool {tool!r} declares key={list(rule.key)} but was called without {', '.join(missing)}; fix the declaration")
    fields = codec.digest({name: arguments[name] for name in rule.key})
    return _hash("key", tenant, tool, scope if rule.scope == "run" else "", *sorted(rule.key), fields)
