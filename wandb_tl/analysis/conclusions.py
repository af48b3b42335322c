"""A sweep in words: what it compared, what its numbers carry, and which rows each sentence rests on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from wandb_tl.analysis import effects, proportions
from wandb_tl.analysis.effects import Change, Comparison, Mean
from wandb_tl.analysis.proportions import McNemar
from wandb_tl.config import FIELDS


def introduction(frame: pd.DataFrame, recipes: pd.DataFrame) -> str:
    """What was compared, in a paragraph."""
    varied, same = effects.varied(frame), same_in_all(frame)
    text = f"{_count(len(frame), 'run')} of {_count(len(recipes), 'recipe')}"
    if "model_name" in same:
        text += f": {code(same['model_name'])}"
    if "dataset" in same:
        text += f" on {code(same['dataset'])}"
    text += f"; {_images(frame)}"
    if "image_size" in same:
        text += f", {same['image_size']} px"
    if "epochs" in same:
        text += f", {_count(same['epochs'], 'epoch')}"
    seeds = sorted(set(frame["seed"]))
    text += f", {_count(len(seeds), 'seed')} ({', '.join(map(str, seeds))})."
    if repeated := len(frame) - int(recipes["n"].sum()):
        text += f" Of the runs {repeated} repeat a recipe under its seed: their mean counts."
    if varied:
        known = effects.in_effect(frame)
        levels = (f"`{name}` ({_levels(known[name].dropna())})" for name in varied)
        text += f" What differs between the recipes is {_and(list(levels))}."
    return text


def caption(frame: pd.DataFrame, recipes: pd.DataFrame) -> str:
    """What the numbers of the table of results are."""
    if effects.SELECTION in recipes:
        text = "Best validation accuracy first, so that no test image chooses; test accuracy is in per cent"
    else:
        text = "Best test accuracy first, in per cent of the test images"
        if effects.SELECTION in frame and frame[effects.SELECTION].notna().any():
            text += " (some of the runs have no validation accuracy, which else would decide)"
    if recipes["n"].max() > 1:
        text += "; ± is half of a 95 % t-interval of the mean over n seeds"
    return f"{text}. Train loss and accuracy (a share) are means over the epochs."


def sentences(
    frame: pd.DataFrame, recipes: pd.DataFrame, comparisons: list[Comparison], mcnemar: McNemar | None = None
) -> list[str]:
    """The conclusions of a sweep in Markdown, the largest effects first, then what is within noise.

    frame: its runs. recipes: effects.recipes(frame), whose order numbers the rows. comparisons:
    effects.comparisons(frame). mcnemar: of the best runs of rows 1 and 2.
    """
    if len(recipes) == 1:
        return ["There is one recipe: nothing to compare it with."]
    rows = row_of_each_run(recipes)
    replicated = recipes["n"].max() > 1
    told = _effects(comparisons, rows) if replicated else _single_runs(frame, recipes, comparisons, rows)
    if replicated and not comparisons:
        told.append("Nothing is compared: no two recipes that differ in one hyperparameter share a seed.")
    if mcnemar is not None:
        told.append(_image_by_image(mcnemar, frame))
    if drawn := effects.not_compared(frame):
        names = _and([code(name) for name in drawn])
        told.append(f"Not compared, because they have too many values to make pairs: {names}.")
    return told


def row_of_each_run(recipes: pd.DataFrame) -> dict[str, int]:
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
    return f"{'row' if len(high) == 1 else 'rows'} {_ranges(high)} against {_ranges(low)}"


def points(mean: Mean, signed: bool = True) -> str:
    """Points of accuracy with their 95 % interval: "+13.1 ± 0.6"."""
    value = f"{mean.mean:+.2f}" if signed else f"{abs(mean.mean):.2f}"
    # Nothing has no sign, nor what rounds to it.
    value = value.lstrip("+-") if float(value) == 0 else value.replace("-", "\N{MINUS SIGN}")
    return value if math.isnan(mean.half_width) else f"{value} ± {mean.half_width:.2f}"


def probability(p: float) -> str:
    """A p value as it is printed: "p = 0.032", "p < 0.0001"."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.3g}"


def changes_in_words(comparison: Comparison) -> str:
    """What a comparison compares: "optimizer: Adam → SGD", for an interaction both changes."""
    return " x ".join(f"{one.parameter}: {level(one.low)} → {level(one.high)}" for one in comparison.changes)


def level(value: Any) -> str:
    """A hyperparameter's value as it is printed, on one line; empty where it has no effect."""
    if pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())


def code(text: str) -> str:
    """A text as a code span of Markdown, which nothing in it can end."""
    return "`" + " ".join(text.split()).replace("`", "'") + "`"


def same_in_all(frame: pd.DataFrame) -> dict[str, Any]:
    """The hyperparameters that were given alike to all runs, without those that were left empty."""
    same = {name: frame[name].iloc[0] for name in FIELDS if frame[name].nunique(dropna=False) == 1}
    return {name: value for name, value in same.items() if level(value)}


def _instead(change: Change) -> str:
    return f"{code(f'{change.parameter}={level(change.high)}')} instead of {code(level(change.low))}"


def _effects(comparisons: list[Comparison], rows: dict[str, int]) -> list[str]:
    """Sentences about effects with intervals: the real ones by size, then what is within noise."""
    ordered = sorted(comparisons, key=lambda one: -abs(one.effect.mean))
    sure = [one for one in ordered if one.significant]
    told = [_main(one, rows) for one in sure if one.kind == "main"]
    told += [_interaction(one, rows) for one in sure if one.kind == "interaction"]
    told += [_lead(one) for one in comparisons if one.kind == "lead"]
    unsure = [one for one in ordered if not one.significant]
    told += [_main(one, rows) for one in unsure if one.kind == "main"]
    if others := [
        code(changes_in_words(one)) for one in unsure if one.kind == "interaction" and one.effect.n > 1
    ]:
        told.append(f"Within noise: the interactions {', '.join(others)}.")
    return told


def _main(one: Comparison, rows: dict[str, int]) -> str:
    basis = f"({_evidence(one)}; {rows_of(one, rows)})"
    words = _instead(one.changes[0])
    # Over the other choices, where there are any.
    average = " on average" if len(one.blocks) > one.effect.n else ""
    if not one.significant:
        told = f"changes test accuracy by {points(one.effect)} points{average}"
        return f"{_doubt(one)}: {words} {told} {basis}."
    verb = "raises" if one.effect.mean > 0 else "lowers"
    return f"{words} {verb} test accuracy by {points(one.effect, signed=False)} points{average} {basis}."


def _interaction(one: Comparison, rows: dict[str, int]) -> str:
    change, by = one.changes
    low, high = one.simple
    return (
        f"What {_instead(change)} does depends on `{by.parameter}`: {points(low)} points with "
        f"{code(level(by.low))}, {points(high)} with {code(level(by.high))} "
        f"({_evidence(one)}; {rows_of(one, rows)})."
    )


def _lead(one: Comparison) -> str:
    # What one of them lacks follows from the rest.
    changes = [change for change in one.changes if None not in (change.low, change.high)]
    differ = f" ({', '.join(_instead(change) for change in changes)})" if changes else ""
    if not one.significant:
        told = f"{points(one.effect)} points ({_evidence(one)})"
        return f"{_doubt(one)}: the lead of row 1 over row 2{differ}, {told}."
    # Validation images may have chosen what the test images judge otherwise.
    verb = "leads" if one.effect.mean > 0 else "is behind"
    told = f"{points(one.effect, signed=False)} points ({_evidence(one)})"
    return f"Row 1 {verb} row 2{differ} by {told}."


def _doubt(one: Comparison) -> str:
    return "Without an interval" if math.isnan(one.p) else "Within noise"


def _evidence(one: Comparison) -> str:
    pairs = "quadruple" if one.kind == "interaction" else "pair"
    text = f"n = {_count(one.effect.n, 'seed')}, {_count(len(one.blocks), pairs)}"
    if one.left_out:
        text += f", {one.left_out} more left out for want of runs beside them"
    return text if math.isnan(one.p) else f"{text}, {probability(one.p_holm)}"


def _single_runs(
    frame: pd.DataFrame, recipes: pd.DataFrame, comparisons: list[Comparison], rows: dict[str, int]
) -> list[str]:
    """Sentences about recipes that ran once: means of effects, and what exceeds the error of the test set."""
    told = [
        "Every recipe ran with one seed, so no interval can be given: how another seed would come out is not "
        "known. Several seeds (`--set seed=0,1,2,3,4`) would tell."
    ]
    for one in sorted(comparisons, key=lambda one: -abs(one.effect.mean)):
        if one.kind == "main":
            told.append(
                f"On average, and without an interval, {_instead(one.changes[0])}: "
                f"{points(one.effect)} points ({_evidence(one)}; {rows_of(one, rows)})."
            )
    images = frame["test_images"].min()
    if math.isnan(images):
        return told
    accuracies = list(recipes["mean"])

    def told_apart(first: int, second: int) -> bool:
        return proportions.beyond_binomial(accuracies[first - 1], accuracies[second - 1], images)

    others = range(2, len(accuracies) + 1)
    beyond = [row for row in others if told_apart(1, row)]
    within = [row for row in others if row not in beyond]
    error = f"the binomial error of {int(images):,} test images (95 %, each pair by itself)"
    if beyond:
        told.append(f"Row 1 differs by more than {error} from {_rows(beyond)}.")
    if within:
        told.append(f"Row 1 does not differ by more than {error} from {_rows(within)}.")
    close = [f"{row - 1} and {row}" for row in others[1:] if not told_apart(row - 1, row)]
    if close:
        told.append(f"Not told apart by it, though next to each other in the table: rows {', '.join(close)}.")
    return told


def _image_by_image(test: McNemar, frame: pd.DataFrame) -> str:
    verdict = "differ" if test.p < effects.ALPHA else "are within noise of each other"
    sample = "a random sample of " if test.n < frame["test_images"].min() else ""
    return (
        f"Image by image, the best run of row 1 and that of row 2 {verdict}: of {sample}{test.n:,} test "
        f"images, {test.only_first:,} are right in the first alone and {test.only_second:,} in the second "
        f"alone (McNemar's exact test, {probability(test.p)}; of these models, not of their recipes)."
    )


def _rows(numbers: list[int]) -> str:
    return f"row {numbers[0]}" if len(numbers) == 1 else f"rows {_ranges(numbers)}"


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
    levels = in_order(values)
    if len(levels) > 5:
        return f"{len(levels)} values from {level(levels[0])} to {level(levels[-1])}"
    return ", ".join(map(level, levels))


def in_order(values: Iterable[Any]) -> list[Any]:
    """The different values, numbers before texts."""
    return sorted(set(values), key=lambda value: (isinstance(value, str), value))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def _and(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
