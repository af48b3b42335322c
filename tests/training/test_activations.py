from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import activations, convolutions, cutting, models
from wandb_tl.training.activations import Inputs
from wandb_tl.training.datasets import Split
from wandb_tl.training.frozen import frozen_parts

BF16 = partial(torch.autocast, "cpu", torch.bfloat16)


@pytest.fixture(autouse=True)
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A store of its own for each test, and what lets it forget what a process remembers of earlier runs."""
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    monkeypatch.delenv("WANDB_TL_CACHE_GB", raising=False)

    def forget() -> None:
        monkeypatch.setattr(activations, "_used", OrderedDict())

    forget()
    return forget


class Counted(nn.Module):
    """A frozen part that keeps how many images it was given, call by call."""

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        self.frozen = frozen
        self.images: list[int] = []

    def forward(self, pixels: Tensor) -> Tensor:
        self.images.append(len(pixels))
        return self.frozen(pixels)


def frozen_part(image_size: int = 32, seed: int = 0, **options) -> tuple[Counted, Callable]:
    """What is frozen of a model, folded, and its preprocessing."""
    options = {"model_name": "tf_efficientnet_lite0", "finetuning": True} | options
    model = models.build(RunConfig(image_size=image_size, seed=seed, **options), 10)
    preprocess = models.preprocess(model, image_size, torch.device("cpu"))
    example = preprocess(torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    return Counted(convolutions.fold_batch_norms(cutting.cut(model, example).frozen, example)), preprocess


def cached(split: Split, autocast: Callable = nullcontext, precision: str = "fp32", **options) -> Inputs:
    """Inputs as a new run has them."""
    frozen, preprocess = frozen_part(**options)
    inputs = Inputs(split, preprocess, frozen, autocast)
    assert inputs.cache("test", 50, {"precision": precision})
    return inputs


def computed(inputs: Inputs) -> int:
    """How many images have gone through the frozen part, but for the one that tells what comes out."""
    return sum(inputs._frozen.images) - 1


def entries(cache: Path) -> set[str]:
    return {folder.name for folder in (cache / "activations").iterdir()}


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (192, 1, 1)),
        ({"image_size": 64}, (192, 2, 2)),
        ({"finetuning": False}, (1280,)),
        ({"model_name": "vit_tiny_patch16_224", "pretrained": False}, (5, 192)),
        ({"autocast": BF16, "precision": "bf16", "image_size": 64}, (192, 2, 2)),
    ],
)
def test_cached_inputs_are_the_computed_ones(few_images, tmp_path, options, shape):
    inputs = cached(few_images.test, **options)
    index = torch.tensor([5, 99, 0, 127, 5])
    from_cache = inputs.batch(index)
    now = inputs.compute(few_images.test.images[index])
    assert inputs.cached and from_cache.shape == (5, *shape)
    assert from_cache.dtype == now.dtype
    tolerance = 0.05 if now.dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(from_cache, now, rtol=tolerance, atol=tolerance)
    # In the order of memory that the trainable part would be given without a cache.
    assert from_cache.stride() == now.stride()


def test_a_second_run_has_what_the_first_computed(few_images, tmp_path, capsys, new_process):
    first = cached(few_images.test)
    assert computed(first) == len(few_images.test)
    assert "test: 128 images, 0 MB, 128 computed in " in capsys.readouterr().out
    new_process()
    # Another seed gives it another classifier, which has no part in this.
    second = cached(few_images.test, seed=1)
    assert computed(second) == 0
    assert capsys.readouterr().out == "test: 128 images, 0 MB, from before\n"
    everything = torch.arange(len(few_images.test))
    assert torch.equal(second.batch(everything), first.batch(everything))
    assert len(entries(tmp_path)) == 1


def test_what_a_recipe_left_that_opens_the_last_stage_is_gone_on_from(
    few_images, tmp_path, monkeypatch, new_process
):
    everything = torch.arange(len(few_images.test))

    def train_the_head() -> tuple[Tensor, list[int]]:
        """Its inputs, and how many images each of the two parts before it was given."""
        config = RunConfig(model_name="tf_efficientnet_lite0", image_size=32)
        model = models.build(config, 10)
        preprocess = models.preprocess(model, 32, torch.device("cpu"))
        example = preprocess(few_images.test.images[:2])
        parts = frozen_parts(config, model, cutting.cut(model, example), example)
        inputs, counted = None, [Counted(part) for part in parts]
        for part in counted:
            inputs = Inputs(few_images.test, preprocess, part, nullcontext, before=inputs)
        assert inputs.cache("test", 50, {"precision": "fp32"})
        return inputs.batch(everything), [sum(n for n in part.images if n > 1) for part in counted]

    alone, given = train_the_head()
    assert given == [128, 128]
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "other"))
    new_process()
    cached(few_images.test)
    new_process()
    after_it, given = train_the_head()
    assert given == [0, 128]
    assert torch.equal(after_it, alone)
    new_process()
    again, given = train_the_head()
    assert given == [0, 0] and torch.equal(again, alone)


def test_runs_of_one_process_need_no_store_between_them(few_images, monkeypatch):
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0")
    assert computed(cached(few_images.test)) == len(few_images.test)
    assert computed(cached(few_images.test)) == 0


def test_a_process_remembers_so_many_and_the_latest(few_images, monkeypatch):
    monkeypatch.setattr(activations, "USED_ENTRIES", 2)
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0")
    splits = [Split(few_images.test.images[: 10 + n], few_images.test.labels[: 10 + n]) for n in range(3)]
    order = [0, 1, 0, 2, 0, 1]
    known = [computed(cached(splits[number])) == 0 for number in order]
    assert known == [False, False, True, False, True, False]


def test_what_decides_the_inputs_decides_the_entry(few_images, tmp_path, new_process):
    test = few_images.test
    order = torch.arange(len(test)).flip(0)
    another = [
        {},
        {"pretrained": False},
        {"pretrained": False, "seed": 1},
        {"finetuning": False},
        {"image_size": 40},
        {"precision": "bf16", "autocast": BF16},
        {"split": Split(test.images[order], test.labels[order])},
        {"split": Split(test.images[:-1], test.labels[:-1])},
        {"split": Split(test.images.expand(-1, 3, -1, -1), test.labels)},
    ]
    for number, options in enumerate(another, 1):
        new_process()
        inputs = cached(**{"split": test} | options)
        assert computed(inputs) == len(inputs), options
        assert len(entries(tmp_path)) == number, options
    # Labels are not its input.
    new_process()
    assert computed(cached(Split(test.images, test.labels.flip(0)))) == 0


def test_one_weight_or_one_pixel_makes_another_entry(few_images, tmp_path):
    frozen, preprocess = frozen_part()
    images = few_images.test.images.clone()
    split = Split(images, few_images.test.labels)

    def run() -> int:
        before = sum(frozen.images)
        assert Inputs(split, preprocess, frozen, nullcontext).cache("test", 64, {})
        return sum(frozen.images) - before - 1

    assert (run(), run()) == (128, 0)
    with torch.no_grad():
        next(frozen.parameters())[0, 0, 0, 0] += 1e-3
    assert (run(), run()) == (128, 0)
    images[127, 0, 27, 27] += 1
    assert (run(), run()) == (128, 0)
    preprocess.shift = preprocess.shift + 0.1
    assert (run(), run()) == (128, 0)


def test_a_damaged_entry_is_computed_again(few_images, tmp_path, capsys, new_process):
    before = cached(few_images.test).batch(torch.arange(128)).clone()
    (data,) = tmp_path.glob("activations/*/data")
    raw = bytearray(data.read_bytes())
    raw[1000] ^= 1
    data.write_bytes(raw)
    new_process()
    again = cached(few_images.test)
    assert computed(again) == 128 and "is damaged: it is computed again" in capsys.readouterr().out
    assert torch.equal(again.batch(torch.arange(128)), before)


def calibrated(images: Tensor, **options) -> tuple[dict[str, Tensor], int]:
    """A new model's statistics after calibration, and how many images it was given for that."""
    config = RunConfig(**{"model_name": "resnet18", "pretrained": False, "image_size": 32} | options)
    model = models.build(config, 10)
    given: list[int] = []
    model.register_forward_hook(lambda *call: given.append(len(call[2])))
    preprocess = models.preprocess(model, config.image_size, torch.device("cpu"))
    activations.calibrate(model, images, preprocess, nullcontext, {"model": config.model_name})
    statistics = {name: tensor for name, tensor in model.state_dict().items() if "running" in name}
    return statistics, sum(given)


def test_calibration_is_shared_bit_for_bit(few_images, tmp_path):
    images = few_images.train.images[:200]
    first, given = calibrated(images)
    # Whole batches only.
    assert given == 192
    second, given = calibrated(images)
    assert given == 0
    assert len(first) == 40 and list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Not what a model begins with, zeros and ones.
    assert not any(tensor.eq(name.endswith("var")).all() for name, tensor in first.items())


def test_calibration_is_that_of_the_images_weights_and_size(few_images, tmp_path):
    images = few_images.train.images[:64]
    assert calibrated(images)[1] == 64
    assert calibrated(images.flip(0).flip(-1))[1] == 64
    assert calibrated(images, seed=1)[1] == 64
    assert calibrated(images, image_size=40)[1] == 64
    assert calibrated(images)[1] == 0
    assert len(entries(tmp_path)) == 4


def test_calibration_of_the_same_trunk_is_shared_by_all_classifiers(few_images):
    options = {"model_name": "tf_efficientnet_lite0", "pretrained": True}
    first, given = calibrated(few_images.train.images[:64], seed=0, **options)
    second, none = calibrated(few_images.train.images[:64], seed=1, **options)
    assert (given, none) == (64, 0)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_where_there_can_be_no_store_it_is_said_and_done_in_memory(few_images, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path / "file" / "cache"))
    inputs = cached(few_images.test)
    said = f"{tmp_path}/file/cache/activations: Not a directory; it is kept in memory only\n"
    assert capsys.readouterr().out.startswith(said)
    assert inputs.cached and computed(inputs) == 128
    index = torch.tensor([1, 127])
    torch.testing.assert_close(
        inputs.batch(index), inputs.compute(few_images.test.images[index]), rtol=1e-4, atol=1e-4
    )
    statistics, given = calibrated(few_images.train.images[:64])
    assert capsys.readouterr().out == said
    assert given == 64 and not statistics["bn1.running_mean"].eq(0).any()


def test_a_store_of_no_size_keeps_it_in_memory(few_images, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0")
    inputs = cached(few_images.test)
    assert inputs.cached and computed(inputs) == 128
    assert entries(tmp_path) == set()
    assert calibrated(few_images.train.images[:64])[1] == 64
    assert entries(tmp_path) == set()


def test_the_size_of_the_store_is_kept_to(few_images, tmp_path, monkeypatch, new_process):
    # 128 images of 192 numbers are 98,304 bytes: one entry of them, but not two.
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0.00015")
    cached(few_images.test)
    (before,) = entries(tmp_path)
    cached(few_images.test, pretrained=False)
    (after,) = entries(tmp_path)
    assert before != after
    new_process()
    assert computed(cached(few_images.test, pretrained=False)) == 0


@pytest.mark.parametrize("given", ["x", "-1", "nan", "inf", "1e999"])
def test_a_size_that_is_none_is_refused(few_images, monkeypatch, given):
    monkeypatch.setenv("WANDB_TL_CACHE_GB", given)
    with pytest.raises(InputError) as refusal:
        cached(few_images.test)
    assert str(refusal.value) == f"WANDB_TL_CACHE_GB: got {given!r}, takes a number of gigabytes"


def test_what_fits_nowhere_is_not_cached(few_images, monkeypatch):
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0")
    frozen, preprocess = frozen_part()
    inputs = Inputs(few_images.test, preprocess, frozen, nullcontext)
    size = 128 * 192 * 4
    monkeypatch.setattr(activations, "free_memory", lambda device: 4 * size - 1)
    assert not inputs.cache("test", 64, {}) and not inputs.cached
    assert inputs.batch(torch.tensor([1])).shape == (1, 192, 1, 1)
    monkeypatch.setattr(activations, "free_memory", lambda device: 4 * size)
    assert inputs.cache("test", 64, {}) and inputs.cached


def test_what_earlier_runs_used_gives_way_in_memory(few_images, monkeypatch):
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0")
    cached(few_images.test, pretrained=False)
    # Room for one entry of this size.
    size = 128 * 192 * 4
    monkeypatch.setattr(activations, "free_memory", lambda device: 4 * size * (1 - len(activations._used)))
    cached(few_images.test)
    assert len(activations._used) == 1
    assert computed(cached(few_images.test)) == 0


def test_augmentation_reaches_uncached_inputs_only(few_images):
    preprocess = models.preprocess(
        models.build(RunConfig(model_name="resnet18", pretrained=False), 10), 28, torch.device("cpu")
    )
    inputs = Inputs(few_images.train, preprocess, None, nullcontext)
    index = torch.arange(64)
    torch.manual_seed(0)
    flipped = inputs.batch(index, "flip")
    plain = inputs.batch(index)
    same = [torch.equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(flipped, plain, strict=True)]
    assert all(a or b for a, b in zip(same, mirrored, strict=True)) and 16 < sum(same) < 48
