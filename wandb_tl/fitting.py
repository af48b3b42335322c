"""One run from Python: `wandb_tl.fit`, by itself, in a notebook, or as the function of `wandb.agent`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from wandb_tl.cache_folder import cache_limit
from wandb_tl.config import RunConfig, check_names, check_value, with_dataset_of_folder
from wandb_tl.errors import InputError
from wandb_tl.hyperparameters import Value

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure
    from torch import nn

    from wandb_tl.predicting.classifier import Classifier
    from wandb_tl.train import Finished, Prepared
    from wandb_tl.training.model_folder import TrainedModel

# Called after every epoch with its metrics by their names in W&B, such as "test/accuracy".
OnEpoch = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class FitResult:
    """The result of a run.

    config: its hyperparameters. run: ENTITY/PROJECT/RUN_ID, or models/RUN_ID if W&B is offline or disabled.
    url: of the run's page; None without a server. metrics: one row per epoch, by the names in W&B; losses in
    nats, accuracies between 0 and 1. confusion: numbers of test images, actual classes by predicted ones.
    figures: by their names in W&B. test_accuracy: in per cent. train_seconds: of training and evaluation.
    """

    config: RunConfig
    run: str
    url: str | None
    metrics: pd.DataFrame
    confusion: pd.DataFrame
    figures: dict[str, Figure]
    test_accuracy: float
    train_seconds: float
    _trained: TrainedModel
    _device: torch.device

    @cached_property
    def model(self) -> Classifier:
        """The trained model: `result.model(["a.jpg", image, array])` gives a list of predictions."""
        from wandb_tl.predicting.classifier import Classifier
        from wandb_tl.predicting.run_network import RunNetwork, framing

        network = RunNetwork(self._trained, self._device)
        return Classifier(network, self._trained.description, framing(self.config))

    def __repr__(self) -> str:
        return f"FitResult({self.run}: test accuracy {self.test_accuracy:.2f} %)"

    def _repr_html_(self) -> str:
        from wandb_tl.figures.html import figure_as_html, table_as_html

        address = f'<a href="{self.url}" target="_blank">{self.run}</a>' if self.url else self.run
        columns = [name for name in self.metrics.columns if "accuracy_by_class" not in str(name)]
        return (
            f"<p><b>{self.test_accuracy:.2f} %</b> of the test images are right. {address}</p>"
            f"{table_as_html(self.metrics[columns].reset_index())}"
            f"{figure_as_html(self.figures['confusion_matrix'], 'Confusion matrix')}"
        )


def fit(
    data: Any = None,
    model: nn.Module | None = None,
    head: str = "",
    on_epoch: OnEpoch | None = None,
    **hyperparameters: Value,
) -> FitResult:
    """Train one model by one recipe, log it to W&B, and return the result.

    hyperparameters: as in `RunConfig`; what is not named has its default. As the function of `wandb.agent`,
    or with a run that `wandb.init` has opened, it takes the values of the sweep or of the run as well. An
    open run stays open; otherwise the run is over when `fit` returns.

    data: your own images, see training/own_data.py for the forms; instead of `dataset` and `data_dir`. model:
    your own network, from images (N, 3, S, S) with ImageNet's mean and deviation to logits, instead of
    `model_name`; it is copied, and its layer named `head` replaced if it is a Linear layer for another
    number of classes. on_epoch: called after every epoch with its metrics.

    InputError, which is a ValueError, for hyperparameters, data or a model that cannot be used. An
    interrupted run resumes from its last saved epoch if `fit` is called again in it:
    `with wandb.init(id=RUN_ID, resume="must"): wandb_tl.fit()`.
    """
    from wandb_tl import train
    from wandb_tl.training import own_model, run_lifecycle, tracking
    from wandb_tl.training.process_cache import shared_cache

    try:
        if data is not None and {"dataset", "data_dir"} & set(hyperparameters):
            raise InputError("data: takes the place of dataset and data_dir; give one of them")
        if model is not None and "model_name" in hyperparameters:
            raise InputError("model: takes the place of model_name; give one of them")
        if head and model is None:
            raise InputError("head: names the classifier of your own model; give it as model")
        cache_limit()
        cache = shared_cache()
        own = train.OwnInputs(
            None if data is None else cache.own_data.get(data, os.environ.get("WANDB_SWEEP_ID", "")),
            None if model is None else own_model.OwnModel(model, head),
        )
        config = config_of(hyperparameters, run_lifecycle.values_of_run(), own.names)
        ready = train.prepare(config, cache, own)
    except InputError:
        run_lifecycle.fail_handed_out_run()
        raise
    with run_lifecycle.start(config) as run:
        finished = train.train_and_log(ready, run, cache, _after_epoch(on_epoch))
        name, url = tracking.path_on_server(run), run.url
    finished.result.checkpoint.discard()
    return _result(ready, finished, name or str(train.MODELS / run.id), url if name else None)


def config_of(
    call: Mapping[str, Value], run: Mapping[str, Any], own: Mapping[str, Value] | None = None
) -> RunConfig:
    """The hyperparameters of a call and of the run that it is called in.

    own: the hyperparameters that name the data and the model of the call. InputError for an unknown name, a
    value that is not allowed, or one that the run and the call give differently.
    """
    values: dict[str, Any] = with_dataset_of_folder(dict(run))
    for name, value in (*with_dataset_of_folder(dict(call)).items(), *(own or {}).items()):
        check_names([name])
        if name in values and check_value(name, values[name]) != check_value(name, value):
            raise InputError(f"{name}: the run or its sweep says {values[name]}, and the call says {value}")
        values[name] = value
    return RunConfig.from_mapping(values)


def _after_epoch(on_epoch: OnEpoch | None) -> OnEpoch:
    def after_epoch(row: dict[str, float]) -> None:
        if on_epoch is not None:
            on_epoch(row)
        # wandb.agent stops a run by raising an exception somewhere in its thread. Code that goes on after
        # any exception, as the drawing of figures does, may have swallowed it.
        if getattr(threading.current_thread(), "_terminated", False):
            raise StoppedError("the agent has stopped this run")

    return after_epoch


class StoppedError(Exception):
    """The agent of a sweep has stopped the run of this thread."""


def _result(ready: Prepared, finished: Finished, run: str, url: str | None) -> FitResult:
    import pandas as pd

    from wandb_tl.training.model_folder import TrainedModel

    test, names = finished.result.test, ready.data.class_names
    return FitResult(
        config=ready.config,
        run=run,
        url=url,
        metrics=pd.DataFrame(finished.result.progress.rows).set_index("epoch"),
        confusion=pd.DataFrame(
            test.confusion.numpy(), pd.Index(names, name="actual"), pd.Index(names, name="predicted")
        ),
        figures=finished.figures,
        test_accuracy=test.percent,
        train_seconds=finished.result.progress.seconds,
        _trained=TrainedModel(ready.model.eval(), finished.description),
        _device=ready.device,
    )
