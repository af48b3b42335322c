"""A TCP proxy on loopback whose connections can be cut: the network between the clients and a server."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

CHUNK_BYTES = 1 << 16


class Proxy:
    """Forwards connections to a port of this machine, from a port of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed_until = 0.0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def cut(self, seconds: float = 0.0) -> None:
        """Close all connections, and for some seconds those that come."""
        with self._lock:
            self._closed_until = time.monotonic() + seconds
            connections, self._connections = self._connections, set()
        for connection in connections:
            _close(connection)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if time.monotonic() < self._closed_until:
                    raise ConnectionError("the network is cut")
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _close(client)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections |= {client, server}
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(CHUNK_BYTES):
                sink.sendall(content)
        for connection in (source, sink):
            _close(connection)
        with self._lock:
            self._connections -= {source, sink}


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
