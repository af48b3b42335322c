"""Training steps as CUDA graphs: on a GPU they train as plain steps do."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.training import cuda_graphs, datasets, models, trainer
from wandb_tl.training.cuda_graphs import GraphedStep
from wandb_tl.training.process_cache import ProcessCache
from wandb_tl.training.weight_update import WeightUpdate

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")


def test_the_first_batch_and_batches_of_another_size_are_plain() -> None:
    taken: list[int] = []

    def plain(index: Tensor) -> tuple[Tensor, Tensor]:
        taken.append(len(index))
        return torch.zeros(()), torch.zeros(())

    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters())
    step = GraphedStep(plain, partial(pytest.fail, "captured"), network, optimizer, 64)
    for size in (63, 64, 1, 65):
        step(torch.arange(size))
    assert taken == [63, 64, 1, 65]


def test_gradients_are_the_same_within_a_share_of_their_largest_value() -> None:
    one, other = torch.tensor([1.0, 0.0, -4.0]), torch.tensor([1.07, 0.07, -4.0])
    assert cuda_graphs._same([one, other], [other, one])
    for wrong in (torch.tensor([1.1, 0.0, -4.0]), torch.tensor([1.0, 0.0, float("nan")])):
        assert not cuda_graphs._same([one], [wrong])
    assert not cuda_graphs._same([one], []) and not cuda_graphs._same([], [one])


@pytest.fixture
def small_data(tmp_path, monkeypatch, fashion_mnist_cache) -> datasets.Dataset:
    """648 training images: ten full batches and one of eight."""
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "cache"))
    return datasets.load(RunConfig(train_limit=648, test_limit=128))


def trained(data: datasets.Dataset, epochs: int = 6, **options) -> tuple[trainer.Trainer, list[dict]]:
    """A trainer after its first two epochs, and their metrics."""
    names = {"model_name": "resnet18", "pretrained": False, "image_size": 64, "norm": "source"}
    config = RunConfig(**names | {"finetuning": True, "epochs": epochs, "precision": "fp32"} | options)
    torch.manual_seed(0)
    model = models.build(config, 10).to(GPU)
    one = trainer.prepare(config, data, model, GPU, config.precision, ProcessCache().activations)
    return one, [one.train_epoch(1), one.train_epoch(2)]


@needs_gpu
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "SGD", "lr": 0.01},
        {"optimizer": "SGD", "lr": 0.01, "finetuning": False},
        {"optimizer": "AdamW", "lr": 1e-4, "scheduler": "cosine", "lr_decay": 0.7},
        {"optimizer": "SGD", "lr": 0.01, "clip_grad": 0.1, "ema": 0.9, "label_smoothing": 0.1},
    ],
    ids=["stage", "classifier", "AdamW", "techniques"],
)
def test_a_graphed_run_trains_as_a_plain_one(small_data, capsys, options) -> None:
    plain, expected = trained(small_data, compile="never", **options)
    graphed, rows = trained(small_data, **options)
    assert isinstance(plain.step, WeightUpdate) and isinstance(graphed.step, GraphedStep)
    assert graphed.step._graph is not None and "no CUDA graph" not in capsys.readouterr().out
    for row, other in zip(rows, expected, strict=True):
        assert row["train/lr"] == other["train/lr"]
        assert row["train/loss"] == pytest.approx(other["train/loss"], rel=0.02)
        assert row["train/accuracy"] == pytest.approx(other["train/accuracy"], abs=0.02)
    groups = graphed.optimizer.param_groups
    assert all(isinstance(group["lr"], float) and not group.get("capturable") for group in groups)


@needs_gpu
def test_the_random_numbers_of_a_graph_are_new_in_each_step(small_data) -> None:
    one, _ = trained(small_data, augment="flip", model_kwargs="drop_path_rate=0.5", lr=0.0001)
    assert one.step._graph is not None
    index = torch.arange(64, device=GPU)
    losses = []
    with torch.no_grad():
        before = [weight.clone() for weight in one.trainable.parameters()]
        for _ in range(4):
            losses.append(one.step(index)[0].item())
            for weight, value in zip(one.trainable.parameters(), before, strict=True):
                weight.copy_(value)
    assert len(set(losses)) == 4


@needs_gpu
def test_a_step_that_cannot_be_captured_is_done_once_without_a_graph(small_data, capsys) -> None:
    one, _ = trained(small_data, optimizer="SGD", lr=0.01)
    update = one.step._plain
    asked: list[Tensor] = []

    def asks_the_cpu(index: Tensor) -> tuple[Tensor, Tensor]:
        results = update(index)
        asked.append(results[0].cpu())
        return results

    step = GraphedStep(update, asks_the_cpu, one.trainable, one.optimizer, 64)
    index = torch.arange(64, device=GPU)
    step(index)
    before = {name: tensor.clone() for name, tensor in one.trainable.state_dict().items()}
    momentum = [state["momentum_buffer"].clone() for state in one.optimizer.state.values()]
    loss, _ = step(index)
    assert "no CUDA graph of the training step" in capsys.readouterr().out and step._graph is None
    after = {name: tensor.clone() for name, tensor in one.trainable.state_dict().items()}
    # The same step again, from the same state.
    one.trainable.load_state_dict(before)
    for state, value in zip(one.optimizer.state.values(), momentum, strict=True):
        state["momentum_buffer"].copy_(value)
    assert update(index)[0].item() == pytest.approx(loss.item(), rel=1e-3)
    for name, tensor in one.trainable.state_dict().items():
        torch.testing.assert_close(tensor, after[name], rtol=1e-3, atol=1e-4)
