"""Whether an exported file gives the same probabilities as the trained network, and how fast it is."""

from __future__ import annotations

import time

import numpy as np
import timm
import torch
from torch import Tensor

from wandb_tl.errors import InputError, one_line
from wandb_tl.exporting.formats import example, quiet
from wandb_tl.exporting.whole_network import WholeNetwork
from wandb_tl.predicting.exported_network import ExportedNetwork

# The largest difference of a probability.
TOLERANCE = 1e-4
# An exporter may take the batch size of its example for a constant, so several are tried.
BATCH_SIZES = (1, 8)
# A forward pass is timed so often, or so long in seconds if the network is large.
TIMED_PASSES, TIMED_SECONDS = 8, 2.0


class Comparison:
    """An exported network whose probabilities are compared with the trained one's whenever it computes."""

    def __init__(self, exported: ExportedNetwork, whole: WholeNetwork) -> None:
        self.batch_size = exported.batch_size
        self._exported, self._whole = exported, whole
        self._differences: list[float] = []

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, K) of the exported network for uint8 images (N, 3, size, size)."""
        logits, probabilities = self._exported.outputs(images)
        expected = self._whole(images)[1]
        if probabilities.shape != expected.shape:
            raise InputError(
                f"the exported network gives {tuple(probabilities.shape)} for {len(images)} images, not "
                f"{tuple(expected.shape)}"
            )
        self._differences.append((probabilities - expected).abs().max().item())
        return logits

    def try_random_images(self) -> None:
        """Compare on batches of several sizes. InputError if the exported network cannot compute one."""
        for count in BATCH_SIZES:
            try:
                self(example(self._whole, count))
            except InputError:
                raise
            except Exception as error:
                # The libraries raise errors of their own, without a common class.
                raise InputError(
                    f"the exported network cannot compute a batch of {count} ({one_line(error)[:200]})"
                ) from error

    @property
    def largest(self) -> float:
        """The largest difference of a probability so far; NaN if one is not a number."""
        return float(np.max(self._differences))

    def require(self) -> None:
        """InputError unless the two networks agree."""
        if not self.largest <= TOLERANCE:
            raise InputError(
                f"the exported network has other probabilities (by up to {self.largest:.1e}, at most "
                f"{TOLERANCE:.0e} is allowed)"
            )


def milliseconds_per_image(exported: ExportedNetwork, whole: WholeNetwork) -> dict[int, float]:
    """Shortest time of a forward pass by batch size, divided by it. Other programs only make it longer."""
    fastest = {}
    for count in BATCH_SIZES:
        images = example(whole, count)
        seconds: list[float] = []
        while len(seconds) < TIMED_PASSES and sum(seconds) < TIMED_SECONDS:
            start = time.perf_counter()
            exported.outputs(images)
            seconds.append(time.perf_counter() - start)
        fastest[count] = 1000 * min(seconds) / count
    return fastest


@torch.inference_mode()
def check_timm_folder(folder: str, whole: WholeNetwork) -> None:
    """InputError unless timm.create_model loads a folder as a network with the same logits."""
    pixels = whole.inputs(example(whole, 2))
    try:
        with quiet():
            logits = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(pixels)
    except Exception as error:
        # timm passes on every error of a network's code.
        raise InputError(f"timm cannot load the folder ({one_line(error)[:200]})") from error
    difference = (logits.softmax(1) - whole.network(pixels).softmax(1)).abs().max().item()
    if not difference <= TOLERANCE:
        raise InputError(f"timm loads another network from the folder (by {difference:.1e})")
