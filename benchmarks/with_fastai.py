"""python benchmarks/with_fastai.py: fastai's own defaults on the images of a preset, for comparison.

fastai finetunes EfficientNet-Lite0 from the same weights, on the same images and splits: `vision_learner`,
then `fine_tune(epochs)` with one-cycle schedule, discriminative learning rates and a first epoch of the head
alone. It is no dependency: install it beside this package (`uv pip install fastai`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import report
import torch
import torch.nn.functional as F
from fastai.vision.all import DataLoader, DataLoaders, set_seed, vision_learner
from torch import Tensor

from wandb_tl.analysis.intervals import mean_of
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets, models, weights
from wandb_tl.training.datasets import Split

MODEL = "tf_efficientnet_lite0"
EVALUATED_AT_ONCE = 256

Images = list[tuple[Tensor, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="your own pictures instead of Fashion-MNIST")
    parser.add_argument("--train_limit", type=int, default=4000, help="of Fashion-MNIST")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10, help="after the one with frozen layers")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    named = {"data_dir": options.data_dir} if options.data_dir else {"train_limit": options.train_limit}
    config = RunConfig.from_mapping(
        named
        | {"dataset": "folder" if options.data_dir else "fashion_mnist", "val_fraction": 0.2}
        | {"model_name": MODEL, "image_size": options.image_size}
    )
    data = datasets.load(config)
    assert data.val is not None
    preprocess = models.preprocess(models.build(config, 2), config.image_size, torch.device("cpu"))

    def images(split: Split) -> Images:
        pixels = torch.cat([preprocess(part) for part in split.images.split(EVALUATED_AT_ONCE)])
        return list(zip(pixels.contiguous(), split.labels.long(), strict=True))

    train, val, test = (images(split) for split in (data.train, data.val, data.test))
    results = []
    for seed in range(options.seeds):
        began = time.perf_counter()
        model = finetuned(train, val, len(data.class_names), options.epochs, seed)
        results.append((accuracy(model, val), accuracy(model, test), time.perf_counter() - began))
        print(seed, *results[-1], flush=True)
    kinds = {"validation": 0, "test": 1}
    means = {kind: mean_of(result[place] for result in results) for kind, place in kinds.items()}
    parts = [f"{kind} {one.mean:.1f} ± {one.half_width:.1f} %" for kind, one in means.items()]
    fashion = f"Fashion-MNIST, {options.train_limit:,} images"
    where = Path(options.data_dir).name if options.data_dir else fashion
    line = f"fastai's fine_tune({options.epochs}) on {where}, {options.seeds} seeds: {', '.join(parts)}"
    kind = "pictures" if options.data_dir else "fashion_mnist"
    report.report(f"with_fastai_{kind}", line, {"results": results})


def finetuned(train: Images, val: Images, classes: int, epochs: int, seed: int) -> torch.nn.Module:
    """The model that fastai's defaults give."""
    set_seed(seed)
    loaders = DataLoaders(
        DataLoader(train, bs=64, shuffle=True, drop_last=True, num_workers=0),
        DataLoader(val, bs=EVALUATED_AT_ONCE, num_workers=0),
    )
    learner = vision_learner(
        loaders, MODEL, n_out=classes, pretrained=False, normalize=False, loss_func=F.cross_entropy
    )
    # As with pretrained=True, which would fetch the same weights from the hub.
    own = {name: one for name, one in weights.load(MODEL).items() if not name.startswith("classifier")}
    learner.model[0].model.load_state_dict(own)
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    return learner.model.eval()


@torch.inference_mode()
def accuracy(model: torch.nn.Module, images: Images) -> float:
    """In per cent."""
    hits = 0
    for start in range(0, len(images), EVALUATED_AT_ONCE):
        pixels, labels = map(torch.stack, zip(*images[start : start + EVALUATED_AT_ONCE], strict=True))
        hits += int((model(pixels).argmax(1) == labels).sum())
    return 100 * hits / len(images)


if __name__ == "__main__":
    main()
