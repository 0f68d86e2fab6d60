"""Decisions by webhook: a card goes out with links that are signed, work once, in time, and for the exact request."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from crash import Effects
from processes import work

import surefoot
from surefoot import ApprovalPending, Denied, Guard, IntegrityError, UsageError
from surefoot_policy import links, on_behalf_of
from surefoot_policy.desk import Desk

Policed = Callable[..., Guard]
PAY = "tools: [{tool: pay, decision: approve, reason: <b>money</b> leaves the house}]\n"


class Hook:
    """A webhook of somebody's: a server that keeps what is posted to it, and answers as it is told to."""

    def __init__(self) -> None:
        self.got: Queue[tuple[dict[str, str], bytes]] = Queue()
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.put((dict(self.headers), body))
                self.send_response(hook.status)
                self.send_header("Location", f"{hook.url}/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"


@pytest.fixture
def served() -> Iterator[Callable[[Any], Any]]:
    """Serves HTTP servers in threads until the test ends."""
    running: list[tuple[Any, threading.Thread]] = []

    def serve(server: Any) -> Any:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield serve
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hook(served: Callable[[Any], Any]) -> Hook:
    """A webhook that listens."""
    made = Hook()
    served(made.server)
    return made


@pytest.fixture
def pay(effects: Effects) -> Any:
    """A tool that waits for a person."""

    @surefoot.tool(effect="unsafe")
    def pay(amount: int) -> str:
        effects.add("pay", amount)
        return f"paid {amount}"

    pay.__qualname__ = pay.__name__ = "pay"
    return pay


def asked(guard: Guard, pay: Any, amount: int = 5, run: str = "r") -> Any:
    """Ask for a payment; return its approval, or what it returned."""
    with surefoot.run(run):
        try:
            return surefoot.wrap(lambda: pay(amount), guard=guard)()
        except ApprovalPending as waits:
            return guard.approvals.show(next(iter(waits.cards)))


def http(address: str, data: bytes | None = None) -> tuple[int, str]:
    """Ask an address; return the status and the page."""
    try:
        with urllib.request.urlopen(address, data, timeout=20) as answer:  # noqa: S310 - of this test's own servers
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def test_a_card_goes_out_and_its_link_decides_once(
    policed: Policed, pay: Any, effects: Effects, hook: Hook, served: Callable[[Any], Any]
) -> None:
    """The webhook gets the card, signed, once; looking at a link decides nothing, following it decides, and no link does again."""
    guard = policed(PAY)
    waits = asked(guard, pay)
    desk = Desk(guard, webhook=hook.url, by="maria", secret="shared")  # noqa: S106 - a test's
    served(desk.server)
    assert desk.tell() == [waits.id]
    assert desk.tell() == []
    headers, body = hook.got.get(timeout=20)
    assert headers["Surefoot-Signature"] == f"sha256={hmac.new(b'shared', body, hashlib.sha256).hexdigest()}"
    assert headers["Idempotency-Key"] == waits.id
    told = json.loads(body)
    assert told["approval"]["arguments"] == {"amount": 5}
    decide = told["decide"]
    for _ in range(2):
        status, page = http(decide["approve"])
        assert (status, "approve as maria" in page, "<b>" in page) == (200, True, False)
    assert guard.approvals.show(waits.id).state == "pending"
    assert http(decide["approve"], b"comment=fine")[0] == 200
    decided = guard.approvals.show(waits.id)
    assert (decided.state, decided.decided_by, decided.comment) == ("approved", "maria", "fine")
    assert http(decide["approve"], b"")[0] == 410
    assert http(decide["deny"], b"")[0] == 410
    assert http(decide["deny"])[0] == 410
    assert asked(guard, pay) == "paid 5"
    assert http(decide["approve"], b"")[0] == 410
    assert effects.all() == [["pay", 5]]
    assert hook.got.empty()


def test_a_link_is_good_until_it_expires(policed: Policed, pay: Any, effects: Effects) -> None:
    """A link past its time decides nothing, whether its own or the approval's; the approval is as it was."""
    guard = policed(PAY + "approvals: {expires: 600}\n")
    waits = asked(guard, pay)
    now = guard.clock()
    short, long = links.sign(guard, waits, "approve", by="maria", seconds=60), links.sign(guard, waits, "approve", by="maria", seconds=9999)
    guard.clock = lambda: now + 61
    with pytest.raises(Denied, match="the link has expired"):
        links.follow(guard, short)
    assert guard.approvals.show(waits.id).state == "pending"
    guard.clock = lambda: now + 601
    with pytest.raises(Denied, match="the link has expired"):
        links.follow(guard, long)
    assert effects.all() == []


def test_a_link_is_for_one_request(policed: Policed, pay: Any, effects: Effects) -> None:
    """A link decides about its own request only: another payment waits on, and a request whose policy has changed is another one."""
    guard = policed(PAY)
    first, second = asked(guard, pay, 5, "a"), asked(guard, pay, 6, "b")
    links.follow(guard, links.sign(guard, first, "approve", by="maria"))
    assert [guard.approvals.show(one.id).state for one in (first, second)] == ["approved", "pending"]
    stale = links.sign(guard, second, "approve", by="maria")
    changed = policed(PAY + "name: other\n")
    again = asked(changed, pay, 6, "b")
    assert again.id != second.id
    with pytest.raises(IntegrityError, match="is void"):
        links.follow(changed, stale)
    assert asked(changed, pay, 6, "b").state == "pending"
    assert effects.all() == []


def test_a_link_is_bound_to_what_was_asked(policed: Policed, pay: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link for a row whose arguments are not those that it was made for decides nothing."""
    guard = policed(PAY)
    waits = asked(guard, pay)
    from dataclasses import replace

    forged = links.sign(guard, replace(waits, args_digest="0" * 64), "approve", by="maria")
    with pytest.raises(Denied, match="made for another request"):
        links.follow(guard, forged)
    assert guard.approvals.show(waits.id).state == "pending"


def test_a_changed_link_is_none(policed: Policed, pay: Any, tmp_path: Path) -> None:
    """Every link with one character changed, cut off or added is refused, and one of another store as well."""
    guard = policed(PAY)
    waits = asked(guard, pay)
    token = links.sign(guard, waits, "deny", by="maria")
    for at, char in enumerate(token):
        for other in {"A", "b", "-", "."} - {char}:
            with pytest.raises(Denied, match="no link of this store"):
                links.look(guard, token[:at] + other + token[at + 1 :])
    for wrong in ("", ".", token + "A", token[:-1], token + "=", token * 99, links.sign(Guard("memory://"), waits, "deny", by="maria")):
        with pytest.raises(Denied, match="no link of this store"):
            links.look(guard, wrong)
    assert links.look(guard, token)[1:] == ("deny", "maria")


def test_a_link_decides_as_somebody_who_may(policed: Policed, pay: Any, hook: Hook, served: Callable[[Any], Any]) -> None:
    """I15: a link of the requester, or of somebody who is not named, decides nothing."""
    guard = policed(PAY + "approvals: {approvers: ['ops-*']}\n")
    with on_behalf_of("ops-anna"):
        waits = asked(guard, pay)
    for name in ("ops-anna", "maria"):
        desk = Desk(guard, webhook=hook.url, by=name)
        served(desk.server)
        assert http(desk.card(waits)["decide"]["approve"], b"")[0] == 403
    assert guard.approvals.show(waits.id).state == "pending"


@pytest.mark.parametrize("status", [500, 307])
def test_what_did_not_arrive_is_sent_again(policed: Policed, pay: Any, hook: Hook, status: int) -> None:
    """A webhook that fails, or sends elsewhere, is told again until it takes the card; nothing goes to another address."""
    guard = policed(PAY)
    waits = asked(guard, pay)
    desk = Desk(guard, webhook=hook.url, by="maria")
    hook.status = status
    assert desk.tell() == []
    hook.status = 204
    assert desk.tell() == [waits.id]
    assert hook.got.qsize() == 2
    desk.server.server_close()


def test_a_webhook_that_speaks_no_http_is_told_again(policed: Policed, pay: Any, served: Callable[[Any], Any]) -> None:
    """What answers at the address need not be a web server: the desk goes on, and the card stays unsent."""

    class Junk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.wfile.write(b"220 mail.example ESMTP\r\n")

    guard = policed(PAY)
    asked(guard, pay)
    server = served(socketserver.TCPServer(("127.0.0.1", 0), Junk))
    desk = Desk(guard, webhook=f"http://127.0.0.1:{server.server_address[1]}/hook", by="maria")
    assert desk.tell() == []
    desk.server.server_close()


def test_a_client_that_goes_away_or_keeps_silent_is_left(
    policed: Policed, hook: Hook, served: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A client that sends half a request keeps no thread, and one that sends junk gets no stack trace on the desk's console."""
    monkeypatch.setattr("surefoot_policy.desk._Handler.timeout", 0.2)
    desk = Desk(policed(PAY), webhook=hook.url, by="maria")
    served(desk.server)
    for sent in (b"POST /decide?token=t HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"GET http://[/ HTTP/1.1\r\n\r\n"):
        with socket.create_connection(desk.server.server_address[:2], timeout=20) as client:
            client.sendall(sent)
            assert client.recv(100) == b""
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("webhook", ["file:///etc/passwd", "http://", "http://[::1/hook", "http://hook:port/", "hook"])
def test_an_address_that_is_none_is_refused(policed: Policed, webhook: str) -> None:
    """A webhook that nothing could ever be posted to is refused where it is given."""
    with pytest.raises(UsageError, match="is no address to post to"):
        Desk(policed(PAY), webhook=webhook, by="maria")


def test_other_addresses_of_the_desk_are_nothing(policed: Policed, hook: Hook, served: Callable[[Any], Any]) -> None:
    """What is no link is answered in a sentence."""
    desk = Desk(policed(PAY), webhook=hook.url, by="maria")
    served(desk.server)
    assert [http(f"{desk.url}{path}")[0] for path in ("/", "/decide", "/decide?token=x")] == [404, 403, 403]
    assert [http(f"{desk.url}{path}", b"")[0] for path in ("/", "/decide", "/decide?token=x")] == [400, 403, 403]
    assert http(f"{desk.url}/decide", b"x" * 70_000)[0] == 400


def test_the_desk_of_another_process_decides(tmp_path: Path, policed: Policed, effects: Effects, hook: Hook) -> None:
    """``surefoot approvals serve`` beside an agent that was killed after it asked: its link lets the resumed run go on, once."""
    policed(PAY)
    policy = str(tmp_path / "surefoot.yaml")
    assert work(tmp_path, amounts=[5], policy=policy, dies=True) == {"killed": True}
    store = f"sqlite:///{tmp_path}/surefoot.db"
    options = ["approvals", "serve", "--webhook", hook.url, "--by", "maria", "--listen", "127.0.0.1:0", "--every", "0.05"]
    command = [sys.executable, "-m", "surefoot_cli.main", "--store", store, *options]
    desk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        _, body = hook.got.get(timeout=50)
        assert http(json.loads(body)["decide"]["approve"], b"comment=ok")[0] == 200
    finally:
        desk.terminate()
        out, err = desk.communicate(timeout=20)
    assert "links are served at http://127.0.0.1:" in out, err
    assert "token" not in out + err
    assert work(tmp_path, amounts=[5], policy=policy) == {"result": ["paid 5"]}
    assert effects.count("pay") == 1


def test_links_by_hand(policed: Policed, pay: Any, tmp_path: Path) -> None:
    """``surefoot approvals link`` prints the links of one approval."""
    from click.testing import CliRunner

    from surefoot.plugins import Plugins
    from surefoot_cli.main import cli

    Plugins.default().cli(cli)
    guard = policed(PAY)
    waits = asked(guard, pay)
    store = ["--store", f"sqlite:///{tmp_path}/surefoot.db", "approvals"]
    done = CliRunner().invoke(cli, [*store, "link", waits.id, "--by", "maria", "--url", "https://desk.example/", "--json"])
    made = json.loads(done.output)["links"]
    assert made["deny"].startswith("https://desk.example/decide?token=")
    assert links.follow(guard, made["deny"].partition("token=")[2]).state == "denied"
    assert CliRunner().invoke(cli, [*store, "serve", "--webhook", "http://x", "--by", "m", "--listen", "x"]).exit_code == 2
