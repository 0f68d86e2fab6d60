"""Asking the server itself whether a call in doubt happened, through a read tool that was declared for it (AS-12)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from surefoot import Call, happened, not_seen, will_not_happen
from surefoot.types import Probe, ProbeAnswer
from surefoot_mcp_server.wire import CALL_ID

__all__ = ["Ask", "Prober"]

Ask: TypeAlias = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Sends a request of our own to the server and returns its response."""


class Prober:
    """Makes probes of read tools; ``ask`` is set as soon as there is a server to ask."""

    def __init__(self) -> None:
        self.ask: Ask | None = None

    def probe(self, reader: str) -> Probe:
        """Return a probe that calls the read tool with the arguments of the call in doubt.

        The tool answers with an object, as structured content or as JSON text: ``outcome`` is ``happened``, ``will_not_happen`` or
        ``not_seen``, and ``result`` what the call would have returned. Anything else settles nothing.
        """

        async def answer(call: Call) -> ProbeAnswer:
            if self.ask is None:
                return not_seen()
            params = {"name": reader, "arguments": dict(call.arguments), "_meta": {CALL_ID: call.call_id}}
            found = _found((await self.ask("tools/call", params)).get("result"))
            match found.get("outcome"):
                case "happened":
                    return happened(found.get("result"))
                case "will_not_happen":
                    return will_not_happen()
                case "not_seen":
                    return not_seen()
            raise ValueError(f"the read tool {reader} answered without an outcome of happened, will_not_happen or not_seen")

        return answer


def _found(result: Any) -> Mapping[str, Any]:
    if not isinstance(result, dict) or result.get("isError"):
        return {}
    found = result.get("structuredContent")
    if found is None:
        content = result.get("content") or [{}]
        found = json.loads(content[0].get("text", "null"))
    return found if isinstance(found, dict) else {}
