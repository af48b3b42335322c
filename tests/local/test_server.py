"""The server as a process: its command line, its key, its addresses, and what survives its death."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from live_server import REPOSITORY, Server, wait_for

from wandb_tl.local.artifacts.signed_addresses import VALID_SECONDS, AddressSigner
from wandb_tl.local.pages.headers import FILE_POLICY

VIEWER = {"query": "{ viewer { entity username } }"}


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "wandb_tl.local", *arguments]
    return subprocess.run(
        line, cwd=REPOSITORY, env=os.environ | env, capture_output=True, text=True, timeout=120
    )


def make_run(server: Server, name: str, **fields: str) -> str:
    """Create a run as wandb-core does; returns its storage id."""
    document = """mutation ($name: String, $project: String) { upsertBucket(input:
        {name: $name, modelName: $project, host: "here"}) { bucket { id } } }"""
    return server.query(document, name=name, project=fields.get("project", "p"))["upsertBucket"]["bucket"][
        "id"
    ]


def upload_address(server: Server, run: str, name: str) -> str:
    document = """mutation ($run: String!, $file: String!) { createRunFiles(input:
        {projectName: "p", runName: $run, files: [$file]}) { files { name uploadUrl } } }"""
    [file] = server.query(document, run=run, file=name)["createRunFiles"]["files"]
    assert file["name"] == name
    return file["uploadUrl"]


def files_of(server: Server, run: str) -> list[dict]:
    document = """query ($run: String!) { project(name: "p", entityName: "local") { run(name: $run) {
        files { edges { node { id name directUrl sizeBytes md5 } } } } } }"""
    return [edge["node"] for edge in server.query(document, run=run)["project"]["run"]["files"]["edges"]]


@pytest.mark.parametrize("key", [None, "a" * 40, "", "é" * 40])
def test_everything_asks_for_the_key(server: Server, key: str | None) -> None:
    expected = 200 if key == "" else 401
    for path in ("/graphql", "/files/local/p/none/file_stream"):
        status, answer = server.request(path, VIEWER, key=key)
        assert status == (404 if expected == 200 and path != "/graphql" else expected)
        assert status == 200 or answer["errors"][0]["message"]
    status, _ = server.request("/anything/else", key=key)
    assert status == (404 if expected == 200 else 401)


def test_telemetry_is_absent(server: Server) -> None:
    assert server.request("/sdk/otel/v1/metrics", b"", key=None)[0] == 404


def test_wrong_key_ends_the_client_with_one_clear_error(server: Server) -> None:
    process = server.spawn("import wandb; wandb.init(project='p')", WANDB_API_KEY="b" * 40)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert err.endswith("CommError: wrong or missing API key\n")


def test_malformed_requests_are_refused_in_one_line(server: Server) -> None:
    for body in (b"not json", b"[1]", b"{}", b'{"query": 7}'):
        status, answer = server.request("/graphql", body)
        assert status == 400 and "\n" not in answer["errors"][0]["message"]
    status, answer = server.request("/graphql", {"query": "{ viewer { nothing } }"})
    assert status == 200 and "nothing" in answer["errors"][0]["message"]
    status, _ = server.request("/graphql", {"query": "mutation { stopRun(input: {id: 7}) { success } }"})
    assert status == 200


def test_blob_addresses_are_signed_for_one_method(server: Server) -> None:
    make_run(server, "blob")
    address = upload_address(server, "blob", "x.txt")
    bare = address.partition("?")[0]
    signer, blob_id = AddressSigner(server.key), bare.rpartition("/")[2]
    forged = f"{address[:-1]}{'0' if address[-1] != '0' else '1'}"
    old = signer.url(server.url, "PUT", blob_id, time.time() - VALID_SECONDS - 1)
    later = address.replace("at=", "at=1")
    for wrong in (bare, forged, f"{bare}?signature=", f"{bare}?at=x&signature=%C3%BC", old, later):
        assert server.request(wrong, b"evil", key=None, method="PUT")[0] == 403
        assert server.request(wrong, key=None)[0] == 403
    assert server.request(address, key=None)[0] == 403  # Signed for PUT only.
    assert files_of(server, "blob") == []
    assert server.request(address, b"good", key=None, method="PUT")[0] == 200
    [file] = files_of(server, "blob")
    assert file["sizeBytes"] == 4 and server.request(file["directUrl"], key=None) == (200, b"good")
    assert server.request(file["directUrl"], b"evil", key=None, method="PUT")[0] == 403
    # It is spent, but for the client that has not heard the answer.
    assert server.request(address, b"evil", key=None, method="PUT")[0] == 400
    assert server.request(address, b"good", key=None, method="PUT")[0] == 200
    assert signer.url("", "GET", blob_id, 7200) == signer.url("", "GET", blob_id, 10799)
    assert server.request(bare)[1] == b"good"  # The key opens everything.


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/../../../x", "..", "ünï/文件.txt", "a b?c#d"])
def test_no_name_leaves_the_root(server: Server, name: str) -> None:
    before = {path for path in server.folder.rglob("*") if server.root not in path.parents}
    make_run(server, f"run {name}")
    address = upload_address(server, f"run {name}", name)
    assert server.request(address, name.encode(), key=None, method="PUT")[0] == 200
    [file] = files_of(server, f"run {name}")
    assert server.request(file["directUrl"], key=None)[1] == name.encode()
    blobs = server.root / "blobs"
    assert all(len(path.name) in (2, 32) for path in blobs.rglob("*") if path.name != "incoming")
    assert {path for path in server.folder.rglob("*") if server.root not in path.parents} == before
    assert not (server.root / "x").exists()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("data:text/JavaScript,x", "application/octet-stream"),
        ("x.mjs", "application/octet-stream"),
        ("x.js", "text/plain; charset=utf-8"),
        ("x.PNG", "image/png"),
        ("x.css", "application/octet-stream"),
    ],
)
def test_no_name_makes_a_file_a_script(server: Server, name: str, kind: str) -> None:
    make_run(server, "kinds")
    server.request(upload_address(server, "kinds", name), b"x", key=None, method="PUT")
    [address] = [file["directUrl"] for file in files_of(server, "kinds") if file["name"] == name]
    with requests.get(address) as answer:
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Content-Security-Policy"] == FILE_POLICY
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_upload_replaces_a_file_and_deleting_it_frees_the_disk(server: Server) -> None:
    make_run(server, "again")
    for content in (b"one", b"three"):
        assert server.request(upload_address(server, "again", "f"), content, key=None, method="PUT")[0] == 200
    [file] = files_of(server, "again")
    assert server.request(file["directUrl"], key=None)[1] == b"three"
    server.query("mutation ($id: ID!) { deleteFiles(input: {files: [$id]}) { success } }", id=file["id"])
    assert files_of(server, "again") == []
    assert server.request(file["directUrl"], key=None)[0] == 404
    blob_id = file["directUrl"].rpartition("/")[2].partition("?")[0]
    assert list((server.root / "blobs").rglob(blob_id)) == []


def test_twenty_megabytes_and_thirty_thousand_rows_in_one_body(server: Server) -> None:
    make_run(server, "long")
    lines = [json.dumps({"_step": step, "loss": 1 / (step + 1), "pad": "x" * 600}) for step in range(30_000)]
    body = {"files": {"wandb-history.jsonl": {"offset": 0, "content": lines}}}
    start = time.monotonic()
    assert server.request("/files/local/p/long/file_stream", body) == (200, {})
    document = """{ project(name: "p", entityName: "local") { run(name: "long") { historyLineCount
        historyKeys history(minStep: 29000, maxStep: 30000, samples: 1000) } } }"""
    run = server.query(document)["project"]["run"]
    assert run["historyLineCount"] == 30_000 and run["historyKeys"]["lastStep"] == 29_999
    assert run["history"] == lines[29_000:]
    assert time.monotonic() - start < 60


def test_second_server_on_a_root_is_refused(server: Server) -> None:
    second = command("serve", "--port", "0", "--root", str(server.root))
    assert second.returncode == 3
    assert second.stderr == f"error: another server serves {server.root.resolve()} at {server.url}\n"


def test_port_in_use_and_unusable_root_say_so_in_one_line(server: Server, tmp_path: Path) -> None:
    taken = command("serve", "--port", str(server.port), "--root", str(tmp_path))
    assert taken.returncode == 1 and taken.stderr.count("\n") == 1 and "cannot listen" in taken.stderr
    (tmp_path / "file").touch()
    unusable = command("serve", "--root", str(tmp_path / "file" / "root"))
    assert unusable.returncode == 1 and unusable.stderr.startswith("error: cannot create the folder")
    (tmp_path / "key").write_text("short\n")
    bad_key = command("env", "--root", str(tmp_path), "--port", "9999")
    assert bad_key.returncode == 1 and "fewer than 40" in bad_key.stderr


@pytest.mark.slow
def test_env_points_at_the_live_server_and_keeps_proxies_off(server: Server, tmp_path: Path) -> None:
    live = command("env", "--json", "--root", str(server.root), NO_PROXY="example.org")
    variables = json.loads(live.stdout)
    assert variables["WANDB_BASE_URL"] == server.url and variables["WANDB_API_KEY"] == server.key
    assert set(variables["NO_PROXY"].split(",")) >= {"127.0.0.1", "example.org"}
    fresh = command("env", "--root", str(tmp_path), "--port", "9999")
    assert "export WANDB_BASE_URL=http://127.0.0.1:9999\n" in fresh.stdout
    key = tmp_path / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and key.read_text().strip() in fresh.stdout
    nobody = command("env", "--root", str(tmp_path / "mistyped"))
    assert nobody.returncode == 1 and not nobody.stdout and not (tmp_path / "mistyped").exists()
    assert nobody.stderr.startswith("error: no server serves") and nobody.stderr.count("\n") == 1


def test_help_names_every_option() -> None:
    shown = command("serve", "--help")
    assert shown.returncode == 0 and all(word in shown.stdout for word in ("--host", "--port", "--root"))
    assert command().returncode == 2


def test_stops_cleanly_and_takes_its_announcement_with_it(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for number in (signal.SIGINT, signal.SIGTERM):
        server.start()
        assert json.loads((server.root / "server.json").read_text())["url"] == server.url
        assert server.stop(number) == 0
        assert not (server.root / "server.json").exists()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", server.port)) != 0


CLIENT = """
import json, pathlib, sys, time, wandb
run = wandb.init(project="killed", id="survivor")
for step in range(40):
    run.log({"step": step})
    if step == 10:
        time.sleep(2)
        print("ready", flush=True)
        while not pathlib.Path("go on").exists():
            time.sleep(0.1)
run.save("go on")
run.finish()
"""

SURVIVOR = """{ project(name: "killed", entityName: "local") { run(name: "survivor") { state
    historyLineCount fileCount history(minStep: 0, maxStep: 100) } } }"""


@pytest.mark.slow
def test_a_signal_right_after_the_start_ends_the_server(tmp_path: Path) -> None:
    """It comes before uvicorn has a handler for it."""
    call = "serve(Path('.'), Listening(port=0), lambda url: signal.raise_signal(signal.SIGTERM))"
    program = (
        f"import signal; from pathlib import Path; from wandb_tl.local.server import Listening, serve; {call}"
    )
    command, path = [sys.executable, "-c", program], {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | path, timeout=60, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"") and not (tmp_path / "url").exists()


@pytest.mark.slow
def test_a_signal_ends_a_server_that_is_at_work(tmp_path: Path) -> None:
    """A transaction that takes ten minutes is under way."""
    program = """
import os, signal, threading, time
from pathlib import Path
from wandb_tl.local import server, watch

watch.WATCH_SECONDS = 0
watch.give_up_silent = lambda db: time.sleep(600)
soon = threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM))
server.serve(Path("."), server.Listening(port=0), lambda url: soon.start())
"""
    command, path = [sys.executable, "-c", program], {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | path, timeout=30, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"") and not (tmp_path / "server.json").exists()


@pytest.mark.slow
def test_a_server_whose_starter_was_killed_ends_without_a_word(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wandb_tl.local", "serve", "--json", "--port", "0", "--while-used"]
    server = subprocess.Popen(
        [*command, "--root", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    )
    server.stdout.close()
    assert server.wait(60) == 0 and server.stderr.read() == b""
    server.stderr.close()


def test_killed_server_loses_nothing_and_its_clients_go_on(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    client = server.spawn(CLIENT)
    assert client.stdout.readline() == "ready\n"
    wait_for(lambda: server.query(SURVIVOR)["project"]["run"]["historyLineCount"] == 11)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    (server.folder / "client" / "go on").write_text("now")
    time.sleep(1.5)  # The client meets a closed port meanwhile.
    server.start()
    _, err = client.communicate(timeout=240)
    assert client.returncode == 0, err
    run = server.query(SURVIVOR)["project"]["run"]
    assert run["state"] == "finished" and run["fileCount"] >= 4
    assert [json.loads(line)["step"] for line in run["history"]] == list(range(40))
    assert server.stop() == 0


def test_answers_are_sent_at_once(server: Server) -> None:
    """Over one connection, as clients ask. A kernel that waits for more to send would take 40 ms."""
    with requests.Session() as session:
        session.auth = ("api", server.key)

        def seconds() -> float:
            start = time.perf_counter()
            answer = session.post(f"{server.url}/graphql", json={"query": "{ viewer { entity } }"})
            assert answer.json() == {"data": {"viewer": {"entity": "local"}}}
            return time.perf_counter() - start

        seconds()
        # On a busy machine most answers may come late, but with such a kernel all do.
        assert any(seconds() < 0.03 for _ in range(200))
