"""Small file systems that become full while a server or a run writes to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import Server, wait_for
from warm_python import WarmProcess

SERVE = [sys.executable, "-m", "wandb_tl.local", "serve", "--port", "0", "--root"]
ROW = "x" * 1000
CREATE = """mutation ($name: String!) { upsertBucket(input: {name: $name, modelName: "full"}) {
    bucket { id } } }"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Write until the disk is full; returns the file."""
    file = disk / "filler"
    with file.open("wb", buffering=0) as out:
        for size in (65536, 4096, 1):
            try:
                while True:
                    out.write(b"\0" * size)
            except OSError:
                pass
    return file


def log_rows(server: Server, offset: int, count: int) -> int:
    """Send rows of a run's history; returns the status of the answer."""
    lines = [f'{{"_step": {offset + number}, "x": "{ROW}"}}' for number in range(count)]
    body = {"files": {"wandb-history.jsonl": {"offset": offset, "content": lines}}}
    return server.request("/files/local/full/one/file_stream", body)[0]


def test_a_server_whose_disk_is_full_loses_nothing_that_it_has_acknowledged(small_disk, capfd):
    server = Server(small_disk)
    server.start()
    try:
        server.query(CREATE, name="one")
        assert log_rows(server, 0, 10) == 200
        filler = fill(small_disk)
        stored = 10
        while (status := log_rows(server, stored, 50)) == 200:
            stored += 50
        refused, answer = server.request("/graphql", {"query": CREATE, "variables": {"name": "two"}})
        assert (status, refused) == (503, 503) and "full" in answer["errors"][0]["message"]
        # A client repeats the request until there is room.
        filler.unlink()
        wait_for(lambda: log_rows(server, stored, 50) == 200)
        server.query(CREATE, name="two")
        query = """query {
            project(name: "full", entityName: "local") { run(name: "one") { historyLineCount } } }"""
        assert server.query(query)["project"]["run"]["historyLineCount"] == stored + 50
    finally:
        server.stop()
    err = capfd.readouterr().err
    assert "the server's folder cannot be written: " in err and "Traceback" not in err


def test_a_server_whose_folder_is_full_or_read_only_does_not_start_and_says_why(small_disk):
    fill(small_disk)
    command = [*SERVE, str(small_disk / "root")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and "No space left on device" in done.stderr
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: cannot write to the folder ")


def test_a_run_whose_cache_is_full_trains_without_checkpoints(
    small_disk, run_environment, fashion_mnist_cache
):
    (small_disk / "FashionMNIST").symlink_to(fashion_mnist_cache / "FashionMNIST")
    fill(small_disk)
    tiny = ("--model_name=test_resnet", "--pretrained=False", "--image_size=32", "--epochs=2")
    process = WarmProcess(
        ["-m", "wandb_tl.train", *tiny, "--train_limit=64", "--test_limit=64"],
        small_disk.parent,
        run_environment | {"WANDB_TL_CACHE": str(small_disk)},
    )
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert out.count("cannot be written: ") == 2 and "Traceback" not in out + err
    assert "epoch 2/2" in out and not list(small_disk.glob("checkpoints/*"))
