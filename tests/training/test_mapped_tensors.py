"""Tensors mapped from files, and the memory that they take."""

import mmap
from pathlib import Path

import psutil
import pytest
import torch

from wandb_tl.training.mapped_tensors import map_file, release, tensor_of

ROWS, ROW_BYTES = 256, 100_001
MEGABYTE = 2**20
# The system may map and drop two megabytes at once, at both ends.
TOLERANCE = 5


def mapped_megabytes() -> float:
    """The pages of files in the memory of this process."""
    return psutil.Process().memory_info().shared / MEGABYTE


@pytest.fixture
def rows(tmp_path: Path) -> torch.Tensor:
    values = torch.arange(ROWS, dtype=torch.uint8).repeat_interleave(ROW_BYTES)
    (tmp_path / "data").write_bytes(values.numpy().tobytes())
    return tensor_of(map_file(tmp_path / "data", len(values)), torch.uint8, (ROWS, ROW_BYTES))


@pytest.mark.skipif(not Path("/proc").exists(), reason="psutil counts pages of files on Linux alone")
def test_released_rows_leave_the_memory_and_can_be_used_again(rows):
    # As pictures are: part of each row, in another shape.
    images = rows[:, 1:].unflatten(1, (100, 1000))
    assert images.max() == 255
    used = mapped_megabytes()
    release(images[64:192])
    assert used - mapped_megabytes() == pytest.approx(128 * ROW_BYTES / MEGABYTE, abs=TOLERANCE)
    assert torch.equal(rows[:, 7], torch.arange(ROWS, dtype=torch.uint8))
    release(rows)
    assert used - mapped_megabytes() == pytest.approx(ROWS * ROW_BYTES / MEGABYTE, abs=TOLERANCE)
    release(rows[:0])


def test_other_tensors_are_left_alone():
    values = torch.full((mmap.PAGESIZE,), 7, dtype=torch.uint8)
    release(values)
    assert (values == 7).all()


def test_a_file_of_another_size_is_not_mapped(tmp_path):
    (tmp_path / "data").write_bytes(bytes(10))
    with pytest.raises(ValueError, match="another size"):
        map_file(tmp_path / "data", 11)
