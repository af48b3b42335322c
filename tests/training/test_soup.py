"""The mean of models, the greedy soup of linear classifiers on points, and the statistics of a mean."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.training import model_folder, models
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.soup import MeanEvaluator, Total, greedy
from wandb_tl.training.tensor_store import TensorStore

POINTS = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
LABELS = (
    POINTS[:, :2].sum(1) + 0.5 * torch.randn(300, generator=torch.Generator().manual_seed(1)) > 0
).long()


def classifiers(count: int, noise: float) -> list[dict[str, torch.Tensor]]:
    """Linear classifiers that err in different directions."""
    generator = torch.Generator().manual_seed(2)
    right = torch.zeros(8)
    right[:2] = 1
    return [
        {"weight": right + noise * torch.randn(8, generator=generator), "steps": torch.tensor(10 + number)}
        for number in range(count)
    ]


def hits(total: Total) -> int:
    return int(((POINTS @ total.mean()["weight"] > 0).long() == LABELS).sum())


def hits_alone(model: dict[str, torch.Tensor]) -> int:
    return hits(Total.of(model))


def test_the_mean_is_that_of_each_tensor_in_any_order():
    models = classifiers(3, 1.0)
    for order in itertools.permutations(models):
        total = Total.of(order[0]).plus(Total.of(order[1])).plus(Total.of(order[2]))
        mean = total.mean()
        exact = torch.stack([one["weight"].double() for one in models]).sum(0) / 3
        assert total.count == 3 and mean["weight"].dtype == torch.float32
        assert torch.allclose(mean["weight"].double(), exact, rtol=1e-7, atol=1e-8)
        # A count of steps is not averaged.
        assert mean["steps"].equal(order[0]["steps"]) and mean["steps"].dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_equal_in_all_models_stays_bit_for_bit(dtype: torch.dtype):
    same = {"frozen": (torch.randn(1000) * 100).to(dtype)}
    total = Total.of(same)
    for _ in range(6):
        total = total.plus(Total.of({"frozen": same["frozen"].clone()}))
    assert total.mean()["frozen"].equal(same["frozen"])


def test_a_soup_never_gets_fewer_hits_than_its_best_model_and_is_the_mean_of_what_was_added():
    models = sorted(classifiers(8, 1.0), key=hits_alone, reverse=True)
    told = []
    total, attempts = greedy(models, Total.of, hits, told.append)
    added = [one.ingredient for one in attempts if one.added]
    assert [one.ingredient for one in attempts] == models and told == attempts
    assert 2 <= len(added) == total.count < len(models)
    expected = torch.stack([one["weight"].double() for one in added]).mean(0).float()
    assert torch.allclose(total.mean()["weight"], expected)
    counts = [one.hits for one in attempts if one.added]
    assert counts == sorted(counts) and hits(total) == counts[-1] > hits_alone(models[0])
    # What was not added would have made it worse at its turn.
    most = 0
    for one in attempts:
        assert one.added == (one.hits >= most)
        most = max(most, one.hits)


def test_a_mean_that_is_worse_is_no_soup():
    good, bad = {"weight": torch.eye(8)[0]}, {"weight": -10 * torch.eye(8)[0]}
    total, attempts = greedy([good, bad], Total.of, hits)
    assert total.count == 1 and total.mean()["weight"].equal(good["weight"])
    assert [one.added for one in attempts] == [True, False]
    # One that is as good is added.
    total, attempts = greedy([good, {"weight": 3 * torch.eye(8)[0]}], Total.of, hits)
    assert total.count == 2 and attempts[1].added and attempts[1].hits == attempts[0].hits


def save(folder: Path, seed: int, config: RunConfig, frozen: float = 0.0) -> Path:
    """The folder of a model whose trained weights have moved in random directions."""
    model = models.build(config, 10)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * weight.std(correction=0) * torch.randn(weight.shape, generator=generator)
            else:
                weight += frozen
    classes = [str(number) for number in range(10)]
    model_folder.save(folder, model, ModelDescription(config, classes, precision="fp32"))
    return folder


@pytest.mark.slow
def test_the_statistics_of_a_mean_are_those_of_training_images(few_images, tmp_path: Path):
    config = RunConfig(
        model_name="tf_efficientnet_lite0", image_size=32, finetuning=True, precision="fp32", augment="flip"
    )
    first, second = (save(tmp_path / str(seed), seed, config) for seed in (1, 2))
    data = dataclasses.replace(few_images, val=few_images.test)
    activations = ActivationCache(TensorStore(tmp_path / "store", 10**9))
    evaluator = MeanEvaluator(model_folder.load(first), data, torch.device("cpu"), activations)
    before = {name: tensor.clone() for name, tensor in evaluator.network.state_dict().items()}
    one, other = evaluator.read(first), evaluator.read(second)

    def statistics() -> dict[str, torch.Tensor]:
        state = evaluator.network.state_dict()
        return {name: state[name].clone() for name in evaluator.averaged if "running_" in name}

    def hits() -> int:
        return int((evaluator.logits("val").argmax(1) == data.val.labels).sum())

    # A mean of one model is that model.
    assert evaluator.load(one) == hits()
    assert all(before[name].equal(tensor) for name, tensor in evaluator.network.state_dict().items())
    assert evaluator.fits(first) and evaluator.fits(second)

    total = one.plus(other)
    mean = total.mean()
    most = evaluator.load(total)
    chosen = statistics()
    assert most == hits() == evaluator.load(total)
    # Weights are those of the mean, and what is frozen has not changed.
    state = evaluator.network.state_dict()
    weights = [name for name in mean if "running_" not in name and "num_batches" not in name]
    assert weights and all(state[name].equal(mean[name]) for name in weights)
    assert all(state[name].equal(before[name]) for name in state if name not in evaluator.averaged)

    # Its statistics are the better ones: those of the mean, or those of the training images.
    evaluator.network.load_state_dict(mean, strict=False)
    averaged = hits()
    evaluator._estimate_statistics()
    estimated, measured = hits(), statistics()
    assert most == max(averaged, estimated)
    better = measured if estimated > averaged else mean
    assert chosen and all(tensor.equal(better[name]) for name, tensor in chosen.items())
    assert not any(tensor.equal(mean[name]) for name, tensor in measured.items())

    # The first BatchNorm that trains sees, in the same batches, what it was given the statistics of.
    name = next(name for name in measured if name.endswith("running_mean")).rpartition(".")[0]
    seen: list[torch.Tensor] = []
    norm = evaluator._trainable.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    hook = norm.register_forward_pre_hook(lambda _, values: seen.append(values[0]))
    evaluator.logits("train")
    hook.remove()
    pixels = torch.cat(seen).permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(pixels.mean(1), norm.running_mean, rtol=1e-4, atol=1e-5)

    other_frozen = save(tmp_path / "frozen", 3, config, frozen=0.01)
    assert not evaluator.fits(other_frozen)
    whole = save(tmp_path / "whole", 4, dataclasses.replace(config, save_weights="whole"))
    assert evaluator.fits(whole) and evaluator.read(whole).sums.keys() == one.sums.keys()
    whole = save(tmp_path / "wrong", 5, dataclasses.replace(config, save_weights="whole"), frozen=0.01)
    assert not evaluator.fits(whole)
