"""One run in two processes, which torchrun starts: it is the run of one process, and W&B sees one."""

import copy
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from live_server import REPOSITORY, sqlite
from safetensors.torch import load_file
from torch import nn
from warm_python import WarmProcess

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import distributed, meter
from wandb_tl.training.checkpoints import Progress

# Batches of 32, 32 and 7 images: the last is not shared equally. The network has 3x3 convolutions.
SETTINGS = {"train_limit": 71, "test_limit": 130, "epochs": 2, "batch_size": 32, "image_size": 32}
SETTINGS |= {"model_name": "test_nfnet", "pretrained": False, "optimizer": "SGD"}
SETTINGS |= {"lr": 0.2, "precision": "fp32", "scheduler": "cosine"}
# The processes add the gradients up in another order.
TOLERANCE = 1e-5
TRAIN = ["-m", "wandb_tl.train"]


def flags(**settings: object) -> list[str]:
    return [f"--{name}={value}" for name, value in (SETTINGS | settings).items()]


def start(count: int, arguments: list[str], folder: Path, environment: dict[str, str]) -> list[WarmProcess]:
    """The processes of a run, with the variables that torchrun sets; it would take seconds to start them."""
    if count > 1:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        environment = environment | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment |= {"WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "none"}
    ranks = [{"RANK": str(n), "LOCAL_RANK": str(n)} if count > 1 else {} for n in range(count)]
    return [WarmProcess(arguments, folder, environment | variables) for variables in ranks]


def train(count: int, folder: Path, environment: dict[str, str]) -> str:
    """The output of all processes of a run of two epochs."""
    folder.mkdir()
    processes = start(
        count,
        [*TRAIN, *flags(finetuning=True, unfreeze="all")],
        folder,
        environment | {"WANDB_DIR": str(folder)},
    )
    outputs = [process.communicate(timeout=400) for process in processes]
    assert not any(process.returncode for process in processes), outputs
    return "".join(out for out, _ in outputs)


def numbers(output: str) -> list[list[float]]:
    """Training loss, training accuracy and test accuracy of every epoch."""
    pattern = r"^epoch \d/2: train/loss (\S+), train/accuracy (\S+), test/accuracy (\S+)$"
    return [[float(value) for value in row] for row in re.findall(pattern, output, re.MULTILINE)]


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_trains(run_environment, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    alone = train(1, one, run_environment)
    together = train(2, two, run_environment)
    # One of the two processes prints, logs and writes the model.
    assert len(numbers(together)) == 2 and len(list(two.glob("wandb/offline-run-*"))) == 1
    assert torch.allclose(torch.tensor(numbers(together)), torch.tensor(numbers(alone)), atol=TOLERANCE)
    [before], [after] = (list(folder.glob("models/*/*.safetensors")) for folder in (one, two))
    weights, other = load_file(before), load_file(after)
    assert weights.keys() == other.keys()
    for name, tensor in weights.items():
        assert torch.allclose(tensor, other[name], rtol=0, atol=TOLERANCE), name
    assert not list(Path(run_environment["WANDB_TL_CACHE"]).glob("checkpoints/*.pt"))


def test_one_process_shares_nothing():
    batch = torch.arange(5)
    assert distributed.rank() == 0 and distributed.count() == 1
    assert torch.equal(distributed.share(batch), batch)
    chunks = batch.split(2)
    assert torch.equal(distributed.computed_together(lambda chunk: [chunk * 2], chunks), batch * 2)


def test_a_batch_that_cannot_be_shared_is_one_line(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "64")
    with (
        pytest.raises(InputError, match="batch_size: got 32, and 64 processes need one image each"),
        distributed.joined(RunConfig(batch_size=32)),
    ):
        pass


def test_the_variables_of_a_cluster_alone_start_no_group_of_processes(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with distributed.joined(RunConfig()):
        assert distributed.rank() == 0 and distributed.count() == 1


def test_the_number_of_a_process_is_clear_before_the_processes_are_joined(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("RANK", "3")
    assert distributed.rank() == 3 and distributed.count() == 1


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A group of processes with this one in it, which believes that it is one of two."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    monkeypatch.setattr(distributed, "count", lambda: 2)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("fused", [True, False])
def test_a_step_with_summed_gradients_is_a_plain_step_for_every_memory_format(fused):
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)
    summed = copy.deepcopy(plain)
    for network in (plain, summed):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.5, fused=fused)
        network(torch.arange(300.0).view(1, 3, 10, 10) / 300).square().mean().backward()
        if network is summed:
            distributed.sum_gradients(optimizer, 1.0)
        optimizer.step()
    for one, other in zip(plain.parameters(), summed.parameters(), strict=True):
        assert torch.equal(one, other) and other.grad.stride() == other.stride()


@pytest.mark.usefixtures("group")
def test_the_energy_of_a_run_is_that_of_all_its_gpus(monkeypatch):
    readings = iter([1.0, 3.5])
    monkeypatch.setattr(meter.devices, "energy_wh", lambda device: next(readings))
    monkeypatch.setattr(dist, "all_reduce", lambda value: value.mul_(2))
    progress = Progress()
    meter.Meter(torch.device("cpu")).add_to(progress)
    assert progress.energy_wh == 5.0


def test_processes_draw_other_random_numbers_than_each_other_and_the_first_those_of_one(monkeypatch):
    drawn = []
    for number in range(3):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        torch.manual_seed(7)
        distributed.draw_own_numbers()
        drawn.append(torch.rand(4).tolist())
    torch.manual_seed(7)
    assert drawn[0] == torch.rand(4).tolist()
    assert len({tuple(numbers) for numbers in drawn}) == 3


def test_norms_that_train_need_gpus_and_an_image_in_every_process(monkeypatch):
    monkeypatch.setattr(distributed, "count", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    frozen, trained = nn.BatchNorm2d(3).eval(), nn.Sequential(nn.BatchNorm2d(3))
    assert distributed.synchronize_norms(frozen, 3) is frozen
    with pytest.raises(InputError, match="trains BatchNorm layers, which in several processes needs GPUs"):
        distributed.synchronize_norms(trained, 4)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    with pytest.raises(
        InputError, match=r"last batch of an epoch has 3 images, .* 4 processes need one image"
    ):
        distributed.synchronize_norms(trained, 3)
    assert not distributed.computes_norms_together(trained)
    assert distributed.computes_norms_together(distributed.synchronize_norms(trained, 4))


@pytest.mark.long
def test_a_terminated_run_resumes_in_two_processes(server):
    settings = flags(finetuning=False, epochs=4)
    environment = server.env | {"WANDB_RUN_ID": "shared", "WANDB_PROJECT": "distributed"}
    folder = server.folder / "client"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    first = subprocess.run(
        [*torchrun, str(REPOSITORY / "tests" / "terminated_run.py"), *settings],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert first.returncode != 0
    said = first.stdout + first.stderr
    assert sqlite(server, "SELECT state FROM run WHERE name = 'shared'") == "preempted", said
    # The second process prints nothing.
    assert first.stdout.count("epoch 2/4") == 1, said
    processes = start(2, [*TRAIN, *settings], folder, environment)
    outputs = [process.communicate(timeout=400) for process in processes]
    assert "resuming after epoch 2" in outputs[0][0] and outputs[1] == ("", ""), outputs
    assert sqlite(server, "SELECT state FROM run WHERE name = 'shared'") == "finished"
    # Each epoch once, then a row of figures and one of Tables.
    assert sqlite(server, "SELECT count(*) FROM stream_line WHERE stream = 'wandb-history.jsonl'") == 4 + 2
