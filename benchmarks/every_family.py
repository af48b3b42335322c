"""python benchmarks/every_family.py [FAMILY ...]: whether each timm family trains, predicts and exports.

It takes the smallest model of each family with random weights, at the first size that it accepts, and trains
it for one epoch on 32 images of Fashion-MNIST: the head alone, then the last stage as well. It saves the
model, loads it, compares its predictions with those of the run, draws the figures, and exports it as ONNX. It
prints one row of a Markdown table per family, and the reason for what did not work.
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import tempfile
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import wandb

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.figures import media
from wandb_tl.predicting.run_network import RunNetwork, framing
from wandb_tl.training import datasets, loop, model_folder, models
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.process_cache import ProcessCache

SIZES = (64, 96, 128, 160, 192, 224, 256, 336)
# Models with more parameters are built with two blocks if they take that argument.
LARGEST = 60e6
SHALLOW = "depth=2"
COLUMNS = ("family", "model", "px", "head", "last stage", "predicts", "figures", "ONNX", "why not")
CPU = torch.device("cpu")


@dataclass
class Row:
    """The row of a family. why: the reasons for what did not work."""

    family: str
    model: str
    px: str = ""
    results: dict[str, str] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)

    def attempt(self, column: str, action: Any) -> Any:
        """The result of an action, or None; sets the column, and the reason unless it worked."""
        try:
            result = action()
        except InputError as error:
            self.results[column] = "refused"
            self.why.append(f"{column}: {error}")
        except Exception as error:
            self.results[column] = "FAILED"
            self.why.append(f"{column}: {type(error).__name__}: {one_line(error)[:200]}")
        else:
            self.results[column] = "yes"
            return result
        return None

    def __str__(self) -> str:
        results = (self.results.get(column, "") for column in COLUMNS[3:-1])
        why = "; ".join(dict.fromkeys(self.why)).replace("|", "/")
        return "| " + " | ".join([self.family, f"`{self.model}`", self.px, *results, why]) + " |"


def smallest(family: str) -> tuple[str, int]:
    """The model of a family with the fewest parameters, and their number."""
    counts = {}
    for name in timm.list_models(module=family):
        with torch.device("meta"):
            counts[name] = sum(weight.numel() for weight in timm.create_model(name).parameters())
    return min(counts.items(), key=lambda pair: pair[1])


def accepted(name: str, parameters: int) -> dict[str, Any]:
    """Hyperparameters with the first size that the model accepts. InputError if there is none."""
    if parameters > LARGEST:
        with suppress(InputError):
            return accepted_with(name, SHALLOW)
    return accepted_with(name, "")


def accepted_with(name: str, model_kwargs: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "model_name": name,
        "pretrained": False,
        "model_kwargs": model_kwargs,
        "epochs": 1,
        "batch_size": 16,
        "train_limit": 32,
        "test_limit": 32,
        "precision": "fp32",
    }
    own = int(timm.get_pretrained_cfg(name).input_size[-1])
    for size in (*SIZES, own):
        try:
            models.build(RunConfig(**options, image_size=size), 10)
        except InputError as error:
            refusal = error
            if not str(error).startswith("image_size"):
                break
        else:
            return options | {"image_size": size}
    raise refusal


def train(config: RunConfig, data: Dataset) -> tuple[Any, Any, str]:
    """The model and result of a run, and what it printed."""
    model = models.build(config, len(data.class_names))
    printed = io.StringIO()
    with wandb.init(mode="disabled") as run, redirect_stdout(printed):
        result = loop.train(config, data, model, CPU, run, lambda *_: {}, ProcessCache().activations)
        result.checkpoint.discard()
    return model, result, printed.getvalue()


def predict(config: RunConfig, data: Dataset, model: Any, result: Any, folder: Path) -> Any:
    """Save the model, load it, and compare its predictions with the last test of the run."""
    description = ModelDescription(config, data.class_names, precision="fp32")
    model_folder.save(folder, model, description)
    trained = model_folder.load(folder)
    network = RunNetwork(trained, CPU)
    confidence, predicted = network(data.test.images).softmax(1).max(1)
    if not torch.equal(predicted, result.test.predicted):
        raise RuntimeError("the loaded model predicts other classes than the run")
    difference = (confidence - result.test.confidence).abs().max().item()
    if difference > 1e-5 and difference > 2 * rounding(trained.network, config, data, confidence):
        raise RuntimeError(f"the loaded model's probabilities differ by {difference:.1e}")
    return trained


@torch.no_grad()
def rounding(model: Any, config: RunConfig, data: Dataset, confidence: torch.Tensor) -> float:
    """How far the confidence is from that in double precision: deep random networks amplify rounding."""
    pixels = models.preprocess(model, config.image_size, CPU)(data.test.images)
    exact = copy.deepcopy(model).double()(pixels.double()).softmax(1).amax(1)
    return (exact - confidence).abs().max().item()


def draw(config: RunConfig, data: Dataset, model: Any, result: Any, row: Row) -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        figures = media.draw(config, data, model, result.test, result.progress.rows)
    row.why += [line.partition(" has ")[2] for line in printed.getvalue().splitlines()]
    explained = [name for name in figures if name.startswith(("grad_cam", "feature_maps"))]
    if not explained:
        raise InputError("neither Grad-CAM nor feature maps")
    if "grad_cam" not in explained and "no grad_cam" not in printed.getvalue():
        row.why.append("figures: no layer has a map for Grad-CAM")


def export(trained: Any, folder: Path) -> None:
    from wandb_tl.exporting.export import export as write

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        write(trained, framing(trained.description.config), "model", "onnx", folder)


def row_of(family: str, data: Dataset, exports: bool) -> Row:
    name, parameters = smallest(family)
    row = Row(family, name)
    options = row.attempt("head", partial(accepted, name, parameters))
    if options is None:
        return row
    row.px = str(options["image_size"])
    if options["model_kwargs"]:
        row.model += f" {options['model_kwargs']}"
    with tempfile.TemporaryDirectory() as cache:
        os.environ["WANDB_TL_CACHE"] = cache
        head = RunConfig(**options)
        finished = row.attempt("head", partial(train, head, data))
        if finished and "cannot be cut" in finished[2]:
            row.results["head"] = "yes, not cut"
        config, column = RunConfig(**options, finetuning=True), "last stage"
        deeper = row.attempt(column, partial(train, config, data))
        if deeper is None and row.results[column] == "refused":
            config = RunConfig(**options, finetuning=True, unfreeze="all")
            deeper = row.attempt(column, partial(train, config, data))
            row.results[column] = "all stages" if deeper else "FAILED"
        elif deeper and "cannot be cut" in deeper[2]:
            row.results[column] = "yes, not cut"
        if deeper is None:
            deeper, config = finished, head
        if deeper is None:
            return row
        model, result, _ = deeper
        row.attempt("figures", partial(draw, config, data, model, result, row))
        trained = row.attempt("predicts", partial(predict, config, data, model, result, Path(cache, "model")))
        if trained and exports:
            row.attempt("ONNX", partial(export, trained, Path(cache, "onnx")))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="*", help="modules of timm.models (default: all)")
    parser.add_argument("--no-export", action="store_true", help="leave the column ONNX empty")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    # The images come from the user's cache; what runs store goes into a cache of their own.
    data = datasets.load(RunConfig(batch_size=16, train_limit=32, test_limit=32))
    print(f"| {' | '.join(COLUMNS)} |\n|{':--|' * len(COLUMNS)}", flush=True)
    began, counts = time.monotonic(), {"yes": 0}
    for family in options.family or timm.list_modules():
        row = row_of(family, data, not options.no_export)
        counts["yes"] += row.results.get("predicts") == "yes"
        print(row, flush=True)
    print(f"\n{counts['yes']} families train and predict; {time.monotonic() - began:,.0f} s", flush=True)


if __name__ == "__main__":
    main()
