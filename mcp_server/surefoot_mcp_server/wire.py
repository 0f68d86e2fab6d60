"""JSON-RPC messages of the Model Context Protocol: read strictly, answered in the revision that was asked in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = [
    "CALL",
    "CALL_ID",
    "CODES",
    "EFFECT",
    "ERROR",
    "KEY",
    "LIMIT",
    "OURS",
    "REPLAYED",
    "Asked",
    "Malformed",
    "answer",
    "dump",
    "error",
    "identity",
    "is_modern",
    "key_of",
    "kind_of",
    "loosely",
    "onward",
    "parse",
    "refusal",
    "replayed",
]

LIMIT: Final = 64 * 1024 * 1024
"""Bytes that one message may have, its end of line included."""
CALL: Final = "tools/call"
KEY: Final = "surefoot/idempotencyKey"
"""The name in ``_meta`` under which a client says which operation a call is."""
CALL_ID: Final = "surefoot/callId"
EFFECT: Final = "surefoot/effect"
"""The name in ``_meta`` under which a client that has a guard itself says which row of its ledger a call is."""
REPLAYED: Final = "surefoot/replayed"
CODES: Final = {"idempotency_key_required": 400, "idempotency_in_flight": 409, "idempotency_conflict": 422}
"""Codes of the Agentic Commerce Protocol, with the HTTP status that it gives them."""

_CHANGES: Final = "surefoot/changes"
OURS: Final = "surefoot:"
"""How the ``requestState`` of a question of our own begins."""
ERROR: Final = "surefoot/error"
"""The name in ``_meta`` of an answer that is surefoot's, with its ``code``."""
_LONGEST_KEY: Final = 255
_ROUNDS: Final = ("inputResponses", "requestState")
_SPELLINGS: Final = (KEY, "io.modelcontextprotocol/idempotencyKey", "idempotencyKey")
_REVISION: Final = "io.modelcontextprotocol/protocolVersion"
_ENVELOPE: Final = (_REVISION, "io.modelcontextprotocol/clientCapabilities", "io.modelcontextprotocol/clientInfo")
_FIRST_WITH_KINDS: Final = "2026-07-28"
_ESCAPED: Final = re.compile(rb"\\u00", re.IGNORECASE)


class Malformed(ValueError):
    """A message that cannot be read in one way only. ``code`` is the JSON-RPC error code to answer with, ``about`` the request's id."""

    def __init__(self, message: str, code: int = -32700, about: str | int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.about = about


@dataclass(frozen=True, slots=True)
class Asked:
    """One ``tools/call``, as the client asked for it."""

    tool: str
    arguments: Mapping[str, Any]
    key: str | None
    """The client's own name for the operation."""
    rounds: Mapping[str, Any]
    """What a continuation of an earlier round carries: ``inputResponses`` and ``requestState``."""
    modern: bool
    """It was asked in a revision whose results say what kind they are."""
    envelope: Mapping[str, Any] = field(default_factory=dict)
    """What a request of its revision says about its client, in ``_meta``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """HTTP headers that mirror arguments: a server refuses a call whose headers say something else, so they are part of what it is."""
    effect: str | None = None
    """The row of the client's own guard."""
    answered: tuple[str, Any] | None = None
    """The state and the responses of a continuation of our own question, of which the server knows nothing."""

    @property
    def what(self) -> dict[str, Any]:
        """What is asked for: equal for equal requests."""
        return {**self.arguments, **self.headers}

    @classmethod
    def of(cls, params: Any, headers: Mapping[str, str] | None = None) -> Asked:
        """Read the parameters of a ``tools/call``. Raises :class:`Malformed` for what no server could mean."""
        if not isinstance(params, dict) or not isinstance(params.get("name"), str):
            raise Malformed("tools/call needs params with the name of a tool", -32602)
        arguments = params.get("arguments")
        if not isinstance(arguments, dict | None):
            raise Malformed("the arguments of a tool are an object", -32602)
        meta = params.get("_meta")
        meta = meta if isinstance(meta, dict) else {}
        rounds = {name: params[name] for name in _ROUNDS if name in params}
        state = rounds.get("requestState")
        answered = (state, rounds.get("inputResponses")) if isinstance(state, str) and state.startswith(OURS) else None
        envelope = {name: value for name, value in meta.items() if name in _ENVELOPE}
        modern = _is_modern(meta)
        effect = meta.get(EFFECT)
        key, outer = key_of(params, meta), effect if isinstance(effect, str) else None
        return cls(params["name"], arguments or {}, key, {} if answered else rounds, modern, envelope, headers or {}, outer, answered)


def _is_modern(meta: Mapping[str, Any]) -> bool:
    revision = meta.get(_REVISION)
    return isinstance(revision, str) and revision >= _FIRST_WITH_KINDS


def is_modern(message: Mapping[str, Any]) -> bool:
    """Return whether a message says that it is of a revision without sessions."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return isinstance(meta, dict) and _is_modern(meta)


def onward(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``tools/call`` without the answer to a question of our own."""
    return {**message, "params": {name: value for name, value in message["params"].items() if name not in _ROUNDS}}


def key_of(params: Mapping[str, Any], meta: Mapping[str, Any]) -> str | None:
    """Return the idempotency key of a request: our own spelling, or that of SEP-3182 (AS-87).

    Raises :class:`Malformed` for a key that is no text of 1 to 255 characters, and for two that differ.
    """
    given = [meta[name] for name in _SPELLINGS if name in meta]
    given += [params["idempotencyKey"]] if "idempotencyKey" in params else []
    for key in given:
        if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY:
            raise Malformed(f"an idempotency key is a text of 1 to {_LONGEST_KEY} characters", -32602)
    if len(set(given)) > 1:
        raise Malformed("the request has two different idempotency keys", -32602)
    return given[0] if given else None


def parse(line: bytes) -> Any:
    """Return what a line of the client says.

    Servers differ in which of two equal names counts, so a message that has one twice would be something else to the server than to
    us. Such a message, and one that is no JSON, never passes: raises :class:`Malformed`.
    """
    try:
        text = line.decode("utf-8")
        message = json.loads(text)
        plain = line.count(b'"method"') <= 1 and not _ESCAPED.search(line) and isinstance(message, dict)
        return message if plain and message.get("method") != CALL else json.loads(text, object_pairs_hook=_once)
    except Malformed:
        raise
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"the message is not JSON ({exc})") from None


def loosely(line: bytes) -> Any:
    """Return what a line of the server says, or ``None`` where it is no JSON: then it is the client's to judge."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("the message has an object with one name twice", -32600)
    return found


def identity(message: Any) -> str | int | None:
    """Return the id of a request or response, or ``None`` where it has none that can be answered."""
    found = message.get("id") if isinstance(message, dict) else None
    return found if isinstance(found, str) or (isinstance(found, int) and not isinstance(found, bool)) else None


def dump(message: Any) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def answer(about: str | int | None, outcome: Mapping[str, Any]) -> bytes:
    """Return the response to a request as a line; ``outcome`` is ``{"result": …}`` or ``{"error": …}``."""
    return dump({"jsonrpc": "2.0", "id": about, **outcome})


def error(code: int, message: str) -> dict[str, Any]:
    """Return the outcome of a request that broke the protocol."""
    return {"error": {"code": code, "message": message}}


def kind_of(result: Mapping[str, Any]) -> str:
    """Return what kind of result it is: ``complete``, ``input_required``, ``task``, or what a later revision adds."""
    return str(result.get("resultType", "complete"))


def refusal(asked: Asked, text: str, code: str, call_id: str | None = None, changes: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the outcome of a call that was not executed: words for the model, a code for programs.

    An error result, because clients check the structured output of any other.
    """
    about: dict[str, Any] = {"code": code, **({"status": CODES[code]} if code in CODES else {})}
    meta = {ERROR: about, **({CALL_ID: call_id} if call_id else {}), **({_CHANGES: list(changes)} if changes else {})}
    kind = {"resultType": "complete"} if asked.modern else {}
    return {"result": {**kind, "content": [{"type": "text", "text": text}], "isError": True, "_meta": meta}}


def replayed(asked: Asked, outcome: Mapping[str, Any], call_id: str | None) -> dict[str, Any]:
    """Return a recorded outcome, in the revision that is asked in now, marked as recorded."""
    if "result" not in outcome:
        return dict(outcome)
    result = {name: value for name, value in outcome["result"].items() if name != "resultType" or asked.modern}
    if asked.modern:
        result = {"resultType": kind_of(outcome["result"]), **result}
    meta = result.get("_meta")
    marks = {REPLAYED: True, **({CALL_ID: call_id} if call_id else {})}
    return {"result": {**result, "_meta": {**(meta if isinstance(meta, dict) else {}), **marks}}}
