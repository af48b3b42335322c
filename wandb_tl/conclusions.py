"""A sweep in words: what it compared, what its numbers carry, and which rows each sentence rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

import pandas as pd

from wandb_tl import effects, proportions
from wandb_tl.config import FIELDS
from wandb_tl.effects import Change, Comparison, Mean
from wandb_tl.proportions import McNemar


def introduction(frame: pd.DataFrame, recipes: pd.DataFrame) -> str:
    """What was compared, in a paragraph."""
    varied = effects.varied(frame)
    runs, rows = _count(len(frame), "run"), _count(len(recipes), "recipe")
    same = {name: frame[name].iloc[0] for name in FIELDS if frame[name].nunique(dropna=False) == 1}
    text = f"{runs} of {rows}"
    if "model_name" in same:
        text += f": `{same['model_name']}`"
    if "dataset" in same:
        text += f" on `{same['dataset']}`"
    text += f"; {_images(frame)}"
    if "image_size" in same:
        text += f", {same['image_size']} px"
    if "epochs" in same:
        text += f", {_count(same['epochs'], 'epoch')}"
    seeds = sorted(set(frame["seed"]))
    text += f", {_count(len(seeds), 'seed')} ({', '.join(map(str, seeds))})."
    if varied:
        levels = (f"`{name}` ({_levels(frame[name])})" for name in varied)
        text += f" What differs between the recipes is {_and(list(levels))}."
    return text


def caption(recipes: pd.DataFrame) -> str:
    """What the numbers of the table of results are."""
    if effects.SELECTION in recipes:
        text = "Best validation accuracy first, so that no test image chooses; test accuracy is in per cent"
    else:
        text = "Best test accuracy first, in per cent of the test images"
    if recipes["n"].max() > 1:
        text += "; ± is half of a 95 % t-interval of the mean over n seeds"
    return f"{text}. Train loss and accuracy are means over the epochs."


def sentences(
    frame: pd.DataFrame, recipes: pd.DataFrame, comparisons: list[Comparison], mcnemar: McNemar | None = None
) -> list[str]:
    """The conclusions of a sweep in Markdown, the largest effects first and what is within noise last.

    frame: its runs. recipes: effects.recipes(frame), whose order numbers the rows. comparisons:
    effects.comparisons(frame). mcnemar: of the best runs of rows 1 and 2.
    """
    rows = row_of_each_run(frame, recipes)
    replicated = recipes["n"].max() > 1
    told = _effects(comparisons, rows) if replicated else _single_runs(frame, recipes, comparisons, rows)
    if mcnemar is not None:
        told.append(_image_by_image(mcnemar, recipes))
    for name in effects.too_many_levels(frame):
        told.append(f"Not compared: `{name}` has a value of its own in too many runs to pair them.")
    return told


def row_of_each_run(frame: pd.DataFrame, recipes: pd.DataFrame) -> dict[str, int]:
    """In which row of the table, from 1, the recipe of each run stands, by run id."""
    return {run: row for row, runs in enumerate(recipes["runs"], 1) for run in runs}


def rows_of(comparison: Comparison, rows: dict[str, int]) -> str:
    """The rows of the table that a comparison rests on: "rows 1-4 against 5-8"."""
    sides = [
        {rows[run] for block in comparison.blocks for run in block.runs[side]}
        for side in range(len(comparison.blocks[0].runs))
    ]
    if comparison.kind == "interaction":
        return f"rows {_ranges(set().union(*sides))}"
    low, high = sides
    return f"rows {_ranges(high)} against {_ranges(low)}"


def points(mean: Mean, signed: bool = True) -> str:
    """Points of accuracy with their 95 % interval: "+13.1 ± 0.6"."""
    value = f"{mean.mean:+.2f}" if signed else f"{abs(mean.mean):.2f}"
    value = value.replace("-", "\N{MINUS SIGN}")
    return value if math.isnan(mean.half_width) else f"{value} ± {mean.half_width:.2f}"


def probability(p: float) -> str:
    """A p value as it is printed: "p = 0.032", "p < 0.0001"."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"


def changes_in_words(comparison: Comparison) -> str:
    """What a comparison compares: "optimizer: Adam → SGD", for an interaction both changes."""
    return " x ".join(f"{one.parameter}: {one.low} → {one.high}" for one in comparison.changes)


def _instead(change: Change) -> str:
    return f"`{change.parameter}={change.high}` instead of `{change.low}`"


def _effects(comparisons: list[Comparison], rows: dict[str, int]) -> list[str]:
    """Sentences about effects with intervals: the real ones by size, then what is within noise."""
    ordered = sorted(comparisons, key=lambda one: -abs(one.effect.mean))
    sure = [one for one in ordered if one.significant]
    told = [_main(one, rows) for one in sure if one.kind == "main"]
    told += [_interaction(one, rows) for one in sure if one.kind == "interaction"]
    told += [_lead(one) for one in comparisons if one.kind == "lead"]
    unsure = [one for one in ordered if not one.significant]
    told += [_main(one, rows) for one in unsure if one.kind == "main"]
    if others := [_crossed(one) for one in unsure if one.kind == "interaction" and one.effect.n > 1]:
        told.append(f"Within noise: the interactions {', '.join(others)}.")
    return told


def _main(one: Comparison, rows: dict[str, int]) -> str:
    basis = f"({_evidence(one)}; {rows_of(one, rows)})"
    words = _instead(one.changes[0])
    if not one.significant:
        return f"{_doubt(one)}: {words} changes test accuracy by {points(one.effect)} points {basis}."
    verb = "raises" if one.effect.mean > 0 else "lowers"
    # Over the other choices, where there are any.
    average = " on average" if len(one.blocks) > one.effect.n else ""
    return f"{words} {verb} test accuracy by {points(one.effect, signed=False)} points{average} {basis}."


def _interaction(one: Comparison, rows: dict[str, int]) -> str:
    change, by = one.changes
    low, high = one.simple
    return (
        f"What {_instead(change)} does depends on `{by.parameter}`: {points(low)} points with "
        f"`{by.low}`, {points(high)} with `{by.high}` ({_evidence(one)}; {rows_of(one, rows)})."
    )


def _lead(one: Comparison) -> str:
    # What one of them lacks follows from the rest.
    changes = [change for change in one.changes if None not in (change.low, change.high)]
    differ = " and ".join(f"`{change.parameter}={change.high}` for `{change.low}`" for change in changes)
    told = f"row 1 over row 2 ({differ}), {points(one.effect)} points ({_evidence(one)})"
    return f"The best recipe leads: {told}." if one.significant else f"{_doubt(one)}: the lead of {told}."


def _doubt(one: Comparison) -> str:
    return "Without an interval" if math.isnan(one.p) else "Within noise"


def _evidence(one: Comparison) -> str:
    pairs = "pairs" if one.kind != "interaction" else "quadruples"
    if math.isnan(one.p):
        return f"n = {len(one.blocks)} {pairs} of one seed"
    return f"n = {len(one.blocks)} {pairs} over {one.effect.n} seeds, {probability(one.p_holm)}"


def _crossed(one: Comparison) -> str:
    return " x ".join(f"`{change.parameter}` ({change.low}, {change.high})" for change in one.changes)


def _single_runs(
    frame: pd.DataFrame, recipes: pd.DataFrame, comparisons: list[Comparison], rows: dict[str, int]
) -> list[str]:
    """Sentences about recipes that ran once: means of effects, and what exceeds the error of the test set."""
    told = [
        "Every recipe ran once, so no interval can be given: how another seed would come out is not known. "
        "Several seeds (`--set seed=0,1,2,3,4`) would tell."
    ]
    for one in sorted(comparisons, key=lambda one: -abs(one.effect.mean)):
        if one.kind == "main":
            told.append(
                f"On average, and without an interval, {_instead(one.changes[0])}: "
                f"{points(one.effect)} points (n = {len(one.blocks)} pairs; {rows_of(one, rows)})."
            )
    images = frame["test_images"].min()
    if math.isnan(images):
        return told
    accuracies = list(recipes["mean"])
    unclear = [
        (first, second)
        for first, second in combinations(range(len(accuracies)), 2)
        if not proportions.beyond_binomial(accuracies[first], accuracies[second], int(images))
    ]
    error = f"the binomial error of {int(images):,} test images (95 %)"
    if not unclear:
        told.append(f"All differences between rows exceed {error}.")
    elif len(unclear) == len(accuracies) * (len(accuracies) - 1) // 2:
        told.append(f"No difference between rows exceeds {error}.")
    else:
        pairs = ", ".join(f"{first + 1} and {second + 1}" for first, second in unclear)
        told.append(f"Differences exceed {error}, but for those between rows {pairs}.")
    return told


def _image_by_image(test: McNemar, recipes: pd.DataFrame) -> str:
    runs = "the runs" if recipes["n"].max() == 1 else "the best runs"
    verdict = "differ" if test.p < effects.ALPHA else "are within noise of each other"
    return (
        f"Image by image, {runs} of rows 1 and 2 {verdict}: of {test.n:,} test images, {test.only_first:,} "
        f"are right in the first alone and {test.only_second:,} in the second alone (McNemar's exact test, "
        f"{probability(test.p)})."
    )


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers with runs of them joined: "1-3, 7"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _images(frame: pd.DataFrame) -> str:
    """How many images the runs trained and were tested on."""
    counts = []
    for split in ("train", "test"):
        known = sorted({int(number) for number in frame[f"{split}_images"].dropna()})
        counts.append(" or ".join(f"{number:,}" for number in known) or "an unknown number of")
    return f"{counts[0]} training and {counts[1]} test images"


def _levels(values: pd.Series) -> str:
    levels = sorted(set(values), key=lambda level: (isinstance(level, str), level))
    if len(levels) > 5:
        return f"{len(levels)} values from {levels[0]} to {levels[-1]}"
    return ", ".join(map(str, levels))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
