"""What is said of another server, and what is not."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hostile_server import HostileServer, Reply, hostile_server

from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push import answers
from wandb_tl.local.push.remote import KEY_VARIABLE, MOST_BYTES, Download, Remote
from wandb_tl.local.push.run_push import RunPush


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "k")


@pytest.fixture
def storage() -> Iterator[str]:
    """The place of one that takes one connection and speaks no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.fixture
def hostile() -> Iterator[HostileServer]:
    with hostile_server() as server:
        yield server


def refusal(remote: Remote, kind: type = answers.SweepFound) -> str:
    with pytest.raises(RemoteError) as error:
        remote.graphql(kind, "query { viewer { entity } }")
    return str(error.value)


def test_a_redirect_gets_no_key(
    hostile: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with hostile_server() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        hostile.answer = lambda *_: Reply(status=307, headers={"Location": elsewhere})
        remote = Remote(hostile.url)
        assert "redirects elsewhere" in refusal(remote)
        with pytest.raises(RemoteError, match="redirects elsewhere"):
            remote.put([(f"{hostile.url}/upload", [], b"x")])
        assert not other.asked


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply({"errors": [{"message": "\x1b]0;yours\x07" + "a" * 10_000}]}), "refuses: ]0;yoursaaa"),
        (Reply([]), "refuses"),
        (Reply({}), "data is not an object"),
        (Reply({"data": {"project": {}}}), "data.project has no sweep"),
        (Reply({"data": {"project": {"sweep": {"id": 1, "name": "n"}}}}), "data.project.sweep.id is not"),
        (
            Reply({"data": {"project": {"sweep": {"id": "\ud800", "name": "n"}}}}),
            "data.project.sweep.id is not",
        ),
        (Reply(b"[" * 100_000), "not JSON"),
        (
            Reply(gzip.compress(bytes(2 * MOST_BYTES)), headers={"Content-Encoding": "gzip"}),
            "more than 32 MiB",
        ),
        (Reply(status=404, content=b"[" * 100_000), "there is nothing at this address"),
        (Reply(status=500, headers={"Retry-After": "\xb2"}), "cannot reach"),
    ],
)
def test_an_odd_answer_is_one_line(hostile: HostileServer, reply: Reply, says: str) -> None:
    hostile.answer = lambda *_: reply
    remote = Remote(hostile.url)
    remote.waits = (0,)
    message = refusal(remote)
    assert says in message and message.isprintable() and len(message) <= 500


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1:1/x", "http://localhost/x", "http://LOCALHOST/x", "http://loc%61lhost/x"),
        *("http://127.1/x", "http://2130706433/x", "http://0/x", "http://0.0.0.0/x", "http://[::]/x"),
        *("http://[::1]/x", "http://[::ffff:127.0.0.1]/x", "http://127.0.0.1\\@192.0.2.1/x"),
        # Where clouds give away the keys of a machine.
        "http://169.254.169.254/latest/meta-data",
        *("http://[", "http://169.254.0.1@[/", "http:///x"),
    ],
)
def test_uploads_go_to_storage_and_not_into_this_machine(address: str) -> None:
    remote = Remote("https://192.0.2.1")
    with pytest.raises(RemoteError, match="names an address"):
        remote.put([(address, None, b"x")])
    with pytest.raises(RemoteError, match="names an address"):
        remote.get(Download(address, Path("never written")))


def test_a_redirect_to_what_is_no_address_is_one_line(hostile: HostileServer, tmp_path: Path) -> None:
    hostile.answer = lambda *_: Reply(status=302, headers={"Location": "http://["})
    remote = Remote(hostile.url)
    assert "redirects elsewhere" in refusal(remote)
    with pytest.raises(RemoteError, match="cannot use"):
        remote.get(Download(f"{hostile.url}/file", tmp_path / "file"))


def test_the_body_of_a_redirect_is_not_read(
    hostile: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have any size."""
    hostile.answer = lambda *_: Reply(status=302, content=b"x", headers={"Location": "http://192.0.2.1/"})
    monkeypatch.setattr(requests.Response, "content", property(lambda _: pytest.fail("the body is read")))
    remote = Remote(hostile.url)
    remote.waits = ()
    assert "redirects elsewhere" in refusal(remote)


def test_no_part_of_a_password_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 192.0.2.1\n  login user\n  password correct horse\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(RemoteError, match=r"netrc: line \d is not valid") as error:
        Remote("https://192.0.2.1")
    assert "horse" not in str(error.value)


@pytest.mark.parametrize(
    ("size", "says"),
    [(1000, "the 1,000 bytes that were announced"), (None, "the 100,000 bytes that a file without a size")],
)
def test_a_download_ends_at_the_announced_size(
    hostile: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int | None, says: str
) -> None:
    monkeypatch.setattr("wandb_tl.local.push.remote.UNANNOUNCED_BYTES", 100_000)
    file, remote = tmp_path / "file", Remote(hostile.url)
    most = size or 100_000
    content = b"x" * (most + 1)
    for reply in (
        Reply(content),
        Reply(gzip.compress(content), headers={"Content-Encoding": "gzip"}),
    ):
        hostile.answer = lambda *_, reply=reply: reply
        with pytest.raises(RemoteError, match=says):
            remote.get(Download(f"{hostile.url}/file", file, size))
        assert file.stat().st_size <= most
    hostile.answer = lambda *_: Reply(content[1:])
    remote.get(Download(f"{hostile.url}/file", file, size))
    assert file.read_bytes() == content[1:]


@pytest.mark.parametrize(
    "page",
    [
        {"edges": [], "pageInfo": {"endCursor": "a", "hasNextPage": True}},
        {
            "edges": [{"node": {"name": "a", "md5": None}}],
            "pageInfo": {"endCursor": None, "hasNextPage": True},
        },
    ],
)
def test_files_without_an_end_are_refused(hostile: HostileServer, page: dict[str, Any]) -> None:
    hostile.data({"project": {"run": {"files": page}}})
    push = RunPush(Path(), None, Remote(hostile.url), "e", "p", True)
    with pytest.raises(RemoteError, match="does not come to an end"):
        list(push._files_there({"name": "r"}))


def test_signed_addresses_are_not_shown(storage: str) -> None:
    remote = Remote("https://127.0.0.1")
    for address in (f"https://{storage}/f?signature=secret", "ftp://127.0.0.1/f?signature=secret"):
        with pytest.raises(RemoteError) as error:
            remote.put([(address, [], b"x")])
        assert "secret" not in str(error.value) and "://127.0.0.1" in str(error.value), error.value


def test_a_key_that_goes_to_others_without_encryption_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for url in ("http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9", "https://example.org"):
        Remote(url)
    assert capsys.readouterr().err == ""
    Remote("http://example.org:9/x")
    says = "warning: the API key is sent to http://example.org:9 without encryption\n"
    assert capsys.readouterr().err == says
