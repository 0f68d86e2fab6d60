"""A TCP proxy to stand between a store and its server: it cuts, stalls and loses answers as a network does."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

__all__ = ["Proxy"]


class Proxy:
    """Forwards connections to the server of ``url``; :attr:`url` leads through it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        self.url = urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{self._listener.getsockname()[1]}"))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._goes = threading.Event()
        self._goes.set()
        self._open = True
        self._ended = False
        self._muted: dict[socket.socket, threading.Event] = {}
        self.lose: tuple[bytes, bool] | None = None
        """Words of the client at which the connection is lost, once, and whether they still reach the server."""
        self.lost = 0
        """How often that happened."""
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        """Close everything."""
        self._ended = True
        self.heal()
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection, and refuse new ones until :meth:`heal`."""
        with self._lock:
            self._open = False
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _close(*pair)

    def stall(self) -> None:
        """Pass nothing on, and tell nobody, until :meth:`heal`."""
        self._goes.clear()

    def heal(self) -> None:
        """Work as a network should."""
        with self._lock:
            self._open = True
        self._goes.set()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            with self._lock:
                is_open = self._open
                if is_open:
                    self._pairs.append((client, server))
            if not is_open:
                _close(client, server)
                continue
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:  # noqa: FBT001 - a thread's argument
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._goes.wait()
                lose = self.lose
                if from_client and lose is not None and lose[0] in data:
                    self.lose = None
                    self.lost += 1
                    if lose[1]:
                        self._muted[target] = threading.Event()
                        target.sendall(data)
                        self._muted[target].wait()  # the server has done it
                    break
                if source in self._muted:
                    self._muted[source].set()
                    break
                target.sendall(data)
        _close(source, target)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
