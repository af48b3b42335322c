"""The figures and tables of a run, by media key, from its plain results."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import one_line
from wandb_tl.figures import contact_sheets, explain, run_figures
from wandb_tl.training import evaluate, models
from wandb_tl.training.datasets import Dataset
from wandb_tl.training.evaluate import Evaluation

EXAMPLES_SHOWN = 40
EXPLAINED = 8
PREDICTIONS_SHOWN = 64
# W&B's limit.
TABLE_ROWS = 10_000


def draw(
    config: RunConfig, data: Dataset, model: nn.Module, test: Evaluation, rows: list[dict[str, float]]
) -> dict[str, Figure]:
    """The figures of a run, by media key. rows: one row of metrics per finished epoch."""
    names, title = data.class_names, config.run_name
    examples = evaluate.one_of_each_class(test, config.seed)[:EXAMPLES_SHOWN]
    figures = {
        "confusion_matrix": run_figures.confusion_matrix(test.confusion, names, title),
        "examples": contact_sheets.examples(
            data.test.images[examples],
            _class_names(test.actual[examples], names),
            _class_names(test.predicted[examples], names),
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
    return figures | _explanations(config, data, model, test)


def tabulate(data: Dataset, test: Evaluation) -> dict[str, dict[str, list[Any]]]:
    """The tables of a run, by media key, each as columns of N values by name; an image is uint8 (C, H, W)."""
    names = data.class_names
    first = evaluate.confident_mistakes_first(test, PREDICTIONS_SHOWN)
    # Of too many images a random part is taken, and of too many confused pairs the most frequent.
    order = torch.randperm(len(test.actual), generator=torch.Generator().manual_seed(0))
    numbers = order[:TABLE_ROWS].sort().values
    cells = test.confusion.nonzero()
    frequency = test.confusion[cells[:, 0], cells[:, 1]].argsort(descending=True, stable=True)
    pairs = cells[frequency[:TABLE_ROWS].sort().values].tolist()
    return {
        "predictions": {
            **_file_names(data, first),
            "image": list(data.test.images[first]),
            "actual": _class_names(test.actual[first], names),
            "predicted": _class_names(test.predicted[first], names),
            "confidence": test.confidence[first].tolist(),
        },
        # The same images for every run, so that two runs can be compared image by image.
        "test_predictions": {
            **_file_names(data, numbers.tolist()),
            "number": numbers.tolist(),
            "actual": _class_names(test.actual[numbers], names),
            "predicted": _class_names(test.predicted[numbers], names),
            "confidence": test.confidence[numbers].tolist(),
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


def _file_names(data: Dataset, numbers: list[int]) -> dict[str, list[Any]]:
    """A column with the files of test images, if they come from files."""
    names = data.test.names
    return {"file": [names[number] for number in numbers]} if names else {}


def _class_names(labels: Tensor, names: list[str]) -> list[str]:
    return [names[label] for label in labels.tolist()]


def _explanations(config: RunConfig, data: Dataset, model: nn.Module, test: Evaluation) -> dict[str, Figure]:
    """Grad-CAM of a few predictions, and the feature maps of the layers for one image.

    These reach into the model. An architecture that does not allow that loses these figures and not the run.
    """
    figures: dict[str, Figure] = {}
    for name, explanation in (("grad_cam", _grad_cam), ("feature_maps", _feature_maps)):
        try:
            figures |= explanation(config, data, model, test)
        except Exception as error:
            # Each architecture may fail in its own way.
            print(f"{config.model_name} has no {name}: {type(error).__name__}: {one_line(error)[:200]}")
    return figures


def _grad_cam(config: RunConfig, data: Dataset, model: nn.Module, test: Evaluation) -> dict[str, Figure]:
    preprocess = models.preprocess(model, config.image_size, next(model.parameters()).device)
    chosen = evaluate.right_and_wrong(test, EXPLAINED, config.seed)
    heat = explain.grad_cam(model, preprocess(data.test.images[chosen]), test.predicted[chosen])
    if heat is None:
        return {}
    figure = contact_sheets.grad_cam(
        data.test.images[chosen],
        heat,
        _class_names(test.actual[chosen], data.class_names),
        _class_names(test.predicted[chosen], data.class_names),
        [f"{confidence:.0%}" for confidence in test.confidence[chosen].tolist()],
        config.run_name,
    )
    return {"grad_cam": figure}


def _feature_maps(config: RunConfig, data: Dataset, model: nn.Module, test: Evaluation) -> dict[str, Figure]:
    preprocess = models.preprocess(model, config.image_size, next(model.parameters()).device)
    # The same image for all recipes with this seed.
    one = data.test.images[evaluate.one_of_each_class(test, config.seed)[:1]]
    figures = {}
    for layer, maps in explain.feature_maps(model, preprocess(one)).items():
        count, height, width = maps.shape
        if height * width == 1:
            # A map of one pixel shows nothing.
            continue
        caption = f"{config.run_name}\n{layer}: {count} maps of {height} x {width} pixels"
        figures[f"feature_maps/{layer}"] = contact_sheets.feature_maps(one[0], maps, caption)
    return figures
