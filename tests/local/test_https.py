"""The server with HTTPS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import REPOSITORY, Server

from wandb_tl.local.connections import BACKLOG

LOCAL = [sys.executable, "-m", "wandb_tl.local"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a certificate for 127.0.0.1 and, after it, its private key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    key, file = folder / "key.pem", folder / "both.pem"
    made = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(file))
    named = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(["openssl", *made, *named], check=True, capture_output=True)
    file.write_text(file.read_text() + key.read_text())
    return file


@pytest.fixture
def server(tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    running = Server(tmp_path, flags=("--ssl-certfile", str(certificate)))
    running.start()
    yield running
    assert running.stop() == 0


def local(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run([*LOCAL, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", ["serve", "open"])
def test_a_key_without_a_certificate_is_refused(tmp_path: Path, command: str) -> None:
    root = tmp_path / "root"
    code, out, err = local(command, "--port", "0", "--root", str(root), "--ssl-keyfile", str(tmp_path / "k"))
    reason = "without --ssl-certfile, the server would listen without encryption"
    assert (code, out, err) == (1, "", f"error: --ssl-keyfile: {reason}\n")
    assert not root.exists()


def test_one_file_may_have_both(server: Server) -> None:
    assert server.url.startswith("https://127.0.0.1:")
    assert server.query("{ viewer { entity } }") == {"viewer": {"entity": "local"}}


def test_env_with_a_port_names_what_is_served(server: Server) -> None:
    root = ["--root", str(server.root)]
    for arguments, url in (
        (["--port", str(server.port)], server.url),
        # As of a tunnel.
        (["--port", "9"], "https://127.0.0.1:9"),
        (["--port", "9", "--host", "node1"], "https://node1:9"),
    ):
        code, out, err = local("env", *arguments, *root)
        assert code == 0 and f"export WANDB_BASE_URL={url}\n" in out, out + err


@pytest.mark.skipif(sys.platform != "linux", reason="it counts open files in /proc")
def test_connections_without_a_handshake_do_not_make_the_server_deaf(
    tmp_path: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them, which are silent or speak no TLS, at a server that may open 700 files."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = Server(tmp_path, flags=("--ssl-certfile", str(certificate)), open_files=700)
    server.start()
    sockets = []
    try:
        for number in range(1000):
            sockets.append(socket.create_connection(("127.0.0.1", server.port), timeout=20))
            if number % 10 == 0:
                sockets[-1].sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        # It would not answer before some of them have had their 20 s.
        start = time.monotonic()
        assert server.query("{ viewer { entity } }") == {"viewer": {"entity": "local"}}
        assert time.monotonic() - start < 15
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 700 - BACKLOG
        assert server.stop() == 0
    finally:
        for each in sockets:
            each.close()
