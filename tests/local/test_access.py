"""Links and cookies that let a browser in, and those that do not."""

from __future__ import annotations

import contextlib
import html
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from live_server import REPOSITORY, Server

from wandb_tl.local.access import COOKIE_SECONDS, LINK_SECONDS, Session
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
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "strict"
    # The link is spent, and a browser that is logged in still gets to its page.
    assert visitor.visit(link)[:2] == (200, f"{server.url}/authorize")
    status, _, text = Visitor(server).visit(link)
    assert status == 401 and "This link has been used" in text


def test_the_key_can_be_typed(server: Server) -> None:
    visitor = Visitor(server)
    status, _, text = visitor.visit("/login", {"key": "x" * 40, "next": "/local"})
    assert status == 401 and "not the key" in text and not list(visitor.jar)
    # A page elsewhere cannot log its reader in here.
    status, _, _ = visitor.visit("/login", {"key": server.key, "next": "/"}, Origin="http://evil.example")
    assert status == 403 and not list(visitor.jar)
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
    assert status == 403 and ">pending<" in visitor.visit(page)[2]
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
    token = session.token("link")
    milliseconds, _, rest = token.partition("-")
    for wrong in (
        session.token("link", issued=time.time() - LINK_SECONDS - 1),
        # From before the start of this server, which cannot know whether it was used.
        session.token("link", issued=(server.root / "server.json").stat().st_mtime - 60),
        session.token(f"cookie 127.0.0.1:{server.port}"),
        other.token("link"),
        f"{int(milliseconds) + 1}-{rest}",
        milliseconds,
        "",
        "é-é",
    ):
        visitor = Visitor(server)
        status, _, text = visitor.visit("/login?" + urlencode({"token": wrong, "next": "/"}))
        assert status == 401 and "older than ten minutes" in text and not list(visitor.jar), wrong
    assert Visitor(server).visit("/login?" + urlencode({"token": token, "next": "/"}))[0] == 200


def cookie_of(visitor: Visitor) -> str:
    [cookie] = visitor.jar
    return f"{cookie.name}={cookie.value}"


def test_a_login_ends_with_a_logout_and_after_a_day(server: Server) -> None:
    visitor, other = Visitor(server), Visitor(server)
    for browser in (visitor, other):
        assert browser.visit(Session(server.key).link(server.url))[0] == 200
    for age, expected in ((COOKIE_SECONDS - 60, 200), (COOKIE_SECONDS + 1, 401)):
        cookie = Session(server.key).token(
            f"cookie 127.0.0.1:{server.port}", str(os.geteuid()), time.time() - age
        )
        assert Visitor(server).visit("/", Cookie=f"wandb_tl_{server.port}={cookie}")[0] == expected
    copies = [cookie_of(visitor), cookie_of(other)]
    assert [Visitor(server).visit("/", Cookie=copy)[0] for copy in copies] == [200, 200]
    assert visitor.visit("/logout", {"token": "forged"})[0] == 403
    status, _, text = visitor.visit("/logout", {"token": Session(server.key).form_token})
    assert status == 401 and "logged out" in text and not list(visitor.jar)
    assert [Visitor(server).visit("/", Cookie=copy)[0] for copy in copies] == [401, 401]


# What another user of this machine does with a cookie that was sent to a server of theirs.
STOLEN = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Cookie": sys.argv[2]})).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root to be another user")
def test_a_cookie_is_of_no_use_to_another_user_of_the_machine(server: Server) -> None:
    visitor = Visitor(server)
    visitor.visit(Session(server.key).link(server.url))
    for user, expected in ((os.geteuid(), "200\n"), (65534, "401\n")):
        command = ["setpriv", f"--reuid={user}", "--clear-groups", "/usr/bin/env", "python3", "-c", STOLEN]
        said = subprocess.run([*command, server.url, cookie_of(visitor)], capture_output=True, text=True)
        assert said.stdout == expected, said.stderr
    # Nor at another name of this server, nor with another port: a forwarded one has cookies of its own.
    assert (
        Visitor(server).visit("/", Cookie=cookie_of(visitor), Host=f"127.0.0.1:{server.port + 1}")[0] == 401
    )


def test_hosts_and_origins_are_checked(server: Server) -> None:
    visitor = Visitor(server)
    for name, expected in (
        (f"evil.example:{server.port}", 421),
        ("[", 400),
        ("a/b", 400),
        ("", 400),
        # Forwarded ports, and other machines.
        ("localhost:9999", 401),
        ("wandb.localhost:80", 401),
        ("10.1.2.3", 401),
        ("[::1]:1", 401),
        (f"{socket.gethostname()}:8080", 401),
    ):
        status, _, text = visitor.visit("/", Host=name)
        assert status == expected and server.key not in text, name
        assert (expected == 401) == ("asks for its key" in text)
        assert 'name="token"' not in text
    assert visitor.visit("/", Host="hub.example", **{"X-Forwarded-Prefix": "/proxy/1"})[0] == 401
    # A link leads in by any name.
    link = Session(server.key).link(server.url, "/authorize")
    request = urllib.request.Request(link, headers={"Host": "hub.example"})
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)
    # The redirect leads to a page by that name; this client asks it without the cookie.
    assert error.value.code == 421
    visitor.visit(Session(server.key).link(server.url))
    form = {"token": Session(server.key).form_token}
    for origin in ("http://[", "null", "http://localhost:1", f"http://127.0.0.1:{server.port + 1}"):
        assert visitor.visit("/logout", form, Origin=origin)[0] == 403
        assert visitor.visit("/", Origin=origin)[0] == 200
    # A page on another port of this host: the browser sends it the cookie, and says so.
    asked = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert visitor.visit("/", **asked)[0] == 401
    asked |= {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert visitor.visit("/", **asked)[0] == 200
    assert visitor.visit("/", **asked | {"Sec-Fetch-Dest": "iframe"})[0] == 401


def test_two_slashes_lead_to_no_other_host(server: Server) -> None:
    status, _, text = Visitor(server).visit("//evil.example/x")
    assert status == 401 and 'name="next" value="/evil.example/x"' in text
    assert server.request("//graphql", {"query": "{ viewer { entity } }"})[0] == 200


@pytest.mark.parametrize("elsewhere", ["//evil.example/", "/\\evil.example", "https://evil.example/", ""])
def test_a_link_leads_nowhere_else(server: Server, elsewhere: str) -> None:
    token = Session(server.key).token("link")
    _, url, _ = Visitor(server).visit("/login?" + urlencode({"token": token, "next": elsewhere}))
    assert url == f"{server.url}/"


def test_open_opens_the_browser_beside_a_server(server: Server, tmp_path: Path) -> None:
    """By a file: all users of the machine can see the browser's command line."""
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nsleep 0.5\nprintf %s "$1" > {seen}\n')
    browser.chmod(0o700)
    command = [sys.executable, "-m", "wandb_tl.local", "open", "local/p", "--root", str(server.root)]
    env = server.env | {"DISPLAY": ":9", "BROWSER": f"{browser} %s"}
    shown = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True)
    file = Path(urlsplit(seen.read_text()).path)
    assert file.parent == server.root.resolve() and file.stat().st_mode & 0o077 == 0
    link = html.unescape(re.search(r"url=([^\"]*)", file.read_text())[1])
    assert link != shown.stdout.strip() and Visitor(server).visit(link)[1] == f"{server.url}/local/p"


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
