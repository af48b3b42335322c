"""Shared by all tests: real Fashion-MNIST in one cache folder, and a wandb that writes nowhere else."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import wandb
from live_server import Server

from wandb_tl.cache_folder import cache_dir
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: one at the end would leave a worker without tests.

    They are those of the commands, which start processes, and then those with the most slow tests.
    """
    slow = Counter(item.path for item in items for mark in ("slow", "long") if item.get_closest_marker(mark))
    tests = Path(__file__).parent
    items.sort(key=lambda item: (not slow[item.path], item.path.parent != tests, -slow[item.path]))


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """What a test changes of its process and does not change back would decide about the tests after it."""
    folder, variables = Path.cwd(), dict(os.environ)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    yield
    run = wandb.run
    if run is not None:
        run.finish()
    left = {name for name, _ in variables.items() ^ os.environ.items()}
    # pytest's own, and those that scikit-learn sets as it is imported.
    left = {name for name in left if name != "PYTEST_CURRENT_TEST" and not name.startswith("KMP_")}
    assert (Path.cwd(), left) == (folder, set())
    # The client keeps a disabled one after its block.
    assert run is None or run.disabled, "the test has left a run open"
    assert [signal.getsignal(number) for number in signal.valid_signals()] == handlers


@pytest.fixture(scope="session", autouse=True)
def one_thread_per_core() -> None:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max((os.cpu_count() or 1) // workers, 1))


@pytest.fixture(scope="session", autouse=True)
def processes_that_can_be_interrupted() -> None:
    """A shell's background job ignores SIGINT, and under nohup SIGHUP; so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Windows has no SIGHUP.
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def fashion_mnist_cache() -> Path:
    """The cache folder that holds Fashion-MNIST, fetched once if it was not there."""
    datasets.load(RunConfig(train_limit=64))
    return cache_dir()


@pytest.fixture(scope="session")
def few_images(fashion_mnist_cache: Path) -> datasets.Dataset:
    """256 training and 128 test images."""
    return datasets.load(RunConfig(train_limit=256, test_limit=128))


@pytest.fixture(scope="session")
def run_variables(fashion_mnist_cache: Path) -> Callable[[Path], dict[str, str]]:
    """Gives what runs in processes of their own have in common: a new cache that holds nothing but the data.

    One thread each, because tests start several at a time; and the CPU, whose numbers repeat to the last bit.
    """

    def variables(cache: Path) -> dict[str, str]:
        cache.mkdir()
        (cache / "FashionMNIST").symlink_to(fashion_mnist_cache / "FashionMNIST")
        return {"WANDB_TL_CACHE": str(cache), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    return variables


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, run_variables: Callable) -> Iterator[Server]:
    """An embedded server whose clients' runs have a cache of their own."""
    folder = tmp_path_factory.mktemp("server")
    running = Server(folder, run_variables(folder / "cache"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def run_environment(tmp_path: Path, run_variables: Callable[[Path], dict[str, str]]) -> dict[str, str]:
    """The environment of a run process without any W&B server: offline, its files under tmp_path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    kept |= run_variables(tmp_path / "cache")
    return kept | {
        "WANDB_DIR": str(tmp_path),
        "WANDB_CONFIG_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path),
        "WANDB_DATA_DIR": str(tmp_path),
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "NETRC": str(tmp_path / "netrc"),
    }
