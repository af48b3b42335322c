"""Links and cookies that let a browser in, and those that do not."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from live_server import REPOSITORY, Server

from wandb_tl.local.access import Session
from wandb_tl.local.addresses import USUAL_PORT


class Visitor:
    """A browser as far as cookies and redirects go."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.jar = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def visit(self, address: str, form: dict[str, str] | None = None, **headers: str) -> tuple[int, str, str]:
        """(status, address in the end, text)."""
        url = address if address.startswith("http") else self.server.url + address
        request = urllib.request.Request(url, urlencode(form).encode() if form else None, headers)
        try:
            with self.opener.open(request, timeout=100) as answer:
                return answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.url, error.read().decode()


def link_of(server: Server, *page: str) -> str:
    """What `wandb_tl.local open` prints."""
    command = [sys.executable, "-m", "wandb_tl.local", "open", "--root", str(server.root), *page]
    env = {name: value for name, value in server.env.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    shown = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True)
    return shown.stdout.strip()


def test_pages_ask_for_the_key_and_the_link_lets_in(server: Server) -> None:
    visitor = Visitor(server)
    status, _, text = visitor.visit("/")
    assert status == 401 and "asks for its key" in text and server.key not in text
    link = link_of(server, f"{server.url}/authorize?ref=models")
    assert server.key not in link
    status, url, text = visitor.visit(link)
    assert status == 200 and url == f"{server.url}/authorize" and server.key not in text
    assert visitor.visit("/")[0] == 200
    [cookie] = visitor.jar
    assert cookie.name == f"wandb_tl_{server.port}" and server.key not in cookie.value
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "lax"


def test_the_key_can_be_typed(server: Server) -> None:
    visitor = Visitor(server)
    status, _, text = visitor.visit("/login", {"key": "x" * 40, "next": "/local"})
    assert status == 401 and "not the key" in text and not list(visitor.jar)
    # A page elsewhere cannot log its reader in here.
    status, _, _ = visitor.visit("/login", {"key": server.key, "next": "/"}, Origin="http://evil.example")
    assert status == 401 and not list(visitor.jar)
    status, _, text = visitor.visit("/login", {"key": server.key, "next": "/", "more": "x" * 70_000})
    assert status == 413 and "more than 64 KiB" in text and not list(visitor.jar)
    status, url, _ = visitor.visit("/login", {"key": server.key, "next": "/authorize"}, Origin=server.url)
    assert status == 200 and url == f"{server.url}/authorize"


def test_pages_change_when_records_do_and_only_own_forms_are_heard(server: Server) -> None:
    visitor = Visitor(server)
    visitor.visit(link_of(server))
    document = """mutation ($config: String!) {
        upsertSweep(input: {projectName: "p", config: $config}) { sweep { name } } }"""
    made = server.query(document, config="{method: grid, parameters: {a: {values: [1]}}}")
    page = f"/local/p/sweeps/{made['upsertSweep']['sweep']['name']}"
    with visitor.opener.open(server.url + page) as answer:
        tag = answer.headers["ETag"]
    assert visitor.visit(page, **{"If-None-Match": tag})[0] in (200, 304)
    token = re.search(r'name="token" value="(\w+)"', visitor.visit(page)[2])[1]
    form = {"state": "PAUSED", "token": token}
    status, _, _ = visitor.visit(page, form, Origin="http://evil.example")
    assert status == 401 and ">pending<" in visitor.visit(page)[2]
    for wrong in ({}, {"token": ""}, {"token": "é"}, {"token": Session("y" * 64).form_token}):
        status, _, text = visitor.visit(page, {"state": "PAUSED"} | wrong, Origin=server.url)
        assert status == 403 and "reload the page" in text and ">pending<" in visitor.visit(page)[2]
    assert visitor.visit(page, form, Origin=server.url)[0] == 200
    status, _, text = visitor.visit(page, **{"If-None-Match": tag})
    assert status == 200 and ">paused<" in text
    status, _, text = visitor.visit(page, {"state": "ASLEEP", "token": token}, Origin=server.url)
    assert status == 400 and "cannot be ASLEEP" in text


def test_forged_stale_and_foreign_tokens_are_refused(server: Server) -> None:
    session, other = Session(server.key), Session("y" * 64)
    token = session.token("link", 60)
    expiry, _, signature = token.partition(".")
    assert session.accepts("link", token)
    for wrong in (
        session.token("link", -1),
        session.token("cookie", 60),
        other.token("link", 60),
        f"{int(expiry) + 1}.{signature}",
        expiry,
        "",
        "é.é",
    ):
        assert not session.accepts("link", wrong)
        visitor = Visitor(server)
        status, _, text = visitor.visit("/login?" + urlencode({"token": wrong, "next": "/"}))
        assert status == 401 and "older than a day" in text and not list(visitor.jar)


@pytest.mark.parametrize("elsewhere", ["//evil.example/", "/\\evil.example", "https://evil.example/", ""])
def test_a_link_leads_nowhere_else(server: Server, elsewhere: str) -> None:
    token = Session(server.key).token("link", 60)
    _, url, _ = Visitor(server).visit("/login?" + urlencode({"token": token, "next": elsewhere}))
    assert url == f"{server.url}/"


@pytest.mark.parametrize("port", [["--port", "0"], []])
def test_open_serves_where_nothing_does(tmp_path: Path, port: list[str]) -> None:
    """Without --port even if another program listens on the usual port."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # If it is taken already, that is as good.
        with contextlib.suppress(OSError):
            other.bind(("127.0.0.1", USUAL_PORT))
            other.listen()
        opens(tmp_path, port)


def opens(folder: Path, port: list[str]) -> None:
    command = [sys.executable, "-m", "wandb_tl.local", "open", "local/p", "--root", str(folder), *port]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        link = process.stdout.readline().strip()
        assert parse_qs(urlsplit(link).query)["next"] == ["/local/p"]
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(link), timeout=100)
        # Without cookies the link leads to the page that asks for the key.
        assert error.value.code == 401 and re.search(r"/local/p$", error.value.url)
    finally:
        process.terminate()
        assert process.wait(timeout=100) == 0
        process.stdout.close()
