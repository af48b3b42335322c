"""What the runs of each recipe took: medians of time, memory and energy, and when not to compare them."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from wandb_tl.analysis.formatting import seconds

# Runs of one recipe whose times differ by more than this factor did not have the machine for themselves.
UNEVEN = 1.5
# What makes one run of a row slower than others.
OTHER_WORK = "Other work on the machine explains that"
FIRST_RUN = "a first run, which computes the outputs of the frozen layers that later runs read from the cache"
# Shorter times differ by this factor for no reason.
LEAST_SECONDS = 5
# Columns that tell what a run took before its first epoch. Runs of earlier versions have the second, or none.
PREPARATION = ("preparation_seconds", "frozen_seconds")


@dataclass(frozen=True)
class Price:
    """What a run of a recipe takes: medians over its runs, NaN where no run tells.

    seconds: of training and evaluation, without start and uploads, and without what runs share: preparing the
    frozen layers. slowest: seconds of its slowest run.
    memory_mb: peak memory in MB. energy_wh: energy in Wh. runs: how many runs it has.
    """

    seconds: float
    slowest: float
    images_per_second: float
    memory_mb: float
    energy_wh: float
    runs: int


@dataclass(frozen=True)
class FrozenPass:
    """The pass through the frozen layers, whose outputs runs share.

    seconds: of all runs together. computing: how many of the runs computed outputs.
    """

    seconds: float
    computing: int
    runs: int

    @property
    def by_each_run(self) -> bool:
        return self.computing == self.runs


def prices(frame: pd.DataFrame, recipes: pd.DataFrame) -> list[Price]:
    """The price of each recipe of runs_by_recipe.recipes(frame), in its order."""
    by_id = frame.set_index("id")
    by_id["seconds"] = by_id["train_seconds"] - _preparation(by_id).fillna(0)
    runs = [by_id.loc[list(ids)] for ids in recipes["runs"]]
    return [
        Price(
            float(run["seconds"].median()),
            float(run["seconds"].max()),
            float(run["images_per_second"].median()),
            float(run["peak_memory_mb"].median()),
            float(run["energy_wh"].median()),
            len(run),
        )
        for run in runs
    ]


def _preparation(frame: pd.DataFrame) -> pd.Series:
    """Seconds of each run before its first epoch, or as much of them as runs of earlier versions tell."""
    seconds = pd.Series(math.nan, frame.index)
    for name in PREPARATION:
        if name in frame:
            seconds = seconds.fillna(frame[name])
    return seconds


def notes(frame: pd.DataFrame, table: list[Price]) -> list[str]:
    """What to know before prices are compared, in sentences."""
    sentences = []
    devices = sorted(set(frame["device"].dropna()) - {""})
    if len(devices) > 1:
        sentences.append(f"The runs were timed on different devices: {', '.join(devices)}.")
    ratios = {
        row: one.slowest / one.seconds for row, one in enumerate(table, 1) if one.slowest > LEAST_SECONDS
    }
    row, ratio = max(ratios.items(), key=lambda item: item[1], default=(0, 0.0))
    if ratio > UNEVEN:
        reasons = OTHER_WORK if _leaves_out_preparation(frame) else f"{OTHER_WORK}, or {FIRST_RUN}"
        times = f"{ratio:.1f} times as long as the median of its runs"
        sentences.append(f"The slowest run of row {row} took {times}. {reasons}.")
    return sentences


def scope(frame: pd.DataFrame) -> str:
    """What the seconds of a price are of, in a sentence."""
    left_out = "start and uploads"
    if _leaves_out_preparation(frame):
        left_out = "start, uploads and preparing the frozen layers"
    return f"Seconds in the table are of training and evaluation, without {left_out}."


def _leaves_out_preparation(frame: pd.DataFrame) -> bool:
    return bool(_preparation(frame).notna().all())


def frozen_pass(frame: pd.DataFrame) -> FrozenPass | None:
    """The pass of the runs through the frozen layers; None if no run tells that it computed one."""
    # Runs of earlier versions do not tell.
    times = frame["frozen_seconds"].dropna() if "frozen_seconds" in frame else pd.Series(dtype=float)
    if (computing := int((times > 0).sum())) == 0:
        return None
    return FrozenPass(float(times.sum()), computing, len(frame))


def has_frozen_layers(frame: pd.DataFrame, runs: Collection[str]) -> bool:
    """Whether one of the runs, by id, tells that it prepared frozen layers."""
    return bool((_preparation(frame[frame["id"].isin(runs)]) > 0).any())


def frozen_layers(frame: pd.DataFrame) -> str:
    """What the one pass through the frozen layers took, in a sentence; "" if no run computed one."""
    if (one_pass := frozen_pass(frame)) is None:
        return ""
    runs = "1 run" if one_pass.runs == 1 else f"{one_pass.runs:,} runs"
    if one_pass.by_each_run:
        if one_pass.runs == 1:
            return f"The frozen layers were computed once per image, in {seconds(one_pass.seconds)}."
        together = f"{seconds(one_pass.seconds)} together"
        return f"Each of the {runs} computed outputs of the frozen layers, in {together}."
    if one_pass.computing == 1:
        who = f"One of the {runs} computed"
    else:
        who = f"{one_pass.computing:,} of the {runs} computed"
    return (
        f"{who} outputs of the frozen layers, in {seconds(one_pass.seconds)}; the others read them from the "
        "cache. This time is part of the total time but not of the table."
    )


def frontier(accuracies: list[float], seconds: list[float]) -> list[int]:
    """The recipes, by position, that no recipe beats in both accuracy and time; the most accurate first.

    accuracies in per cent. A recipe without a time is never on the frontier.
    """
    timed = [i for i, time in enumerate(seconds) if not math.isnan(time)]
    sentences: list[int] = []
    for i in sorted(timed, key=lambda i: (-accuracies[i], seconds[i])):
        if not sentences or seconds[i] < seconds[sentences[-1]]:
            sentences.append(i)
    return sentences
