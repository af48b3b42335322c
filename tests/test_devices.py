import pytest
import torch

from wandb_tl import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_precision_that_is_named_is_taken(precision):
    assert devices.resolve_precision(precision, CPU) == precision
    assert devices.resolve_precision("auto", CPU) in ("bf16", "fp32")


def test_the_peak_of_memory_is_that_of_this_run():
    large = torch.zeros(64 * 2**20)
    with_large = devices.peak_memory_mb(CPU)
    assert with_large > 256
    del large
    devices.forget_peak_memory(CPU)
    assert devices.peak_memory_mb(CPU) < with_large - 200


def test_the_device_is_told_by_its_makers_name():
    name = devices.device_name(CPU)
    assert name.endswith(("thread", "threads")) and len(name) > 12


def test_large_images_are_computed_fewer_at_a_time():
    sizes = [devices.chunk_size(torch.device("cuda"), size) for size in (64, 224, 448, 2000)]
    assert sizes == [512, 512, 128, 32] and devices.chunk_size(CPU, 224) == 64
