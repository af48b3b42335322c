"""Plain results -> the figures and tables of a run, by media key."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.figures import contact_sheets, explain, run_figures
from wandb_tl.training import evaluate, models
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.evaluate import Evaluation

EXAMPLES_SHOWN = 40
EXPLAINED = 8
PREDICTIONS_SHOWN = 64
# As many as W&B takes.
TABLE_ROWS = 10_000


def draw(
    config: RunConfig, data: Dataset, model: nn.Module, test: Evaluation, rows: list[dict[str, float]]
) -> dict[str, Figure]:
    """The figures of a run after as many epochs as it has rows, by media key."""
    names, title = data.class_names, config.run_name
    shown = evaluate.one_of_each_class(test, config.seed)[:EXAMPLES_SHOWN]
    drawn = {
        "confusion_matrix": run_figures.confusion_matrix(test.confusion, names, title),
        "examples": contact_sheets.examples(
            data.test.images[shown],
            _named(test.actual[shown], names),
            _named(test.predicted[shown], names),
            title,
        ),
        "class_report": run_figures.class_report(
            test.precision_by_class,
            test.accuracy_by_class,
            test.f1_by_class,
            test.images_by_class,
            names,
            title,
        ),
        "reliability": run_figures.reliability(evaluate.reliability_bins(test), test.ece, title),
        "curves": run_figures.curves(rows, title),
    }
    return drawn | _what_it_sees(config, data, model, test)


def tabulate(data: Dataset, test: Evaluation) -> dict[str, dict[str, list[Any]]]:
    """The tables of a run, by media key, each as named columns of N values; an image is uint8 (C, H, W)."""
    names = data.class_names
    shown = evaluate.confident_mistakes_first(test, PREDICTIONS_SHOWN)
    # What a Table has no room for is left out at random, and of the confused pairs the rarest.
    order = torch.randperm(len(test.actual), generator=torch.Generator().manual_seed(0))
    kept = order[:TABLE_ROWS].sort().values
    pairs = test.confusion.nonzero()
    often = test.confusion[pairs[:, 0], pairs[:, 1]].argsort(descending=True, stable=True)
    pairs = pairs[often[:TABLE_ROWS].sort().values].tolist()
    return {
        "predictions": {
            "image": list(data.test.images[shown]),
            "actual": _named(test.actual[shown], names),
            "predicted": _named(test.predicted[shown], names),
            "confidence": test.confidence[shown].tolist(),
        },
        # The same images of every run, so that two can be compared image by image.
        "test_predictions": {
            "number": kept.tolist(),
            "actual": _named(test.actual[kept], names),
            "predicted": _named(test.predicted[kept], names),
            "confidence": test.confidence[kept].tolist(),
        },
        "confusion_counts": {
            "actual": [names[row] for row, _ in pairs],
            "predicted": [names[column] for _, column in pairs],
            "count": [int(test.confusion[row, column]) for row, column in pairs],
        },
        "class_report_table": {
            "class": names,
            "images": test.images_by_class,
            "precision": test.precision_by_class,
            "recall": test.accuracy_by_class,
            "f1": test.f1_by_class,
        },
    }


def _named(labels: Tensor, names: list[str]) -> list[str]:
    return [names[label] for label in labels.tolist()]


def _what_it_sees(config: RunConfig, data: Dataset, model: nn.Module, test: Evaluation) -> dict[str, Figure]:
    """Where the model found what speaks for its predictions, and the maps of its layers for one image."""
    device = next(model.parameters()).device
    preprocess = models.preprocess(model, config.image_size, device)
    title = config.run_name
    drawn = {}
    shown = evaluate.right_and_wrong(test, EXPLAINED, config.seed)
    heat = explain.grad_cam(model, preprocess(data.test.images[shown]), test.predicted[shown])
    if heat is not None:
        drawn["grad_cam"] = contact_sheets.grad_cam(
            data.test.images[shown],
            heat,
            _named(test.actual[shown], data.class_names),
            _named(test.predicted[shown], data.class_names),
            [f"{confidence:.0%}" for confidence in test.confidence[shown].tolist()],
            title,
        )
    # The same for all recipes of a seed.
    one = data.test.images[evaluate.one_of_each_class(test, config.seed)[:1]]
    for layer, maps in explain.feature_maps(model, preprocess(one)).items():
        count, height, width = maps.shape
        if height * width == 1:
            # One colour each shows nothing.
            continue
        about = f"{title}\n{layer}: {count} maps of {height} x {width} pixels"
        drawn[f"feature_maps/{layer}"] = contact_sheets.feature_maps(one[0], maps, about)
    return drawn
