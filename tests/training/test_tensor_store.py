"""The store on disk, with real processes where more than one matters."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import portalocker
import pytest
import torch
from torch import Tensor

from wandb_tl.training import tensor_store
from wandb_tl.training.tensor_store import ABANDONED_SECONDS, Layout, TensorStore

# Four blocks, the last of them short.
LAYOUT = Layout((14, 300), torch.float32, block_rows=4)
BLOCKS = [(0, 4), (4, 8), (8, 12), (12, 14)]
VALUES = torch.arange(14 * 300, dtype=torch.float32).view(14, 300)

# argv: the store's folder, the file that names each block as it is begun, and what to do in which block.
PROCESS = """
import os, signal, sys, time
from pathlib import Path
import torch
from wandb_tl.training.tensor_store import Layout, TensorStore

folder, log, action, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
values = torch.arange(14 * 300, dtype=torch.float32).view(14, 300)

def compute(start, stop):
    with log.open("a") as lines:
        lines.write(f"{start} {stop}\\n")
    if action == "die" and start == where:
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "hang" and start == where:
        time.sleep(20)
    if action == "share":
        time.sleep(0.1)
    return values[start:stop]

print("ready", flush=True)
sys.stdin.readline()
tensor = TensorStore(folder, 10**6).fill("key", Layout((14, 300), torch.float32, 4), {}, compute)
sys.exit(0 if torch.equal(tensor, values) else 1)
"""


class Compute:
    """Gives rows of a tensor and keeps which blocks it was asked for."""

    def __init__(self, values: Tensor = VALUES) -> None:
        self.values = values
        self.blocks: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> Tensor:
        self.blocks.append((start, stop))
        return self.values[start:stop]


@pytest.fixture
def store(tmp_path: Path) -> TensorStore:
    return TensorStore(tmp_path / "store", 10**6)


def fill(store: TensorStore, key: str = "key") -> list[tuple[int, int]]:
    """Fill an entry with VALUES and check it; returns the blocks that had to be computed."""
    compute = Compute()
    assert torch.equal(store.fill(key, LAYOUT, {}, compute), VALUES)
    assert torch.equal(store.get(key), VALUES)
    return compute.blocks


@pytest.fixture
def start_process(store: TensorStore) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a process that fills the entry "key" as soon as it is let go."""
    started = []

    def start(log: Path, action: str, where: int = 0) -> subprocess.Popen:
        command = [sys.executable, "-c", PROCESS, str(store.folder), str(log), action, str(where)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def let_go(*processes: subprocess.Popen) -> None:
    """At one moment, however long each took to start."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begun(log: Path) -> list[tuple[int, int]]:
    lines = log.read_text().splitlines() if log.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def used(store: TensorStore, **seconds_ago: float) -> None:
    """Have entries been used so long ago."""
    for key, seconds in seconds_ago.items():
        for path in (store.folder / key, *(store.folder / key).iterdir()):
            os.utime(path, (time.time() - seconds,) * 2)


def names(store: TensorStore) -> set[str]:
    return {folder.name for folder in store.folder.iterdir()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8])
def test_what_is_filled_comes_back_bit_for_bit(store, dtype):
    # Every pattern of bits: NaN with whatever payload, subnormal and infinite numbers.
    raw = torch.randint(0, 256, (14, 2, 3 * dtype.itemsize), dtype=torch.uint8)
    compute = Compute(raw.view(dtype))
    layout = Layout((14, 2, 3), dtype, block_rows=4)
    assert store.get("key") is None
    filled = store.fill("key", layout, {"model": "resnet18"}, compute)
    found = TensorStore(store.folder, 0).get("key")
    for tensor in (filled, found):
        assert tensor.dtype == dtype and tensor.shape == (14, 2, 3)
        assert torch.equal(tensor.view(torch.uint8), raw)
    assert compute.blocks == BLOCKS
    assert json.loads((store.folder / "key" / "entry.json").read_text())["about"] == {"model": "resnet18"}


def test_rows_that_lie_otherwise_in_memory_are_stored_in_their_order(store):
    values = torch.randn(14, 5, 7).transpose(1, 2)
    found = store.fill("key", Layout((14, 7, 5), torch.float32, 4), {}, Compute(values))
    assert torch.equal(found, values)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells what is mapped on Linux only")
def test_what_comes_back_is_mapped_to_be_read(store):
    fill(store)
    found = store.get("key")
    maps = Path("/proc/self/maps").read_text().splitlines()
    line = next(line for line in maps if line.endswith(f"{store.folder}/key/data"))
    assert found.data_ptr() == int(line.partition("-")[0], 16)
    assert line.split()[1] == "r--s"


def test_nothing_is_computed_for_an_entry_that_is_there(store):
    assert fill(store) == BLOCKS
    assert fill(store) == [] and fill(TensorStore(store.folder, 10**6)) == []
    assert names(store) == {"key"}


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("data", lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:]),
        ("data", lambda raw: raw[:-1] + bytes([raw[-1] ^ 128])),
        ("data", lambda raw: raw[:-1]),
        ("data", lambda raw: raw + b"\0"),
        ("data", lambda raw: b""),
        ("digests", lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
        ("digests", lambda raw: raw[:-32]),
        ("entry.json", lambda raw: raw[:-2]),
        ("entry.json", lambda raw: b""),
        ("entry.json", lambda raw: b"[]"),
        ("entry.json", lambda raw: b"\xff" + raw),
        ("entry.json", lambda raw: raw.replace(b"block_rows", b"rows")),
        ("entry.json", lambda raw: raw.replace(b"14", b"15")),
        ("entry.json", lambda raw: raw.replace(b"14", b"null")),
        ("entry.json", lambda raw: raw.replace(b"float32", b"float16")),
        ("entry.json", lambda raw: raw.replace(b"float32", b"float33")),
        ("entry.json", lambda raw: raw.replace(b"14", b"-14")),
    ],
)
def test_a_damaged_entry_is_said_to_be_so_and_computed_again(store, capsys, file, damage):
    fill(store)
    path = store.folder / "key" / file
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    assert store.get("key") is None
    assert capsys.readouterr().out == f"{store.folder / 'key'} is damaged and is computed again\n"
    assert names(store) == set()
    assert fill(store) == BLOCKS
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("file", ["data", "digests", "entry.json"])
def test_an_entry_that_has_lost_a_file_is_computed_again(store, file):
    fill(store)
    (store.folder / "key" / file).unlink()
    assert store.get("key") is None and fill(store) == BLOCKS


def test_files_that_are_not_the_stores_own_do_no_harm(store):
    fill(store)
    (store.folder / ".DS_Store").write_text("")
    (store.folder / "tmp123.gone").mkdir()
    assert fill(store, "other") == BLOCKS
    assert names(store) == {"key", "other", ".DS_Store"}


def test_what_fails_in_the_middle_is_not_found_and_goes_on_later(store):
    class Full(Exception):
        pass

    def fail(start: int, stop: int) -> Tensor:
        if start == 8:
            raise Full
        return VALUES[start:stop]

    with pytest.raises(Full):
        store.fill("key", LAYOUT, {}, fail)
    assert store.get("key") is None
    assert fill(store) == BLOCKS[2:]
    assert names(store) == {"key"}


@pytest.mark.slow
def test_what_a_killed_process_has_finished_is_kept(store, tmp_path, start_process):
    process = start_process(tmp_path / "log", "die", 8)
    let_go(process)
    assert process.wait(60) == -9
    assert begun(tmp_path / "log") == BLOCKS[:3]
    assert store.get("key") is None
    assert fill(store) == BLOCKS[2:]


def test_what_a_killed_process_was_at_falls_to_who_waits_for_it(store, tmp_path, start_process):
    process = start_process(tmp_path / "log", "hang")
    let_go(process)
    wait_until(lambda: begun(tmp_path / "log"))
    compute = Compute()

    def kill_at_the_last(start: int, stop: int) -> Tensor:
        if stop == len(VALUES):
            process.kill()
        return compute(start, stop)

    assert torch.equal(store.fill("key", LAYOUT, {}, kill_at_the_last), VALUES)
    # Not the block that the other one had begun, until it was gone.
    assert compute.blocks == [*BLOCKS[1:], BLOCKS[0]]
    assert process.wait(60) == -9


@pytest.mark.slow
def test_processes_that_fill_one_entry_at_once_compute_each_block_once(store, tmp_path, start_process):
    logs = [tmp_path / "one", tmp_path / "two"]
    processes = [start_process(log, "share") for log in logs]
    let_go(*processes)
    assert [process.wait(60) for process in processes] == [0, 0]
    one, two = map(begun, logs)
    assert one and two and sorted(one + two) == BLOCKS
    assert names(store) == {"key"} and fill(store) == []


def test_who_has_finished_waits_for_what_another_is_at(store, tmp_path, start_process):
    process = start_process(tmp_path / "log", "share")
    compute = Compute()

    def slow(start: int, stop: int) -> Tensor:
        # By the time that this block is done, all others are.
        let_go(process)
        wait_until(lambda: len(begun(tmp_path / "log")) == 3)
        return compute(start, stop)

    assert torch.equal(store.fill("key", LAYOUT, {}, slow), VALUES)
    assert process.wait(60) == 0
    assert compute.blocks == BLOCKS[:1] and begun(tmp_path / "log") == BLOCKS[1:]


def test_what_was_used_longest_ago_makes_room(tmp_path):
    room_for_two = TensorStore(tmp_path / "store", 5 * LAYOUT.size // 2)
    for key in ("a", "b"):
        fill(room_for_two, key)
    used(room_for_two, a=20, b=10)
    fill(room_for_two, "c")
    assert names(room_for_two) == {"b", "c"}
    used(room_for_two, b=20, c=10)
    room_for_two.get("b")
    fill(room_for_two, "d")
    assert names(room_for_two) == {"b", "d"}


def test_what_is_larger_than_the_limit_is_neither_computed_nor_makes_room(store):
    fill(store)
    compute = Compute()
    small = TensorStore(store.folder, LAYOUT.size - 1)
    assert small.fill("other", LAYOUT, {}, compute) is None
    assert compute.blocks == [] and names(store) == {"key"}


def test_half_of_the_free_disk_is_left_to_others(store, monkeypatch):
    usage = tensor_store.shutil.disk_usage(store.folder.parent)

    def free(size: int) -> None:
        monkeypatch.setattr(tensor_store.shutil, "disk_usage", lambda _: usage._replace(free=size))

    free(2 * LAYOUT.size - 2)
    assert store.fill("key", LAYOUT, {}, Compute()) is None
    free(2 * LAYOUT.size)
    assert fill(store) == BLOCKS


def test_what_is_mapped_stays_readable_when_its_entry_makes_room(tmp_path):
    room_for_one = TensorStore(tmp_path / "store", 3 * LAYOUT.size // 2)
    fill(room_for_one, "a")
    mapped = room_for_one.get("a")
    used(room_for_one, a=10)
    room_for_one.fill("b", LAYOUT, {}, Compute(-VALUES))
    assert names(room_for_one) == {"b"}
    assert torch.equal(mapped, VALUES)


def test_what_others_are_filling_makes_room_only_when_it_is_abandoned(tmp_path):
    room_for_one = TensorStore(tmp_path / "store", 3 * LAYOUT.size // 2)
    compute = Compute()

    def in_the_middle(start: int, stop: int) -> Tensor:
        assert room_for_one.fill("b", LAYOUT, {}, compute) is None
        return VALUES[start:stop]

    room_for_one.fill("a", LAYOUT, {}, in_the_middle)
    assert names(room_for_one) == {"a"} and compute.blocks == []

    def stop_there(*_: int) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        room_for_one.fill("c", LAYOUT, {}, stop_there)
    assert names(room_for_one) == {"c.part"}
    used(room_for_one, **{"c.part": ABANDONED_SECONDS + 60})
    fill(room_for_one, "b")
    assert names(room_for_one) == {"b"}


def test_a_folder_that_cannot_be_is_an_error_of_the_system(tmp_path):
    (tmp_path / "file").write_text("")
    store = TensorStore(tmp_path / "file" / "store", 10**6)
    with pytest.raises(OSError, match="Not a directory"):
        store.get("key")
    with pytest.raises(OSError, match="Not a directory"):
        store.fill("key", LAYOUT, {}, Compute())


def test_rows_of_an_entry_can_be_read_one_by_one(tmp_path):
    store = TensorStore(tmp_path, 10**6)
    values = torch.arange(24, dtype=torch.float32).view(4, 2, 3)
    store.fill("key", Layout((4, 2, 3), torch.float32, 3), {}, lambda start, stop: values[start:stop])
    with store.reader("key") as read:
        assert torch.equal(read(3), values[3]) and torch.equal(read(0), values[0])
    with store.reader("none") as read:
        assert read is None
    assert store.descriptions() == {"key": {}}


def test_a_file_system_without_locks_is_an_error_of_the_system(tmp_path, monkeypatch):
    def refuse(*_):
        raise portalocker.LockException("Function not implemented")

    monkeypatch.setattr(portalocker, "lock", refuse)
    store = TensorStore(tmp_path, 2**20)
    with pytest.raises(OSError, match="no locks"):
        store.fill("key", Layout((2, 2), torch.uint8, 1), {}, lambda start, stop: torch.zeros(1, 2).byte())
