"""Connections within limits: how many there are, how long a request takes to arrive, what is logged of them.

Whoever reaches the port can open connections, also without the key. Each one takes a file of the process, and
a process that has no more of them can neither accept a connection nor open a blob.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

# Connections that the system accepts before the server does. asyncio accepts as many in a row.
BACKLOG = 128
# Open files for the database, blobs and scripts of pages, and connections that were just accepted or ended.
OTHER_FILES = 128 + 2 * BACKLOG
# Fewer than this are not enough for one browser and a few agents.
FEWEST_CONNECTIONS = 32
# What is asked of the system.
OPEN_FILES = 16_384
# Seconds in which the head of a request must be complete, and in which more of a body must arrive, or more of
# an answer be taken.
HEAD_SECONDS, STALLED_SECONDS = 20.0, 120.0
# The same line is logged again after this time.
REPEAT_SECONDS = 60.0


def most_connections() -> int:
    """Raise the limit on open files of this process; the number of connections that it leaves room for."""
    try:
        import resource
    except ImportError:
        # Windows has no such limit.
        return OPEN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(min(soft, OPEN_FILES) - OTHER_FILES, FEWEST_CONNECTIONS)


class Connections:
    """The open connections, the one whose client was silent for longest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.open: OrderedDict[Handshake | LimitedProtocol, None] = OrderedDict()

    def heard(self, connection: Handshake | LimitedProtocol) -> None:
        """Note that a client sent or took something. The most silent connections make room for a new one."""
        self.open[connection] = None
        self.open.move_to_end(connection)
        while len(self.open) > self.most:
            silent, _ = self.open.popitem(last=False)
            silent.transport.abort()


class Configuration(uvicorn.Config):
    """uvicorn's configuration of a server with limits on its connections."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, http=LimitedProtocol, backlog=BACKLOG, **options)
        self.among = Connections(most_connections())
        self.encryption: ssl.SSLContext | None = None

    def load(self) -> None:
        super().load()
        if self.ssl:
            # uvicorn would hear of a connection only after its handshake, and could not count it before.
            self.encryption, self.ssl = self.ssl, None
            self.http_protocol_class = Handshake


class Handshake(asyncio.Protocol):
    """A connection of HTTPS until its handshake has ended: it counts as any other, and has HEAD_SECONDS."""

    def __init__(
        self,
        config: Configuration,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.config, self.connections = config, cast(set[Any], server_state.connections)
        self.protocol = LimitedProtocol(config, server_state, app_state, _loop)
        # What came with the end of the handshake.
        self.early = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        # What the client sends is for the layer that decrypts it.
        transport.pause_reading()
        self.connections.add(self)
        self.config.among.heard(self)
        self.task = asyncio.ensure_future(self._encrypt())

    def data_received(self, data: bytes) -> None:
        self.early += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.task.cancel()

    def shutdown(self) -> None:
        """End the connection: uvicorn calls this when the server ends."""
        self.transport.abort()

    async def _encrypt(self) -> None:
        loop, context = asyncio.get_running_loop(), cast(ssl.SSLContext, self.config.encryption)
        try:
            encrypted = await loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=HEAD_SECONDS
            )
        except OSError:
            # No handshake, a wrong one, or none in time.
            self.transport.abort()
            return
        finally:
            self.connections.discard(self)
            self.config.among.open.pop(self, None)
        # None if the client has ended the connection meanwhile.
        if encrypted:
            encrypted.set_protocol(self.protocol)
            self.protocol.connection_made(encrypted)
            if self.early:
                self.protocol.data_received(self.early)


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol, which ends connections whose clients keep it waiting."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.among = cast(Configuration, config).among
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.among.heard(self)
        self._expect(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        self.among.heard(self)
        waits_for_head = self._waits_for_head()
        super().data_received(data)
        # The time for a head is that of all its parts together.
        if not (waits_for_head and self._waits_for_head() and self.deadline):
            self._expect(HEAD_SECONDS if self._waits_for_head() else STALLED_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.among.heard(self)
        self._expect(STALLED_SECONDS)

    def on_response_complete(self) -> None:
        # From here on uvicorn's own time for an idle connection counts.
        self._expect(None)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        self.among.open.pop(self, None)
        super().connection_lost(exc)

    def _waits_for_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expect(self, seconds: float | None) -> None:
        """End the connection if its client lets this time pass; None for no such time."""
        if self.deadline:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(seconds, self._give_up) if seconds else None

    def _give_up(self) -> None:
        self.deadline = None
        is_at_work = not self._waits_for_head() and (self.flow.read_paused or not self.cycle.more_body)
        if is_at_work and not self.transport.get_write_buffer_size():
            # The client waits for the server.
            self._expect(STALLED_SECONDS)
        else:
            self.transport.abort()


class NoRepetition(logging.Filter):
    """Leaves out lines that were logged less than REPEAT_SECONDS ago: strangers could fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        # Without its arguments: they may hold what the client sent.
        line, now = str(record.msg), time.monotonic()
        if now - self.logged.get(line, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return False
        recent = {other: at for other, at in self.logged.items() if now - at < REPEAT_SECONDS}
        self.logged = recent | {line: now}
        return True
