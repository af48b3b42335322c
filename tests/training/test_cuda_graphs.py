"""What can be said of CUDA graphs without a GPU is little; with one, that they change no number."""

from functools import partial

import pytest
import torch

from wandb_tl.config import RunConfig
from wandb_tl.training import cuda_graphs, cutting, freezing, models


def test_batches_of_another_size_are_not_given_to_the_graph():
    forward = cuda_graphs.for_full_batches(lambda inputs: "graph", lambda inputs: "plain", 64)
    assert [forward(torch.zeros(size, 3)) for size in (64, 63, 65, 1)] == ["graph", "plain", "plain", "plain"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("finetuning", [False, True])
def test_a_graphed_step_has_the_gradients_of_a_plain_one(finetuning):
    device = torch.device("cuda")
    autocast = partial(torch.autocast, "cuda", torch.bfloat16)
    model = models.build(RunConfig(model_name="resnet18", pretrained=False, finetuning=finetuning), 10)
    halves = cutting.cut(model.to(device), torch.randn(2, 3, 64, 64, device=device))
    freezing.train_mode(halves.trainable, "source")
    with torch.no_grad(), autocast():
        inputs = halves.frozen(torch.randn(64, 3, 64, 64, device=device))
    labels = torch.randint(10, (64,), device=device)
    before = {name: tensor.clone() for name, tensor in halves.trainable.state_dict().items()}
    graphed = cuda_graphs.capture(halves.trainable, inputs, labels, autocast)
    assert graphed is not None
    # Trying it has changed nothing.
    assert all(torch.equal(tensor, before[name]) for name, tensor in halves.trainable.state_dict().items())
    plain = cuda_graphs._gradients(halves.trainable, halves.trainable, inputs, labels, autocast)
    again = cuda_graphs._gradients(graphed, halves.trainable, inputs, labels, autocast)
    for one, other in zip(plain, again, strict=True):
        assert (one - other).abs().max() <= 0.02 * one.abs().max()
