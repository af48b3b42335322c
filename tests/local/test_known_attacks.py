"""Attacks that were published for other tracking servers and the libraries below them, tried on this one.

Those that belong to one module are in its tests; docs/security.md lists all.
"""

from __future__ import annotations

import base64
import re
import socket
from urllib.parse import quote, urlencode, urljoin

import pytest
from live_server import Server
from run_writer import write_run

from wandb_tl.local.access import Session

FORM = "Content-Type: application/x-www-form-urlencoded"
QUERY = b'{"query": "{ viewer { entity } }"}'


def send(server: Server, request: bytes) -> bytes:
    """All that the server answers until it closes the connection, which it must do."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=100) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(2**16):
            answer += part
    return answer


def ask(server: Server, method: str, path: str, *headers: str, body: bytes = b"") -> tuple[int, bytes, bytes]:
    """(status, head, body) of the answer to a request that nothing on the way has tidied up."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", f"Content-Length: {len(body)}", *headers]
    if not any(line.startswith("Host:") for line in headers):
        lines.append(f"Host: 127.0.0.1:{server.port}")
    head, _, content = send(server, "\r\n".join([*lines, "", ""]).encode() + body).partition(b"\r\n\r\n")
    return int(head.split()[1]), head, content


def authorization(server: Server) -> str:
    return f"Authorization: Basic {base64.b64encode(f'api:{server.key}'.encode()).decode()}"


def login(server: Server, goal: str = "/") -> tuple[str, str]:
    """The header with the cookie of a browser that a link has logged in, and where that leads it."""
    query = urlencode({"token": Session(server.key).token("link"), "next": goal})
    _, head, _ = ask(server, "GET", f"/login?{query}")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return f"Cookie: {fields['set-cookie'].partition(';')[0]}", fields["location"]


ROUTES = [
    *[(method, "/") for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")],
    *[(method, "/graphql") for method in ("GET", "POST", "PUT")],
    ("POST", "/graphql/"),
    ("POST", "/files/local/p/r/file_stream"),
    ("GET", "/artifacts/local/00"),
    ("GET", "/artifactsV2/default/local/p/c/id/00/f"),
    ("PUT", "/-/answer/local/p/s"),
    *[(method, "/blobs/0123") for method in ("GET", "HEAD", "PUT", "POST", "DELETE")],
    ("GET", "/blobs/..%2f..%2fkey"),
    ("GET", "/authorize"),
    ("POST", "/logout"),
    ("GET", "/local/p/runs/r?curves=a"),
    ("GET", "/local/p?download=csv"),
    ("POST", "/local/p/runs/r"),
    ("POST", "/local/p/sweeps/s"),
    *[("GET", path) for path in ("/metrics", "/docs", "/openapi.json", "/.git/config", "/key")],
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_answers_strangers(server: Server, method: str, path: str) -> None:
    """MLflow and ClearML forgot the check on single routes."""
    status, head, content = ask(server, method, path, FORM, body=b"state=PAUSED")
    assert status in (401, 403, 405) and server.key.encode() not in head + content


@pytest.mark.parametrize("path", [path for method, path in ROUTES if method == "POST"])
def test_a_browser_that_is_logged_in_changes_nothing_without_the_forms_token(
    server: Server, path: str
) -> None:
    cookie, _ = login(server)
    assert ask(server, "POST", path, cookie, FORM, body=b"state=PAUSED")[0] in (401, 403)
    # A form of another site can have this type, which browsers send without asking.
    assert ask(server, "POST", path, cookie, "Content-Type: text/plain", body=b"{}")[0] in (401, 404)


@pytest.mark.parametrize("path", ["/local/p/sweeps/s", "/blobs/p/sweeps/s", "/blobs/s"])
@pytest.mark.parametrize("origin", ["null", "http://evil.example", ""])
def test_no_address_takes_forms_of_other_origins(server: Server, path: str, origin: str) -> None:
    cookie, _ = login(server)
    form = f"token={Session(server.key).form_token}".encode()
    assert ask(server, "POST", path, cookie, FORM, f"Origin: {origin}", body=form)[0] == 403
    assert ask(server, "POST", path, cookie, FORM, body=form)[0] == 404


@pytest.mark.parametrize(
    "name",
    [
        *("localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example", "localhost.", "0x7f.1"),
        *("127.0.0.1@evil.example", "localhost,evil.example", "localhost/", "localhost?", "localhost#"),
    ],
)
def test_names_that_only_resemble_those_of_the_server(server: Server, name: str) -> None:
    status, _, content = ask(server, "GET", "/", f"Host: {name}")
    assert status in (400, 421) and b"asks for its key" not in content


@pytest.mark.parametrize(
    "goal",
    [
        *("/\t/evil.example", "/\n/evil.example", "\t//evil.example", "/..//evil.example"),
        *("/.//evil.example", "/./\\evil.example", "/%2e%2e//evil.example", "/@evil.example"),
        *("javascript:alert(1)", "/%5cevil.example", "/a\r\nSet-Cookie: x=y", "/\x00/evil.example"),
    ],
)
def test_no_login_leads_to_another_host(server: Server, goal: str) -> None:
    _, location = login(server, goal)
    assert location.startswith("./") and location.isascii() and location.isprintable()
    # As browsers read it: without tabs, and with slashes in the place of backslashes.
    there = urljoin(f"{server.url}/login", re.sub(r"[\t\n]", "", location).replace("\\", "/"))
    assert there.startswith(f"{server.url}/")


@pytest.mark.parametrize(
    "path",
    [
        *("../headers.py", "..%2fheaders.py", "%2e%2e/headers.py", "..%5cheaders.py", "....//headers.py"),
        *(
            "%252e%252e/headers.py",
            "..;/headers.py",
            "%c0%ae%c0%ae/headers.py",
            "/etc/passwd",
            "%2fetc%2fpasswd",
        ),
        *("%00", "style.css%00", "C:%5cwindows", "%5c%5cevil.example%5cshare", "a" * 5000, "%ff", "..", "."),
    ],
)
def test_scripts_of_pages_are_sent_from_their_folder_alone(server: Server, path: str) -> None:
    assert ask(server, "GET", f"/-/static/{path}")[0] == 404


SMUGGLED = b"GET /authorize HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}" + SMUGGLED,
        b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
        b"Host: evil.example\r\n\r\n" + SMUGGLED,
        b"X: a\rY: b\r\n\r\n" + SMUGGLED,
    ],
)
def test_no_second_request_hides_in_a_first_one(server: Server, rest: bytes) -> None:
    head = f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n{authorization(server)}\r\n"
    answer = send(server, head.encode() + rest)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1


def test_no_connection_becomes_a_websocket(server: Server) -> None:
    upgrade = (
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    request = "\r\n".join(
        ["GET / HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Connection: Upgrade, close", *upgrade, "", ""]
    )
    assert send(server, request.encode()).startswith(b"HTTP/1.1 401 ")


def test_many_ranges_cost_no_more_than_the_file(server: Server) -> None:
    write_run(server, "p", "ranges", {}, [{"a": 1}])
    document = """mutation ($input: CreateRunFilesInput!) { createRunFiles(input: $input) {
        files { uploadUrl } } }"""
    made = server.query(document, input={"projectName": "p", "runName": "ranges", "files": ["f.txt"]})
    address = made["createRunFiles"]["files"][0]["uploadUrl"]
    assert server.request(address, b"x" * 10_000, key=None, method="PUT")[0] == 200
    path = f"/blobs/{address.rpartition('/')[2].partition('?')[0]}"
    for ranges in (",".join(["0-"] * 99), ",".join(["0-"] * 5000), ",".join(f"{i}-{i}" for i in range(5000))):
        _, head, content = ask(server, "GET", path, authorization(server), f"Range: bytes={ranges}")
        assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206")) and len(content) == 10_000
    for ranges in ("9" * 5000 + "-", "-" + "9" * 5000, "5-2", "a-b", "--1"):
        assert ask(server, "GET", path, authorization(server), f"Range: bytes={ranges}")[0] in (400, 416)


@pytest.mark.parametrize(
    ("project", "expected"),
    # No page has an address with a line break.
    [("p\r\nX-Evil: 1", 404), ('p"; filename="x.html', 200), ("p\u2028é", 200)],
)
def test_no_name_writes_a_header(server: Server, project: str, expected: int) -> None:
    document = "mutation ($project: String!) { upsertBucket(input: {modelName: $project}) { inserted } }"
    server.query(document, project=project)
    path = f"/local/{quote(project, safe='')}?download=csv"
    status, head, _ = ask(server, "GET", path, authorization(server))
    assert status == expected and b"\nX-Evil" not in head
    name = f"content-disposition: attachment; filename*=UTF-8''{quote(project, safe='')}.csv"
    assert (name.encode() in head.split(b"\r\n")) == (status == 200)
