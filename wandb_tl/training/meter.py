"""The time and energy that a run takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wandb_tl.training import devices, distributed
from wandb_tl.training.checkpoints import Progress


class Meter:
    """Measures the time and energy of a run, and starts the measurement of its peak memory.

    The energy is that of the GPUs of all processes, the peak memory that of this one.
    """

    def __init__(self, device: torch.device) -> None:
        devices.reset_peak_memory(device)
        self._device = device
        self._began, self._energy = time.perf_counter(), devices.energy_wh(device)

    @property
    def seconds(self) -> float:
        """Seconds since the previous call of add_to, or since the start."""
        return time.perf_counter() - self._began

    def add_to(self, progress: Progress) -> None:
        """Add the time and energy since the previous call, or since the start."""
        now, energy = time.perf_counter(), devices.energy_wh(self._device)
        progress.seconds += now - self._began
        progress.energy_wh += distributed.total_of_number(energy - self._energy, self._device)
        self._began, self._energy = now, energy

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time and energy of the block."""
        began, energy = time.perf_counter(), devices.energy_wh(self._device)
        yield
        self._began += time.perf_counter() - began
        self._energy += devices.energy_wh(self._device) - energy
