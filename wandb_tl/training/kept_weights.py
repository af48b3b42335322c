"""Which weights a run tests and keeps: the last ones, their moving average, or those of its best epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wandb_tl.config import RunConfig


class MovingAverage:
    """The exponential moving average of a module's weights and buffers; its first step copies them."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)

    def update(self) -> None:
        """Move the average towards the present weights, after an optimizer step."""
        self._average.update_parameters(self._module)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the module the average for the block, and its own weights back afterwards."""
        own = copy_of(self._module)
        self.apply()
        try:
            yield
        finally:
            self._module.load_state_dict(own)

    def apply(self) -> None:
        """Give the module the average."""
        self._module.load_state_dict(self._average.module.state_dict())

    def state_dict(self) -> dict[str, Any]:
        return self._average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._average.load_state_dict(state)


class BestEpoch:
    """The weights of the epoch that is best on validation images. epoch: its number, 0 before the first."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._weights: dict[str, Tensor] = {}
        self.epoch = 0

    def consider(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Copy the module's weights if the last of these rows of metrics is the best."""
        if best_place(rows) == len(rows) - 1:
            self._weights, self.epoch = copy_of(self._module), len(rows)

    def apply(self) -> None:
        """Give the module the weights of the best epoch."""
        self._module.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self._weights = state["epoch"], state["weights"]


def best_place(rows: Sequence[Mapping[str, float]]) -> int:
    """The place of the row with the best validation accuracy; of equal ones that with the lowest loss."""
    quality = [(row["val/accuracy"], -row["val/loss"]) for row in rows]
    return quality.index(max(quality))


def is_over(config: RunConfig, rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether a run has trained all of its epochs, or enough of them without a better one.

    Epochs in which the classifier trains alone do not count: what is to be finetuned has not begun.
    """
    if len(rows) >= config.epochs_in_effect:
        return True
    if config.patience == 0 or config.is_probe or not rows:
        return False
    head_epochs = config.head_epochs if config.finetuning else 0
    return len(rows) - max(best_place(rows) + 1, head_epochs) >= config.patience


def copy_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
