"""A process whose memory is limited: its allocations really fail."""

import json
import os
import platform
import subprocess
import sys

import pytest
import torch

from wandb_tl.errors import InputError
from wandb_tl.training.memory import Parts

# Trains with this many more bytes than the process has when its model is built; 0 means without a limit.
LIMITED_RUN = """
import json, os, sys
import torch
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets, loop, models
from wandb_tl.training.process_cache import ProcessCache

config = RunConfig(
    model_name="vit_tiny_patch16_224", pretrained=False, finetuning=True, unfreeze="2", image_size=160,
    train_limit=64, test_limit=64, precision="fp32", epochs=1,
)
data, device = datasets.load(config), torch.device("cpu")
model = models.build(config, 10)
if spare := int(sys.argv[1]):
    import resource
    used = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, used + spare))
trainer = loop.prepare(config, data, model, device, "fp32", ProcessCache().activations)
row = trainer.train_epoch(1)
weights = torch.cat([weight.flatten() for weight in trainer.trainable.parameters()])
numbers = [row["train/loss"], trainer.evaluate("test").loss, weights.norm().item()]
print(json.dumps(numbers))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
def test_a_run_with_too_little_memory_has_the_numbers_of_one_with_enough(run_variables, tmp_path):
    def run(spare: int) -> tuple[list[str], list[float]]:
        # Without the threshold, the C library keeps memory that is free again.
        environment = {"MALLOC_MMAP_THRESHOLD_": "65536"} | run_variables(tmp_path / str(spare))
        command = [sys.executable, "-c", LIMITED_RUN, str(spare)]
        result = subprocess.run(
            command, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=120
        )
        *lines, numbers = result.stdout.splitlines()
        return [line for line in lines if "does not fit" in line], json.loads(numbers)

    silent, expected = run(0)
    lines, numbers = run(70 * 2**20)
    assert silent == []
    assert [line.partition(":")[0] for line in lines] == ["frozen layers", "training", "evaluation"]
    assert lines[1].startswith("training: a batch of 64 does not fit memory: computed as ")
    assert lines[1].endswith(", with one optimizer step and the gradients of the whole batch")
    assert numbers == pytest.approx(expected, rel=1e-5)


def allocate(parts: list[torch.Tensor]) -> int:
    """Allocates a tebibyte for each image beyond three, and returns the number of parts."""
    for part in parts:
        torch.empty(2**40 * max(0, len(part) - 3), dtype=torch.uint8)
    return len(parts)


def test_parts_are_halved_until_they_fit_and_stay_so(capsys):
    parts = Parts("work", ", with an effect")
    assert parts.run(allocate, torch.arange(3)) == 1
    assert parts.run(allocate, torch.arange(13)) == 7
    assert [len(part) for part in parts.split(torch.arange(13))] == [2, 2, 2, 2, 2, 2, 1]
    assert parts.run(allocate, torch.arange(6)) == 3
    said = "work: a batch of 13 does not fit memory: computed as 7 x 2, with an effect\n"
    assert capsys.readouterr().out == said


def test_what_cannot_be_halved_is_refused_in_one_line_and_other_errors_are_raised():
    undone = []
    with pytest.raises(InputError, match=r"^work: 5 images do not fit the memory .*can't allocate"):
        Parts("work", least=4).run(allocate, torch.arange(15), lambda: undone.append(1))
    assert len(undone) == 3
    with pytest.raises(InputError, match=r"^work: 15 images do not fit .*; use a smaller batch_size$"):
        Parts("work", least=None).run(allocate, torch.arange(15))
    with pytest.raises(RuntimeError, match="size of tensor a"):
        Parts("work").run(lambda parts: torch.ones(2) + torch.ones(3), torch.arange(4))


# Prints how many pages Linux has cleared for ten tensors of 16 MB, before and after.
FREED_AND_TAKEN = """
import resource, torch
from wandb_tl.training.memory import keep_freed_memory

def pages() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**22)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(pages())
keep_freed_memory()
pages()
print(pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it sets parameters of glibc")
def test_freed_memory_is_kept_for_the_next_step():
    # In a process of its own. The variable ends the adjustment that glibc makes by itself.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    result = subprocess.run(
        [sys.executable, "-c", FREED_AND_TAKEN], env=environment, capture_output=True, text=True, check=True
    )
    before, after = map(int, result.stdout.split())
    # Linux may clear two megabytes at once.
    assert before > 50 and after < before / 5
