"""A whole run in this process, with W&B disabled. Its model goes below the current folder."""

from __future__ import annotations

import torch
import wandb

from wandb_tl import train
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets, models
from wandb_tl.training.process_cache import ProcessCache


def train_here(
    data: datasets.Dataset, run_id: str | None = None, cache: ProcessCache | None = None, **options
) -> dict:
    """Train with W&B disabled; returns the summary. cache: that of earlier runs, else as in a new process."""
    config = RunConfig(
        **{
            "model_name": "tf_efficientnet_lite0",
            "image_size": 32,
            "epochs": 2,
            "precision": "fp32",
            "finetuning": True,
            "optimizer": "SGD",
            "lr": 0.01,
            "weight_decay": 0.0,
        }
        | options
    )
    model = models.build(config, len(data.class_names))
    with wandb.init(mode="disabled", id=run_id) as run:
        ready = train.Prepared(config, data, model, torch.device("cpu"))
        finished = train.train_and_log(ready, run, cache or ProcessCache())
        finished.result.checkpoint.discard()
        return dict(run.summary)
