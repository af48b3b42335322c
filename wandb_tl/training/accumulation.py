"""The gradients of a batch, accumulated over parts of it if the whole batch does not fit the memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wandb_tl.config import RunConfig
from wandb_tl.training import distributed, mixing
from wandb_tl.training.devices import Autocast
from wandb_tl.training.inputs import Inputs
from wandb_tl.training.memory import Parts
from wandb_tl.training.objective import Objective

# BatchNorm in train mode needs two images.
SMALLEST_PART = 2

# Computes a module.
Forward = Callable[[Tensor], Tensor]


class TrainingStep:
    """Forward and backward pass of a batch of training images.

    forward: computes `trainable` for whole batches, perhaps compiled. `trainable` itself computes the parts
    of a batch, which have another shape.
    """

    def __init__(
        self,
        config: RunConfig,
        trainable: nn.Module,
        forward: Forward,
        inputs: Inputs,
        autocast: Autocast,
        scaler: torch.amp.GradScaler,
        objective: Objective,
    ) -> None:
        self._mixup, self._cutmix, self._classes = config.mixup, config.cutmix, objective.classes
        self._trainable, self._forward, self._inputs = trainable, forward, inputs
        self._autocast, self._scaler, self._objective = autocast, scaler, objective
        # The other processes would not know that this one computes its share in parts.
        together = distributed.computes_norms_together(trainable)
        self._parts = Parts("training", least=None if together else SMALLEST_PART)
        self._has_fit = False

    def __call__(self, index: Tensor, augmentation: str) -> tuple[Tensor, Tensor]:
        """Add the gradients of the mean loss of the images at `index` (N,) to those of the parameters.

        Returns that loss, a scalar, and the number of images whose label is predicted; of mixed images, the
        label with the larger share. Parts of the batch count by their number of images, so that the gradients
        are those of the whole batch.
        """
        restore = None if self._has_fit else _snapshot(self._trainable, index.device)

        def backward(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
            results = [self._backward(part, augmentation, len(part) / len(index)) for part in parts]
            losses, hits = zip(*results, strict=True)
            return torch.stack(losses).sum(), torch.stack(hits).sum()

        def undo() -> None:
            self._trainable.zero_grad(set_to_none=True)
            self._forward = self._trainable
            self._parts.effect = _effect(self._trainable)
            if restore:
                restore()

        result = self._parts.run(backward, index, undo)
        self._has_fit = True
        return result

    def whole(self, index: Tensor, augmentation: str) -> tuple[Tensor, Tensor]:
        """The same for a batch that fits the memory; otherwise torch.OutOfMemoryError."""
        if self._parts.limit is not None:
            raise torch.OutOfMemoryError("batches are computed in parts")
        return self._backward(index, augmentation, 1.0)

    def _backward(self, part: Tensor, augmentation: str, share: float) -> tuple[Tensor, Tensor]:
        with self._autocast():
            values, targets = self._mixed(self._inputs.batch(part, augmentation), part)
            logits = self._forward(values)
        loss = self._objective(logits.float(), targets) * share
        self._scaler.scale(loss).backward()
        labels = targets if targets.dim() == 1 else targets.argmax(1)
        return loss.detach(), (logits.detach().argmax(1) == labels).sum()

    def _mixed(self, values: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs and targets of a part, mixed if the recipe says so: targets are then (N, K)."""
        labels = self._inputs.labels[index]
        if not self._mixup and not self._cutmix:
            return values, labels
        targets = F.one_hot(labels, self._classes).float()
        return mixing.mix(values, targets, self._mixup, self._cutmix)


def _snapshot(module: nn.Module, device: torch.device) -> Callable[[], None]:
    """Gives back, when called, the module's buffers and the random numbers of the device as they are now.

    With them, a resumed run, whose first batch may not fit again, draws what an uninterrupted one draws.
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    # Images that do not fit a GPU are augmented on the CPU.
    state = torch.get_rng_state()
    gpu = None if device.type == "cpu" else torch.get_device_module(device)
    gpu_state = gpu.get_rng_state() if gpu else None

    def restore() -> None:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        torch.set_rng_state(state)
        if gpu:
            gpu.set_rng_state(gpu_state)

    return restore


def _effect(trainable: nn.Module) -> str:
    """What differs from a batch that is computed as a whole."""
    if any(isinstance(module, _BatchNorm) and module.training for module in trainable.modules()):
        return ", with one optimizer step; BatchNorm normalises each part by the statistics of that part"
    return ", with one optimizer step and the gradients of the whole batch"
