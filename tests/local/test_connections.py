from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvicorn
from live_server import Server

from wandb_tl.local import connections
from wandb_tl.local.connections import BACKLOG, Configuration, LimitedProtocol, NoRepetition

HEAD = b"POST /graphql HTTP/1.1\r\nHost: here\r\n"


async def app(
    _scope: dict, receive: Callable[[], Awaitable[dict]], send: Callable[[dict], Awaitable]
) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_client_that_does_not_go_on_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.4)

    async def scenario() -> None:
        config = Configuration(app, log_level="warning", lifespan="off", timeout_keep_alive=60)
        server = uvicorn.Server(config)
        config.load()
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            lambda: LimitedProtocol(config, server.server_state, {}), "127.0.0.1", 0
        )
        port = listening.sockets[0].getsockname()[1]

        async def ended_after(*sent: bytes) -> float:
            """Seconds until the connection ends; each part is sent 0.1 s after the one before."""
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            start = time.monotonic()
            ended = asyncio.ensure_future(reader.read())
            for part in sent:
                writer.write(part)
                await asyncio.wait([ended], timeout=0.1)
                if ended.done():
                    break
            await asyncio.wait([ended], timeout=10)
            assert ended.done()
            # Read, so that nothing is left to complain about.
            ended.exception()
            writer.close()
            return time.monotonic() - start

        # Also a head that comes letter by letter has its time once.
        assert 0.1 < await ended_after() < 5
        assert await ended_after(*[b"a"] * 100) < 5
        assert 0.3 < await ended_after(HEAD + b"Content-Length: 9\r\n\r\n", b"1") < 5
        # Answered twice on one connection, which stays open.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(HEAD + b"Content-Length: 1\r\n\r\n1")
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == b"204"
            await asyncio.sleep(0.6)
        assert len(config.among.open) == 1
        writer.close()
        listening.close()

    asyncio.run(scenario())


def test_a_line_is_logged_once_a_minute() -> None:
    record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "no more files (%s)", ("x",), None)
    other = logging.LogRecord("asyncio", logging.ERROR, "", 0, "something else", (), None)
    lines = NoRepetition()
    assert [lines.filter(each) for each in (record, record, other, record)] == [True, False, True, False]
    lines.logged["no more files (%s)"] -= connections.REPEAT_SECONDS
    assert lines.filter(record)


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit is a command of Unix shells")
def test_idle_connections_do_not_make_the_server_deaf(tmp_path: Path) -> None:
    """A thousand requests that are never finished, without the key, at a server that may open 700 files."""
    server = Server(tmp_path, open_files=700)
    server.start()
    sockets = []
    try:
        for _ in range(1000):
            sockets.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            sockets[-1].sendall(HEAD)
        start = time.monotonic()
        assert server.query("{ viewer { entity } }") == {"viewer": {"entity": "local"}}
        assert time.monotonic() - start < 5
        files = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
        assert files < 700 - BACKLOG
    finally:
        for each in sockets:
            each.close()
    assert server.stop() == 0
