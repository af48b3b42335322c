"""python benchmarks/rank_order.py: does `rank` order models as finetuning them does?

Eight models whose weights need no hub: three EfficientNets with ImageNet weights, and five with random ones.
rank judges each by an exact probe of its frozen features on validation images. Then the whole network is
finetuned, and judged on test images. The agreement is Spearman's rank correlation.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import report
import work
from scipy.stats import spearmanr
from tabulate import tabulate

from wandb_tl.rank import Judge

MODELS = {
    "tf_efficientnet_lite0": True,
    "tf_efficientnet_lite1": True,
    "tf_efficientnet_lite2": True,
    "resnet18": False,
    "resnet10t": False,
    "mobilenetv3_small_100": False,
    "regnetx_002": False,
    "lcnet_050": False,
}
FINETUNING: dict[str, Any] = {
    "finetuning": True,
    "unfreeze": "all",
    "optimizer": "AdamW",
    "lr": 0.001,
    "weight_decay": 0.01,
    "scheduler": "cosine",
    "warmup_epochs": 1,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", help="your own pictures instead of Fashion-MNIST")
    work.add_size_flags(parser, 2000, 2000)
    options = parser.parse_args()
    common = {"image_size": options.image_size, "val_fraction": 0.2}
    if options.data_dir:
        common |= {"data_dir": str(Path(options.data_dir).resolve()), "dataset": "folder"}
    else:
        # The validation images are no more than these, too: a fifth of 60,000 would decide nothing else.
        common |= {"train_limit": options.train_images, "test_limit": options.test_images}
    os.environ["WANDB_MODE"] = "disabled"
    judges = {pretrained: Judge(common | {"pretrained": pretrained}) for pretrained in (True, False)}
    rows: list[tuple[str, float, float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        # Models without a server go below the current folder.
        os.chdir(folder)
        for model, pretrained in MODELS.items():
            probe, probing = ranked(judges[pretrained], model)
            named = {"model_name": model, "pretrained": pretrained}
            finetuned, training = finetune(common | named | FINETUNING | {"epochs": options.epochs})
            name = model if pretrained else f"{model}, random weights"
            rows.append((name, probe, finetuned, probing, training))
            print(*rows[-1], flush=True)
    correlation = spearmanr([row[1] for row in rows], [row[2] for row in rows])
    headings = ("model", "probe, val %", "finetuned, test %", "probe, s", "finetuning, s")
    text = tabulate(rows, headings, tablefmt="pipe", floatfmt=("", ".2f", ".2f", ".1f", ".1f"))
    images = (
        Path(options.data_dir).name if options.data_dir else f"Fashion-MNIST, {options.train_images:,} images"
    )
    agreement = f"{correlation.statistic:.2f} (p = {correlation.pvalue:.3f}, {len(rows)} models)"
    size = f"{options.image_size} px, {options.epochs} epochs"
    line = f"{images} at {size}: Spearman's rank correlation with finetuning {agreement}\n\n{text}"
    kind = "pictures" if options.data_dir else "fashion_mnist"
    report.report(f"rank_order_{kind}", line, {"rows": rows, "spearman": correlation.statistic})


def ranked(judge: Judge, model: str) -> tuple[float, float]:
    """Accuracy of the probe that `rank` orders by, on validation images in per cent, and its seconds."""
    began = time.perf_counter()
    [judged] = judge.judge([model])
    return 100 * float(judged.probe.mean()), time.perf_counter() - began


def finetune(hyperparameters: dict[str, Any]) -> tuple[float, float]:
    """Accuracy of a run on test images, in per cent, and its seconds with everything."""
    import wandb_tl

    began = time.perf_counter()
    result = wandb_tl.fit(**hyperparameters)
    return result.test_accuracy, time.perf_counter() - began


if __name__ == "__main__":
    main()
