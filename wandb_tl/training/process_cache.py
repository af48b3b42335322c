"""What the runs of one process share."""

from __future__ import annotations

from functools import cache, cached_property

from wandb_tl.cache_folder import cache_dir, cache_limit
from wandb_tl.training.activation_cache import ActivationCache
from wandb_tl.training.datasets import ImageCache
from wandb_tl.training.own_data import OwnDataCache
from wandb_tl.training.tensor_store import TensorStore


class ProcessCache:
    """The images and activations that a process keeps from one run to the next.

    A process creates one and passes it to each of its runs. Processes share what is on disk alone.
    """

    @cached_property
    def store(self) -> TensorStore:
        """The tensors on disk. InputError if WANDB_TL_CACHE_GB is not a number of gigabytes."""
        return TensorStore(cache_dir() / "tensors", cache_limit())

    @cached_property
    def own_data(self) -> OwnDataCache:
        return OwnDataCache()

    @cached_property
    def images(self) -> ImageCache:
        return ImageCache(self.store)

    @cached_property
    def activations(self) -> ActivationCache:
        return ActivationCache(self.store)


@cache
def shared_cache() -> ProcessCache:
    """The cache of all runs that this process does by itself, as in a notebook."""
    return ProcessCache()
