"""Clients: what a session calls is governed where it is called, and its identity travels with it."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from typing import Any, Final

from surefoot import Call, Guard, NotCommitted, UsageError
from surefoot_adapters import ActiveCall, Do, Overdue, Request, call, frame_at, here, is_guarded
from surefoot_mcp import _support
from surefoot_mcp_server.wire import EFFECT, ERROR, KEY

__all__ = ["guarded"]

_guarded: weakref.WeakKeyDictionary[Any, Guard] = weakref.WeakKeyDictionary()
_asked: weakref.WeakKeyDictionary[ActiveCall, dict[str, int]] = weakref.WeakKeyDictionary()
"""What the body of a call has asked sessions for, and how often."""
_UNKNOWN: Final = frozenset({"in_doubt", "no_answer", "idempotency_in_flight"})
"""Codes with which a proxy says that nobody knows; with any other one it says that nothing happened."""
_LOST: Final = frozenset({-32000, -32001, 408})
"""Codes with which the SDK says that the connection closed, or that it waited long enough."""


class _Said(Exception):
    """An error result, recorded as what the tool raised."""

    def __str__(self) -> str:
        texts = [part.get("text") for part in self.result.get("content", [])]
        return next((text for text in texts if isinstance(text, str)), "an error without words")

    @property
    def result(self) -> dict[str, Any]:
        """The result, as the wire has it."""
        return json.loads(self.args[0])  # type: ignore[no-any-return]


class _Refused(NotCommitted):
    """A proxy's word that nothing happened; its caller gets the error result as it came."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(str(_Said(json.dumps(result))))
        self.result = result


class _Asks(BaseException):
    """The server answered with something else than a result: a question to the client, or a task. It will be asked again."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.given = given


def guarded(client: Any, guard: Guard) -> None:
    """Guard a session in place. Raises :class:`~surefoot.UsageError` for one that another guard has, and for a client without a session."""
    try:
        session = client.session if hasattr(type(client), "session") else client
    except RuntimeError:
        raise UsageError("this client has no session yet; wrap it inside of its 'async with'") from None
    if is_guarded(_guarded.get(session), guard, "this MCP session"):
        return
    _guarded[session] = guard
    guard.control_flow(_Asks)
    original = session.call_tool

    async def call_tool(name: str, arguments: dict[str, Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        place = here()
        meta = dict(kwargs.pop("meta", None) or {})

        async def send(active: Call, key: str) -> Any:
            return await original(name, arguments, *args, meta={**meta, KEY: key, EFFECT: active.call_id}, **kwargs)

        if isinstance(place, ActiveCall):  # a governed body calls it: that is what counts
            return await send(place.call, _key(place, guard, name, arguments or {}))

        async def body() -> Any:
            active = here()
            assert isinstance(active, ActiveCall)  # noqa: S101 - a body runs in its call
            return _checked(await _answered(send(active.call, active.call.idempotency_key)))

        frame = frame_at(place, guard, f"the MCP tool {name}")
        request = Request(name, arguments or {}, session)
        try:
            return _result(await guard.adrive(call(guard, frame, request, Do(body, body))))
        except (_Said, _Refused) as exc:
            return _result(exc.result)
        except _Asks as exc:
            return exc.given

    session.call_tool = call_tool


def _key(place: ActiveCall, guard: Guard, name: str, arguments: Mapping[str, Any]) -> str:
    """Return the key of what a body asks for: that of its call, the tool, its arguments, and which of equal ones it is."""
    what = f"{name}.{guard.codec.digest(dict(arguments))[:12]}"
    seen = _asked.setdefault(place, {})
    seen[what] = seen.get(what, 0) + 1
    return f"{place.call.idempotency_key}/{what[:160]}.{seen[what]}"


async def _answered(sending: Any) -> Any:
    """Wait for an answer. Raises :class:`Overdue` where the SDK does not know how the call ended."""
    error: Any = _support.error_class()
    try:
        return await sending
    except error as exc:
        if exc.error.code in _LOST:
            raise Overdue(f"the connection to the MCP server gave no answer ({exc})") from exc
        raise


def _checked(result: Any) -> dict[str, Any]:
    """Return a result as data. Raises what an error result means: nothing happened, nobody knows, or the tool said so."""
    if not isinstance(result, _support.result_class()):
        raise _Asks(result)
    found: dict[str, Any] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    if not found.get("isError"):
        return found
    text, meta = str(_Said(json.dumps(found))), found.get("_meta") or {}
    code = (meta.get(ERROR) or {}).get("code")
    if code in _UNKNOWN:
        raise Overdue(text)
    if code is not None:
        raise _Refused(found)
    raise _Said(json.dumps(found))


def _result(found: Mapping[str, Any]) -> Any:
    """Return a recorded result as the SDK's."""
    return _support.result_class().model_validate(found)
