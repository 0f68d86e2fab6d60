"""The desk: tells a webhook what waits for a person, and takes the decision from the links that it has sent.

It is a process of its own beside the agents, over the same store: an agent waits for no network, and one that dies after it asked is
told about all the same. A request is sent at least once, with its id as the idempotency key.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import http.client
import json
import logging
import urllib.request
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from surefoot import SurefootError, UsageError
from surefoot.engine.program import Tx
from surefoot_policy import links

if TYPE_CHECKING:
    from surefoot import Guard
    from surefoot.engine.unit import Unit
    from surefoot_policy.approvals import Approval

__all__ = ["Desk"]

_SENT: Final = "approvals.sent"
_PATH: Final = "/decide"
_TIMEOUT: Final = 10.0
_LARGEST: Final = 64 << 10
_SIGNATURE: Final = "Surefoot-Signature"
_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
}
_log: Final = logging.getLogger("surefoot.desk")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a card goes to the address that was given and to no other."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - it takes anything
        """Refuse."""


class Desk:
    """Sends what waits, and serves the links. ``by`` is whose decisions the links are, for ``seconds``."""

    def __init__(
        self,
        guard: Guard,
        *,
        webhook: str,
        by: str,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        public_url: str = "",
        secret: str = "",
        seconds: float | None = None,
    ) -> None:
        if not _is_address(webhook):
            raise UsageError(f"{webhook!r} is no address to post to; give one like https://example.org/hook")
        self._guard = guard
        self._webhook = webhook
        self._by = by
        self._secret = secret
        self._seconds = seconds
        self.server = _Server(listen, partial(_Handler, guard))
        host, port = self.server.server_address[:2]
        self.url = public_url.rstrip("/") or f"http://{host!s}:{port}"
        """What the links begin with."""
        self._open = urllib.request.build_opener(_NoRedirects).open

    def tell(self) -> Sequence[str]:
        """Send every pending approval that was not sent yet; return the ids of those that arrived. What did not is tried again."""
        waiting = self._guard.approvals.list()
        known = self._guard.transact(Tx(lambda unit: {row.key for row in _all(unit)}, write=False))
        told = [approval.id for approval in waiting if approval.id not in known and self._send(approval)]
        for approval_id in told:
            self._guard.transact(Tx(partial(_note, approval_id=approval_id)))
        return told

    def card(self, approval: Approval) -> dict[str, Any]:
        """Return what is sent about an approval: its card, and a link for each decision."""
        actions: Sequence[links.Action] = ("approve", "deny")
        tokens = {action: links.sign(self._guard, approval, action, by=self._by, seconds=self._seconds) for action in actions}
        decide = {action: f"{self.url}{_PATH}?token={token}" for action, token in tokens.items()}
        return {"schema_version": 1, "type": "approval.requested", "approval": approval.card(), "decide": decide}

    def _send(self, approval: Approval) -> bool:
        body = json.dumps(self.card(approval), default=str).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": approval.id}
        if self._secret:
            headers[_SIGNATURE] = f"sha256={hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()}"
        request = urllib.request.Request(self._webhook, body, headers)  # noqa: S310 - its scheme was looked at
        try:
            with self._open(request, timeout=_TIMEOUT):
                return True
        except (OSError, http.client.HTTPException, UnicodeError) as exc:  # what answers there need not speak HTTP
            _log.warning("the request %s did not reach the webhook (%s); it is sent again", approval.id, exc)
            return False


class _Server(ThreadingHTTPServer):
    """Serves each client in a thread of its own, and survives what clients do."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as in socketserver
        """Note a client that went away, or said what is no request; the address of a request is in neither."""
        _log.debug("a request was not answered", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Shows what a link would decide, and decides when the person says so: whoever only looks at a link changes nothing."""

    protocol_version = "HTTP/1.1"
    timeout = _TIMEOUT
    """A client that says nothing for so many seconds is left: its thread is not kept for ever."""

    def __init__(self, guard: Guard, *args: Any) -> None:
        self._guard = guard
        super().__init__(*args)

    def do_GET(self) -> None:
        """Show the card, and a button."""
        asked = urlsplit(self.path)
        if asked.path != _PATH:
            return self._answer(404, "There is nothing here.")
        try:
            approval, action, by = links.look(self._guard, self._token(asked.query))
        except SurefootError as exc:
            return self._refused(exc)
        if approval.state != "pending":
            return self._answer(410, f"{approval.id} is {approval.state}; there is nothing to decide any more.")
        rows = "".join(f"<tr><th>{_safe(name)}<td><pre>{_safe(value)}</pre>" for name, value in approval.card().items())
        form = f'<form method="post"><input name="comment" placeholder="why"> <button>{action} as {_safe(by)}</button></form>'
        return self._answer(200, f"<table>{rows}</table>{form}", safe=True)

    def do_POST(self) -> None:
        """Decide."""
        asked = urlsplit(self.path)
        length = self.headers.get("Content-Length", "")
        if asked.path != _PATH or not length.isdecimal() or int(length) > _LARGEST:
            self.close_connection = True
            return self._answer(400, "There is nothing to decide in this.")
        sent = parse_qs(self.rfile.read(int(length)).decode("utf-8", "replace"))
        try:
            decided = links.follow(self._guard, self._token(asked.query), comment=sent.get("comment", [""])[0])
        except SurefootError as exc:
            return self._refused(exc)
        return self._answer(200, f"{decided.id} is {decided.state} by {decided.decided_by}. Resume run {decided.run_id} to go on.")

    def _token(self, query: str) -> str:
        return parse_qs(query).get("token", [""])[0]

    def _refused(self, exc: SurefootError) -> None:
        self._answer({"denied": 403, "not_found": 404}.get(exc.code, 410), str(exc))

    def _answer(self, status: int, text: str, *, safe: bool = False) -> None:
        body = f"<!doctype html><title>surefoot</title><p>{text if safe else _safe(text)}".encode()
        self.send_response(status)
        headers: Mapping[str, str] = {**_HEADERS, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's name in http.server
        """Say nothing: the address of a request has a token in it."""


def _is_address(webhook: str) -> bool:
    try:
        parts = urlsplit(webhook)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _safe(value: Any) -> str:
    return html.escape(value if isinstance(value, str) else json.dumps(value, default=str))


def _all(unit: Unit) -> Sequence[Any]:
    found: list[Any] = []
    while page := unit.records.list(_SENT, after=found[-1].key if found else None, limit=1000):
        found += page
    return found


def _note(unit: Unit, approval_id: str) -> None:
    unit.records.put(_SENT, approval_id, {"at": unit.now})
