"""A provider of models on this machine: one HTTP server that speaks four wire formats, and misbehaves as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["GOOD", "FakeProvider", "provider"]

GOOD = '{"verdict": "PASS", "confidence": 0.9, "reason": "fine"}'


class FakeProvider:
    """What the server does next, and what it was asked."""

    def __init__(self) -> None:
        self.says = "answer"
        """``answer``, ``refuse``, ``cut off``, ``truncate``, ``nothing``, ``hang`` or an HTTP status."""
        self.text = GOOD
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.released = threading.Event()
        self.url = ""

    def reply(self, path: str) -> dict[str, Any]:
        """Return the body of the reply in the wire format of the path."""
        refuses, cut = self.says == "refuse", self.says == "cut off"
        text = "" if self.says == "nothing" else self.text
        if path.endswith("/chat/completions"):
            message = {"role": "assistant", "content": None if refuses else text, "refusal": "I refuse: secret words." if refuses else None}
            choice = {"index": 0, "message": message, "finish_reason": "length" if cut else "stop", "logprobs": None}
            return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        if path.endswith("/messages"):
            stop = "refusal" if refuses else "max_tokens" if cut else "end_turn"
            usage = {"input_tokens": 1, "output_tokens": 1}
            content = [{"type": "text", "text": text}]
            return {
                "id": "1",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": content,
                "stop_reason": stop,
                "usage": usage,
            }
        if path.endswith(":generateContent"):
            if refuses:
                return {"promptFeedback": {"blockReason": "SAFETY"}}
            found = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "MAX_TOKENS" if cut else "STOP"}
            return {"candidates": [found]}
        stop = "content_filtered" if refuses else "max_tokens" if cut else "end_turn"
        usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
        message = {"role": "assistant", "content": [{"text": text}]}
        return {"output": {"message": message}, "stopReason": stop, "usage": usage, "metrics": {"latencyMs": 1}}


class _Handler(BaseHTTPRequestHandler):
    fake: FakeProvider

    def do_POST(self) -> None:
        """Answer, or misbehave."""
        fake = self.fake
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.requests.append((self.path, asked))
        if fake.says == "hang":
            fake.released.wait()
        if fake.says.isdigit():
            self._send(int(fake.says), json.dumps({"error": {"message": "secret words", "type": "error", "code": int(fake.says)}}).encode())
            return
        body = json.dumps(fake.reply(self.path)).encode()
        self._send(200, body[: len(body) // 2] if fake.says == "truncate" else body)

    def _send(self, status: int, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # who asked has gone
            return

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


@contextmanager
def provider() -> Iterator[FakeProvider]:
    """Run a provider for the block."""
    fake = FakeProvider()
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        fake.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
