"""Hyperband: its rule, and the runs that it stops (https://arxiv.org/abs/1603.06560, section 3).

A band is a number of logged values of the sweep's metric. A run that reaches a band continues only if its
value there is among the best 1/eta of all runs that have reached it so far. The rules and their rounding are
those of W&B's own engine (https://github.com/wandb/sweeps, MIT). Values are to be minimized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.rows import SweepRow
from wandb_tl.local.records.run_states import IS_RUNNING
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.sweeps.sweep_config import EarlyTerminate, SweepConfig

MOST_BANDS = 100
# No run logs so many values.
LONGEST = 10**9
# The default in the schema of W&B's engine; older documentation says otherwise.
ETA = 3


@dataclass(frozen=True)
class Hyperband:
    """The rule of one sweep. `bands` ascend; `strict` judges by the value at a band, not the best so far."""

    bands: tuple[int, ...]
    eta: float
    strict: bool

    def threshold(self, values: list[float]) -> float:
        """The greatest value that a run may have at a band, given the values there of all runs."""
        return sorted(values)[int(1.0 / self.eta * len(values))]

    def band_of(self, count: int) -> int | None:
        """The last band that a run with so many values has reached, None before the first."""
        return max((band for band in self.bands if band <= count), default=None)

    def crossed(self, before: int, after: int) -> list[int]:
        """The bands that a run reaches when its number of values grows from `before` to `after`."""
        return [band for band in self.bands if before < band <= after]


def of_config(config: SweepConfig) -> Hyperband | None:
    """The rule that a sweep's config sets, None if it sets none. Raises RequestError for an invalid rule."""
    rule = config.get("early_terminate")
    if not rule:
        return None
    if not isinstance(rule, dict) or rule.get("type") != "hyperband":
        raise RequestError("early_terminate needs type: hyperband, the only type that there is")
    eta = _number(rule, "eta", ETA)
    if eta <= 1:
        raise RequestError(f"early_terminate: eta must be above 1, not {eta}")
    bands = _bands(rule, eta)
    if not bands:
        raise RequestError("early_terminate gives no band: raise max_iter, s or min_iter, or lower eta")
    return Hyperband(tuple(sorted(set(bands))), eta, rule.get("strict", True) is True)


def stop_bad_runs(db: Transaction, sweep: SweepRow, rule: Hyperband, band: int, sign: int) -> None:
    """Ask those running runs to stop whose last band this is and whose value misses its threshold."""
    reached = db.all(
        "SELECT value FROM run JOIN metric_value ON run_id = run.id WHERE sweep_id = ? AND number = ?",
        sweep["id"],
        band,
    )
    threshold = rule.threshold([sign * row["value"] for row in reached])
    candidates = db.all(
        "SELECT run.id, max(number) AS count, min(value * ?1) AS best,"
        " max(CASE WHEN number = ?2 THEN value * ?1 END) AS there"
        " FROM run JOIN metric_value ON run_id = run.id"
        f" WHERE sweep_id = ?3 AND {IS_RUNNING} AND NOT stop_requested GROUP BY run.id",
        sign,
        band,
        sweep["id"],
    )
    for run in candidates:
        judged = run["there"] if rule.strict else run["best"]
        # None where a line that was sent again has lost its value.
        if rule.band_of(run["count"]) == band and judged is not None and judged > threshold:
            db.update("run", run["id"], stop_requested=1, early_stopped=1)


def _bands(rule: EarlyTerminate, eta: float) -> list[int]:
    bands = []
    if "max_iter" in rule:
        if "s" not in rule:
            raise RequestError("early_terminate with max_iter needs s, the number of bands below it")
        band = _number(rule, "max_iter", 0)
        for _ in range(int(min(_number(rule, "s", 0), MOST_BANDS))):
            band /= eta
            if band < 1:
                break
            bands.append(int(band))
    elif "min_iter" in rule:
        band = _number(rule, "min_iter", 0)
        while 1 <= band <= LONGEST and len(bands) < MOST_BANDS:
            bands.append(int(band))
            band *= eta
    else:
        raise RequestError("early_terminate needs min_iter, or max_iter and s")
    return bands


def _number(rule: EarlyTerminate, name: str, default: float) -> float:
    value: Any = rule.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= LONGEST:
        raise RequestError(f"early_terminate: {name} must be a number up to {LONGEST:,}, not {value}")
    return value
