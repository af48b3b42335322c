"""What is said of another server, and what is not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push.remote import KEY_VARIABLE, Remote


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
