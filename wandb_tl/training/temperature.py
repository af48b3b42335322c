"""Temperature scaling: the number that divides a model's logits so that its probabilities are calibrated.

Guo et al., On Calibration of Modern Neural Networks, 2017.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

# With lower ones an answer is all but certain, with higher ones all classes are about equally probable.
LOWEST, HIGHEST = 0.05, 20.0


def fit(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the lowest cross-entropy of logits (N, K) for labels (N,).

    It is between LOWEST and HIGHEST. It changes no predicted class, only the probabilities. 1 if there are no
    logits, or if some are not finite.
    """
    values, classes = logits.cpu().double(), labels.cpu()
    if not len(values) or not values.isfinite().all():
        return 1.0
    # Imported here: a run without validation images does not need it.
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        return F.cross_entropy(values / math.exp(log_temperature), classes).item()

    # The cross-entropy is convex in 1 / temperature, so that it has one minimum over the logarithm as well.
    bounds = (math.log(LOWEST), math.log(HIGHEST))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x)
