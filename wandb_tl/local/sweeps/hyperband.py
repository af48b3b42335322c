"""Hyperband: which runs are too bad to go on (https://arxiv.org/abs/1603.06560, section 3).

A band is a number of logged values of the sweep's metric. A run that reaches one goes on only if its value
there is among the best 1/eta of all runs that have come so far. The rules, down to the rounding, are those of
W&B's own engine (https://github.com/wandb/sweeps, MIT); values are to be minimized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row

MOST_BANDS = 100
# No run logs so many values.
LONGEST = 10**9


@dataclass(frozen=True)
class Hyperband:
    """The rule of one sweep. `bands` ascend; `strict` judges by the value at a band, not the best so far."""

    bands: tuple[int, ...]
    eta: float
    strict: bool

    def threshold(self, values: list[float]) -> float:
        """What a run may have at a band at most, by the values there of all runs that reached it."""
        return sorted(values)[int(1.0 / self.eta * len(values))]

    def band_of(self, count: int) -> int | None:
        """The last band that a run with so many values has reached, None before the first."""
        return max((band for band in self.bands if band <= count), default=None)

    def crossed(self, before: int, after: int) -> list[int]:
        """The bands that a run reaches when its values grow from one number to another."""
        return [band for band in self.bands if before < band <= after]


def of_config(config: Row) -> Hyperband | None:
    """The rule that a sweep's config asks for, None if for none. RequestError for a rule without any band."""
    asked = config.get("early_terminate")
    if not asked:
        return None
    if not isinstance(asked, dict) or asked.get("type") != "hyperband":
        raise RequestError("early_terminate needs the type hyperband, which is the only one")
    # The default of the engine's schema, whatever older documentation says.
    eta, strict = _number(asked, "eta", 3), asked.get("strict", True)
    if eta <= 1:
        raise RequestError("early_terminate: eta must be above 1")
    if "max_iter" in asked:
        if "s" not in asked:
            raise RequestError("early_terminate with max_iter needs s, the number of bands below it")
        bands, band = [], _number(asked, "max_iter", 0)
        for _ in range(int(min(_number(asked, "s", 0), MOST_BANDS))):
            band /= eta
            if band < 1:
                break
            bands.append(int(band))
    elif "min_iter" in asked:
        bands, band = [], _number(asked, "min_iter", 0)
        while 1 <= band <= LONGEST and len(bands) < MOST_BANDS:
            bands.append(int(band))
            band *= eta
    else:
        raise RequestError("early_terminate needs min_iter, or max_iter and s")
    if not bands:
        raise RequestError("early_terminate gives no band: raise max_iter, s or min_iter, or lower eta")
    return Hyperband(tuple(sorted(set(bands))), eta, strict is True)


def _number(asked: Row, name: str, default: float) -> float:
    value: Any = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LONGEST:
        raise RequestError(f"early_terminate: {name} must be a number up to {LONGEST:,}, not {value}")
    return value
