"""python benchmarks/techniques.py: what each technique of training is worth, against one recipe, by seeds.

Every technique is added to the same recipe: the last stage of EfficientNet-Lite0 with its ImageNet weights,
AdamW, cosine. The runs of a seed share the images, their split and the start of the classifier, so that the
difference is one of pairs. A fifth of the training images is held out; the table has both their accuracy and
that of the test images, which chose nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import report
import work
from tabulate import tabulate

from wandb_tl.analysis.intervals import mean_of

RECIPE: dict[str, Any] = {
    "model_name": "tf_efficientnet_lite0",
    "finetuning": True,
    "optimizer": "AdamW",
    "lr": 0.003,
    "weight_decay": 0.0001,
    "scheduler": "cosine",
    "val_fraction": 0.2,
}
TECHNIQUES: dict[str, dict[str, Any]] = {
    "head alone": {"finetuning": False},
    "probe": {"finetuning": False, "optimizer": "probe"},
    "classifier starts from the probe": {"classifier_start": "probe"},
    "warm-up of an epoch": {"warmup_epochs": 1},
    "head alone in the first epoch": {"head_epochs": 1},
    "lr_decay 0.8": {"lr_decay": 0.8},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "mixup 0.2": {"mixup": 0.2},
    "moving average 0.98": {"ema": 0.98},
    "gradient cut to 1": {"clip_grad": 1.0},
    "best epoch kept": {"keep": "best"},
    "as fastai's fine_tune": {
        "head_epochs": 1,
        "lr_decay": 0.8,
        "warmup_epochs": 1,
        "optimizer": "Adam",
    },
    "flip": {"augment": "flip"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="names of techniques")
    parser.add_argument("--data_dir", help="your own pictures instead of Fashion-MNIST")
    parser.add_argument("--lr", type=float, default=RECIPE["lr"])
    work.add_size_flags(parser, 4000, 0)
    parser.set_defaults(epochs=6)
    options = parser.parse_args()
    techniques = {name: TECHNIQUES[name] for name in options.only} if options.only else TECHNIQUES
    common = RECIPE | {
        "lr": options.lr,
        "epochs": options.epochs,
        "image_size": options.image_size,
        "train_limit": options.train_images,
        "test_limit": options.test_images,
    }
    common |= {"data_dir": options.data_dir} if options.data_dir else {}
    os.environ["WANDB_MODE"] = "disabled"
    results: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        # Models without a server go below the current folder.
        os.chdir(folder)
        recipes = {"the recipe": {}} | techniques
        for (name, changes), seed in itertools.product(recipes.items(), range(options.seeds)):
            results.setdefault(name, []).append(train(common | changes | {"seed": seed}))
            print(f"{name}, seed {seed}: {results[name][-1]}", flush=True)
    table = [row(name, runs, results["the recipe"]) for name, runs in results.items()]
    headings = ("technique", "validation", "difference", "test", "difference", "seconds")
    text = tabulate(table, headings, tablefmt="pipe", disable_numparse=True)
    images = Path(options.data_dir).name if options.data_dir else f"Fashion-MNIST, {options.train_images:,}"
    size = f"{options.epochs} epochs at {options.image_size} px, {options.seeds} seeds"
    line = f"{images} images, {size}:\n\n{text}\n"
    report.report(f"techniques_{'pictures' if options.data_dir else 'fashion_mnist'}", line, dict(results))


def train(hyperparameters: dict[str, Any]) -> tuple[float, float, float]:
    """Accuracy on validation and on test images of a run, in per cent, and its seconds."""
    import wandb_tl

    result = wandb_tl.fit(**hyperparameters)
    kept = result.metrics
    # With keep=best, those of the best epoch.
    place = kept["val/accuracy"].idxmax() if hyperparameters.get("keep") == "best" else kept.index[-1]
    return 100 * float(kept["val/accuracy"][place]), result.test_accuracy, result.train_seconds


def row(
    name: str, runs: list[tuple[float, float, float]], base: list[tuple[float, float, float]]
) -> list[str]:
    """Means, and mean differences from the recipe with the 95 % intervals of pairs of the same seed."""
    cells = [name]
    for place in (0, 1):
        values = [run[place] for run in runs]
        cells.append(f"{statistics.mean(values):.2f}")
        change = mean_of(run[place] - other[place] for run, other in zip(runs, base, strict=True))
        cells.append(f"{change.mean:+.2f} ± {change.half_width:.2f}" if runs is not base else "")
    return [*cells, f"{statistics.mean(run[2] for run in runs):.1f}"]


if __name__ == "__main__":
    main()
