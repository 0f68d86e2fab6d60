"""An MCP server on standard input and output, without an SDK: its tools do what their arguments say, and each effect is a line in a file.

Run with the path of that file. ``SHOP_DIES`` names the moment at which it kills itself: ``before`` the effect of ``pay``, ``after``
it, or when the answer is written.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

TOOLS = ["pay", "search", "refuse", "ask", "hang", "late", "long", "huge"]


def say(message: dict[str, Any]) -> None:
    """Write one message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(words: str, **more: Any) -> dict[str, Any]:
    """Return a result of one text."""
    return {"content": [{"type": "text", "text": words}], **more}


class Shop:
    """The tools, and what they did."""

    def __init__(self, effects: Path, dies: str) -> None:
        self.effects = effects
        self.dies = dies
        self.cancelled: set[Any] = set()
        self.late: list[Any] = []
        self.tools = {name: {"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}} for name in TOOLS}

    def effect(self, words: str) -> None:
        """Do something to the world, durably."""
        with self.effects.open("a") as file:
            file.write(words + "\n")
            file.flush()
            os.fsync(file.fileno())

    def die(self, moment: str) -> None:
        """Kill this process if that is the moment."""
        if self.dies == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    def call(self, about: Any, params: dict[str, Any]) -> None:
        """Do what a tool does and answer, or not."""
        name, arguments = params["name"], params.get("arguments") or {}
        meta = params.get("_meta") or {}
        if name == "pay":
            self.die("before")
            self.effect(f"pay {json.dumps(arguments, sort_keys=True)}")
            self.die("after")
            say({"id": about, "result": text(f"paid {arguments.get('amount')}", structuredContent={"paid": arguments.get("amount")})})
            self.die("answered")
        elif name == "search":
            self.effect("search")
            say({"id": about, "result": text("found")})
        elif name == "refuse":
            self.effect("refuse")
            say({"id": about, "result": text("the card was declined", isError=True)})
        elif name == "ask":
            if "inputResponses" not in params:
                say({"id": about, "result": {"resultType": "input_required", "inputRequests": {"sure": {}}, "requestState": "s1"}})
                return
            self.effect("ask")
            say({"id": about, "result": text("asked and done", resultType="complete")})
        elif name == "hang":
            self.effect("hang")
        elif name == "late":
            self.effect("late")
            self.late.append(about)
        elif name == "long":
            say({"method": "notifications/progress", "params": {"progressToken": meta.get("progressToken"), "progress": 1}})
            self.effect("long")
            say({"id": about, "result": text("done")})
        elif name == "huge":
            say({"id": about, "result": text("x" * int(arguments["size"]))})
        else:
            say({"id": about, "error": {"code": -32602, "message": f"unknown tool {name}"}})

    def take(self, message: dict[str, Any]) -> None:  # noqa: C901, PLR0912 - one branch for each method
        """Answer one message."""
        method, about = message.get("method"), message.get("id")
        if method == "initialize":
            say(
                {
                    "id": about,
                    "result": {
                        "protocolVersion": "2025-11-25",
                        "capabilities": {"tools": {}},
                        "serverInfo": {"name": "shop", "version": "1"},
                    },
                }
            )
        elif method == "tools/list":
            names = list(self.tools)
            at = int(message.get("params", {}).get("cursor", 0))
            more = {"nextCursor": str(at + 3)} if at + 3 < len(names) else {}
            say({"id": about, "result": {"tools": [self.tools[name] for name in names[at : at + 3]], **more}})
        elif method == "tools/call":
            self.call(about, message["params"])
        elif method == "notifications/cancelled":
            self.effect(f"cancelled {json.dumps(message['params']['requestId'])}")
        elif method == "notifications/land":
            for waiting in self.late:
                say({"id": waiting, "result": text("landed")})
        elif method == "notifications/change":
            for name, change in message["params"].items():
                if change is None:
                    del self.tools[name]
                else:
                    self.tools[name] = {**self.tools.get(name, {"name": name}), **change}
            say({"method": "notifications/tools/list_changed"})
        elif method == "notifications/ask":
            say({"id": "from-server", "method": "sampling/createMessage", "params": {}})
        elif method is None:
            say({"method": "notifications/message", "params": {"level": "info", "data": message}})
        elif about is not None:
            say({"id": about, "result": {"echo": method, "params": message.get("params")}})


def main() -> None:
    """Serve until the input ends."""
    shop = Shop(Path(sys.argv[1]), os.environ.get("SHOP_DIES", ""))
    if os.environ.get("SHOP_STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        if line.strip():
            found = json.loads(line)
            for message in found if isinstance(found, list) else [found]:
                shop.take(message)
    if os.environ.get("SHOP_STUBBORN"):
        threading.Event().wait()
    sys.exit(int(os.environ.get("SHOP_CODE", "0")))


if __name__ == "__main__":
    main()
