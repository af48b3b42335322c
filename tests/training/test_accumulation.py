"""The gradients of a batch in parts, and the state that a failed attempt leaves."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import freezing, models
from wandb_tl.training.accumulation import TrainingStep
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.objective import Objective
from wandb_tl.training.tensor_store import TensorStore

CPU = torch.device("cpu")


class TooLittleMemory(nn.Module):
    """Computes a network, and then fails to allocate memory if it was given more images than `most`."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most
        self.sizes: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.sizes.append(len(pixels))
        logits = self.network(pixels)
        torch.empty(2**40 * max(0, len(pixels) - self.most), dtype=torch.uint8)
        return logits


def step_of(few_images, tmp_path, name: str, most: int, precision: str = "fp32") -> tuple:
    config = RunConfig(model_name=name, pretrained=False, finetuning=True, unfreeze="all", image_size=32)
    network = TooLittleMemory(models.build(config, 10), most)
    freezing.train_mode(network, "source")
    inputs = Inputs(
        few_images.train,
        models.preprocess(network.network, 32, CPU),
        None,
        ActivationCache(TensorStore(tmp_path, 0)),
    )
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    objective = Objective(config, few_images.train.labels, 10)
    return TrainingStep(config, network, network, inputs, nullcontext, scaler, objective), network


def gradients(network: nn.Module) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in network.parameters()])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_gradients_of_parts_are_those_of_the_whole_batch(few_images, tmp_path, capsys, precision):
    index = torch.arange(50)
    whole, network = step_of(few_images, tmp_path, "vit_tiny_patch16_224", 50, precision)
    loss, hits = whole(index, "none")
    expected = gradients(network)
    halved, network = step_of(few_images, tmp_path, "vit_tiny_patch16_224", 20, precision)
    for _ in range(2):
        network.zero_grad()
        part_loss, part_hits = halved(index, "none")
        torch.testing.assert_close(part_loss, loss)
        assert part_hits == hits
        torch.testing.assert_close(gradients(network), expected, rtol=1e-3, atol=1e-5 * expected.abs().max())
    # The second batch begins with the size that the first one ended with.
    assert network.sizes == [50, 25, *[13, 13, 12, 12] * 2]
    assert capsys.readouterr().out.count("computed as 4 x 13") == 1


def test_a_failed_attempt_leaves_no_trace_in_statistics_and_random_numbers(few_images, tmp_path, capsys):
    index, results = torch.arange(16), []
    for first in (16, 8):
        step, network = step_of(few_images, tmp_path, "resnet18", 8)
        if first == 8:
            step._parts.limit = 8
        torch.manual_seed(3)
        step(index, "flip_crop")
        results.append([gradients(network), *network.buffers(), torch.get_rng_state()])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "BatchNorm normalises each part by the statistics of that part" in said
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_batch_whose_norms_wait_for_other_processes_is_not_computed_in_parts(few_images, tmp_path):
    halved, network = step_of(few_images, tmp_path, "test_vit", 8)
    halved(torch.arange(16), "none")
    network.norm = nn.SyncBatchNorm(3)
    step = TrainingStep(
        RunConfig(), network, network, halved._inputs, nullcontext, halved._scaler, halved._objective
    )
    with pytest.raises(InputError, match=r"^training: 16 images do not fit .*; use a smaller batch_size$"):
        step(torch.arange(16), "none")
