"""The metric of a search, checked before the sweep exists: whether its runs log it, and on which images."""

from __future__ import annotations

from collections.abc import Callable

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, nearest
from wandb_tl.sweeping import sweep_definitions
from wandb_tl.sweeping.sweep_definitions import Definition, Metric

# What runs log after each epoch. Validation comes first: a mistyped name is rather one of its metrics.
OF_A_SPLIT = ("accuracy", "loss", "f1_macro", "ece")
EACH_EPOCH = (
    *(f"{split}/{name}" for split in ("val", "test") for name in OF_A_SPLIT),
    *("train/loss", "train/accuracy", "train/lr", "epoch"),
)
# What only runs with optimizer=probe log.
OF_PROBES = ("val/knn_accuracy", "test/knn_accuracy", "probe/penalty")
# Each class has one of its own.
BY_CLASS = ("val/accuracy_by_class/", "test/accuracy_by_class/")
# What runs log once, when they have trained.
AT_THE_END = (
    *("test_accuracy", "avg_train_loss", "avg_train_accuracy", "temperature"),
    *("train_seconds", "preparation_seconds", "frozen_seconds", "images_per_second"),
    *("peak_memory_mb", "energy_wh", "majority_share", "skipped_images"),
    *("train_images", "val_images", "test_images", "kept_epoch"),
)
# Higher is better in metrics with this in their name, lower in those with that.
HIGHER, LOWER = ("accuracy", "f1_macro", "images_per_second"), ("loss", "ece")
# Data sets by name that have a validation split of their own.
WITH_VALIDATION = ("flowers102",)

# Whether the pictures at a data_dir have a validation split.
HasValidation = Callable[[str], bool]


def check(definition: Definition, has_validation: HasValidation) -> list[str]:
    """Warnings about the metric by which a sweep searches or stops runs, one line each.

    InputError if its runs, or some of them, never log it. Sweeps that compare all their points, and those of
    other programs than wandb_tl.train, are not judged.
    """
    return [
        warning for metric in _metrics(definition) for warning in _check(metric, definition, has_validation)
    ]


def _check(metric: Metric, definition: Definition, has_validation: HasValidation) -> list[str]:
    name = metric["name"]
    if not (name in EACH_EPOCH + OF_PROBES + AT_THE_END or name.startswith((*BY_CLASS, "_"))):
        close = nearest(name, EACH_EPOCH + AT_THE_END)
        hint = f"did you mean {close}?" if close else f"runs log {', '.join(EACH_EPOCH[: len(OF_A_SPLIT)])}"
        raise InputError(f"metric: no run logs {name}; {hint}")
    if name.startswith("val/"):
        for config in sweep_definitions.data_configs(definition):
            if not has_validation_images(config, definition, has_validation):
                raise InputError(_without_validation(name, config))
    return [*_of_test_images(name), *_of_goal(metric), *_of_early_terminate(definition, name)]


def check_loaded(definition: Definition, config: RunConfig) -> None:
    """InputError for a search by validation images, if the loaded images of a config have none."""
    for metric in _metrics(definition):
        if metric["name"].startswith("val/"):
            raise InputError(_without_validation(metric["name"], config))


def _metrics(definition: Definition) -> list[Metric]:
    """The metrics by which a sweep searches or stops runs; none if it does neither, or is not judged.

    A function that sets the hyperparameters, see scheduler.search_space, may hold out validation images.
    """
    if "parameters" not in definition or not sweep_definitions.is_plain(definition):
        return []
    metric, several = definition.get("metric"), definition.get("metrics")
    uses = (
        definition.get("method") != "grid" or definition.get("early_terminate") or "target" in (metric or {})
    )
    listed = several if isinstance(several, list) else [metric]
    named = [one for one in listed if isinstance(one, dict) and isinstance(one.get("name"), str)]
    return named if uses else []


def has_validation_images(config: RunConfig, definition: Definition, has_validation: HasValidation) -> bool:
    """Whether a run has validation images, as far as is known before its images are loaded."""
    drawn = definition["parameters"].get("val_fraction", {"value": 0})
    if config.val_fraction or not {"value", "values"} & set(drawn):
        return True
    folds = definition["parameters"].get("fold", {"value": ""})
    if all(folds["values"] if "values" in folds else [folds.get("value")]):
        return True
    if config.dataset != "folder":
        return config.dataset in WITH_VALIDATION or config.dataset.startswith("hf:") or config.is_own_data
    return config.data_dir.startswith("artifact:") or has_validation(config.data_dir)


def _without_validation(name: str, config: RunConfig) -> str:
    images = config.data_dir or config.dataset
    return (
        f"metric: runs log {name} with validation images, and {images} has none; use --set val_fraction=0.2"
    )


def _of_test_images(name: str) -> list[str]:
    if not name.startswith("test"):
        return []
    return [
        f"the test images choose, because the metric is {name}, so the best recipe's test accuracy will look "
        "better than it is; use metric: {name: val/accuracy, goal: maximize} with val_fraction: {value: 0.2}"
    ]


def _of_goal(metric: Metric) -> list[str]:
    name, goal = metric["name"], metric.get("goal", "minimize")
    better = "maximize" if any(word in name for word in HIGHER) else ""
    better = better or ("minimize" if name.endswith(LOWER) else "")
    if better in ("", goal):
        return []
    return [f"the search prefers runs with a bad {name}; use metric: {{name: {name}, goal: {better}}}"]


def _of_early_terminate(definition: Definition, name: str) -> list[str]:
    if not definition.get("early_terminate") or name not in AT_THE_END:
        return []
    return [f"early_terminate has no effect: runs log {name} once, at their end; use val/accuracy"]
