"""What the runs of one process share."""

from __future__ import annotations

from functools import cached_property

from wandb_tl.cache_folder import cache_dir, cache_limit
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import ImageCache
from wandb_tl.training.tensor_store import TensorStore


class ProcessCache:
    """The images and activations that a process keeps from one run to the next.

    A process creates one and passes it to each of its runs. Processes share the stored activations alone.
    """

    def __init__(self) -> None:
        self.images = ImageCache()

    @cached_property
    def activations(self) -> ActivationCache:
        """InputError if WANDB_TL_CACHE_GB is not a number of gigabytes."""
        return ActivationCache(TensorStore(cache_dir() / "activations", cache_limit()))
