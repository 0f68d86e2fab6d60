"""A client, a gateway and a server over HTTP, one of which is killed at one of the boundaries that a call crosses in the gateway.

The process that a test starts is the client; it forks the gateway, which starts the server. ``told`` as in ``wire_child``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from mcp_support import HERE, call_params
from wire_child import Boundaries, ungoverned

from surefoot_mcp_server import child, serving
from surefoot_mcp_server.endpoint import guarding
from surefoot_mcp_server.governor import Governor
from surefoot_mcp_server.headers import Door
from surefoot_mcp_server.http import Gateway
from surefoot_mcp_server.rules import Rules
from surefoot_mcp_server.servers import Server
from surefoot_mcp_server.upstream import Upstream

__all__ = ["main"]


def _gateway(told: dict[str, Any], client: int) -> None:
    """Serve until a signal or the end of the client ends it."""
    ends_with_its_parent = child._dies_with_its_parent()
    assert ends_with_its_parent is not None
    ends_with_its_parent()
    command = [sys.executable, str(HERE / "shop_http.py"), told["effects"]]
    shop = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=ends_with_its_parent)  # noqa: PLW1509 - there is no other thread yet
    assert shop.stdout is not None
    upstream = f"http://127.0.0.1:{int(shop.stdout.readline())}/mcp"
    server = Server(Rules("shop", **told["rules"]), url=upstream)
    guard = guarding([server], told["store"], wait=20.0)
    victims = {"client": lambda: client, "proxy": os.getpid, "server": lambda: shop.pid}
    boundaries = Boundaries(told["at"], victims[told["victim"]])
    for owner, name in ((Gateway, "_take"), (Gateway, "_reply"), (Gateway, "_whole"), (Upstream, "send"), (guard.store, "arun")):
        boundaries.around(owner, name)
    if told.get("ungoverned"):
        Governor.call = ungoverned  # type: ignore[method-assign,assignment]
    asyncio.run(serving.serve(guard, [server], serving.Listening("127.0.0.1", 0, Door())))
    shop.kill()
    shop.communicate()
    (Path(told["folder"]) / "crossed").write_text(str(boundaries.crossed))


def _ask(address: str, key: str | None) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call_params("pay", key=key)}
    host, port = address.split(":")
    connection = HTTPConnection(host, int(port), timeout=60)
    try:
        connection.request("POST", "/mcp", json.dumps(message), {"content-type": "application/json"})
        print(connection.getresponse().read().decode().strip(), flush=True)
    except (OSError, HTTPException):
        pass
    finally:
        connection.close()


def main(told: dict[str, Any]) -> None:
    """Be the client: ask for one payment and print what came back."""
    from_gateway, errors = os.pipe()
    client = os.getpid()
    gateway = os.fork()
    if gateway == 0:
        try:
            os.dup2(errors, 2)
            sys.stderr = open(2, "w", buffering=1)  # noqa: SIM115 - the zygote's own is another file
            _gateway(told, client)
        except BaseException:  # noqa: BLE001 - printed, and there is no answer then
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)
    os.close(errors)
    with os.fdopen(from_gateway) as said:
        address = next((line.split()[-1] for line in said if "listening on" in line), None)
        if address is not None:  # else it was killed before it listened
            _ask(address, told.get("key"))
            os.kill(gateway, signal.SIGTERM)
        sys.stderr.write(said.read())
    os.waitpid(gateway, 0)
