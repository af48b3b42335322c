import math
import subprocess
import sys
import time

import pytest
import torch

from wandb_tl.training import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_precision_that_is_named_is_taken(precision):
    assert devices.resolve_precision(precision, CPU) == precision
    assert devices.resolve_precision("auto", CPU) in ("bf16", "fp32")


def test_the_peak_of_memory_is_that_of_this_run():
    # A process of its own: one that has trained keeps what it frees.
    script = """
import torch
from wandb_tl.training import devices

cpu = torch.device("cpu")
large = torch.zeros(64 * 2**20)
with_large = devices.peak_memory_mb(cpu)
del large
devices.reset_peak_memory(cpu)
print(with_large > 256, devices.peak_memory_mb(cpu) < with_large - 200)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_the_device_is_told_by_its_makers_name():
    name = devices.device_name(CPU)
    assert name.endswith(("thread", "threads")) and len(name) > 12


def test_large_images_are_computed_fewer_at_a_time():
    sizes = [devices.chunk_size(torch.device("cuda"), size) for size in (64, 224, 448, 2000)]
    assert sizes == [512, 512, 128, 32] and devices.chunk_size(CPU, 224) == 64


def test_nothing_counts_a_processors_energy():
    assert math.isnan(devices.energy_wh(CPU))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_energy_grows_with_what_it_computes():
    pytest.importorskip("pynvml")
    device = torch.device("cuda")
    before, began = devices.energy_wh(device), time.monotonic()
    matrix = torch.randn(4096, 4096, device=device)
    while time.monotonic() - began < 2:
        matrix = (matrix @ matrix).clamp(-1, 1)
        torch.cuda.synchronize()
    seconds = time.monotonic() - began
    # A GPU that computes takes more than 20 W, and none takes 3,000.
    assert 20 < (devices.energy_wh(device) - before) * 3600 / seconds < 3000
