"""The conclusions of a sweep in words: what it compared, what its numbers support, and where they are."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from wandb_tl.analysis import effects, proportions, runs_by_recipe
from wandb_tl.analysis.effects import Change, Comparison
from wandb_tl.analysis.formatting import (
    changes_in_words,
    code,
    conjunction,
    count,
    level,
    points,
    probability,
    rows_in_words,
    rows_of,
)
from wandb_tl.analysis.intervals import ALPHA
from wandb_tl.analysis.proportions import McNemar
from wandb_tl.analysis.runs_by_recipe import MACRO, SELECTION


def introduction(frame: pd.DataFrame, recipes: pd.DataFrame) -> str:
    """What was compared, in a paragraph."""
    varied, same = runs_by_recipe.varied(frame), runs_by_recipe.same_in_all(frame)
    text = f"{count(len(frame), 'run')} of {count(len(recipes), 'recipe')}"
    if "model_name" in same:
        text += f": {code(same['model_name'])}"
    if "dataset" in same:
        text += f" on {code(same['dataset'])}"
    text += f"; {_images(frame)}"
    if "image_size" in same:
        text += f", {same['image_size']} px"
    if "epochs" in same:
        text += f", {count(same['epochs'], 'epoch')}"
    seeds = sorted(set(frame["seed"]))
    text += f", {count(len(seeds), 'seed')} ({', '.join(map(str, seeds))})."
    if repeated := len(frame) - int(recipes["n"].sum()):
        text += f" Of the runs {repeated} repeat a recipe under its seed: their mean counts."
    if varied:
        values = runs_by_recipe.in_effect(frame)
        levels = [f"`{name}` ({_levels(values[name].dropna())})" for name in varied]
        text += f" What differs between the recipes is {conjunction(levels)}."
    return text


def caption(frame: pd.DataFrame, recipes: pd.DataFrame) -> str:
    """What the numbers of the table of results are."""
    if recipes.attrs["judged_by"] in MACRO:
        judge = recipes.attrs["judged_by"]
        text = f"Best {judge} first, the mean of the classes' F1 scores; test accuracy is in per cent"
    elif SELECTION in recipes:
        text = "Best validation accuracy first, so that no test image chooses; test accuracy is in per cent"
    else:
        text = "Best test accuracy first, in per cent of the test images"
        if SELECTION in frame and frame[SELECTION].notna().any():
            text += " (some of the runs have no validation accuracy, which else would decide)"
    if recipes["n"].max() > 1:
        text += "; ± is half of a 95 % t-interval of the mean over n seeds"
    return f"{text}. Train loss and accuracy (a share) are means over the epochs."


def sentences(
    frame: pd.DataFrame, recipes: pd.DataFrame, comparisons: list[Comparison], mcnemar: McNemar | None = None
) -> list[str]:
    """The conclusions of a sweep in Markdown: significant effects by size, then the others.

    frame: its runs. recipes: runs_by_recipe.recipes(frame), whose order numbers the rows. comparisons:
    effects.comparisons(frame). mcnemar: of the best runs of rows 1 and 2.
    """
    if len(recipes) == 1:
        return ["There is one recipe: nothing to compare it with."]
    rows = runs_by_recipe.row_of_each_run(recipes)
    replicated = recipes["n"].max() > 1
    lines = _effects(comparisons, rows) if replicated else _single_runs(frame, recipes, comparisons, rows)
    if replicated and not comparisons:
        lines.append("Nothing is compared: no two recipes that differ in one hyperparameter share a seed.")
    if mcnemar is not None:
        lines.append(_image_by_image(mcnemar, frame))
    if drawn := effects.not_compared(frame):
        names = conjunction([code(name) for name in drawn])
        lines.append(f"Not compared, because they have too many values to make pairs: {names}.")
    return lines


def _instead(change: Change) -> str:
    return f"{code(f'{change.parameter}={level(change.high)}')} instead of {code(level(change.low))}"


def _effects(comparisons: list[Comparison], rows: dict[str, int]) -> list[str]:
    """Sentences about effects with intervals: significant ones by size, then the others."""
    ordered = sorted(comparisons, key=lambda one: -abs(one.effect.mean))
    sure = [one for one in ordered if one.significant]
    lines = [_main(one, rows) for one in sure if one.kind == "main"]
    lines += [_interaction(one, rows) for one in sure if one.kind == "interaction"]
    lines += [_lead(one) for one in comparisons if one.kind == "lead"]
    unsure = [one for one in ordered if not one.significant]
    lines += [_main(one, rows) for one in unsure if one.kind == "main"]
    if others := [
        code(changes_in_words(one)) for one in unsure if one.kind == "interaction" and one.effect.n > 1
    ]:
        lines.append(f"Within noise: the interactions {', '.join(others)}.")
    return lines


def _main(one: Comparison, rows: dict[str, int]) -> str:
    basis = f"({_evidence(one)}; {rows_of(one, rows)})"
    words = _instead(one.changes[0])
    # Over the values of other hyperparameters, if any differ.
    average = " on average" if len(one.blocks) > one.effect.n else ""
    if not one.significant:
        change = f"changes test accuracy by {points(one.effect)} points{average}"
        return f"{_doubt(one)}: {words} {change} {basis}."
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
    # A hyperparameter that only one of the two recipes has follows from the other changes.
    changes = [change for change in one.changes if None not in (change.low, change.high)]
    differ = f" ({', '.join(_instead(change) for change in changes)})" if changes else ""
    if not one.significant:
        lead = f"{points(one.effect)} points ({_evidence(one)})"
        return f"{_doubt(one)}: the lead of row 1 over row 2{differ}, {lead}."
    # The recipes are ordered by validation accuracy if there is one, and test accuracy may disagree.
    verb = "leads" if one.effect.mean > 0 else "is behind"
    lead = f"{points(one.effect, signed=False)} points ({_evidence(one)})"
    return f"Row 1 {verb} row 2{differ} by {lead}."


def _doubt(one: Comparison) -> str:
    return "Without an interval" if math.isnan(one.p) else "Within noise"


def _evidence(one: Comparison) -> str:
    pairs = "quadruple" if one.kind == "interaction" else "pair"
    text = f"n = {count(one.effect.n, 'seed')}, {count(len(one.blocks), pairs)}"
    if one.left_out:
        text += f", {one.left_out} more left out for want of runs beside them"
    return text if math.isnan(one.p) else f"{text}, {probability(one.p_holm)}"


def _single_runs(
    frame: pd.DataFrame, recipes: pd.DataFrame, comparisons: list[Comparison], rows: dict[str, int]
) -> list[str]:
    """Sentences about recipes that ran once: means of effects, and what exceeds the error of the test set."""
    lines = [
        "Every recipe ran with one seed, so no interval can be given: how another seed would come out is not "
        "known. Several seeds (`--set seed=0,1,2,3,4`) would tell."
    ]
    for one in sorted(comparisons, key=lambda one: -abs(one.effect.mean)):
        if one.kind == "main":
            lines.append(
                f"On average, and without an interval, {_instead(one.changes[0])}: "
                f"{points(one.effect)} points ({_evidence(one)}; {rows_of(one, rows)})."
            )
    images = frame["test_images"].min()
    if math.isnan(images):
        return lines
    accuracies = list(recipes["mean"])

    def differ_clearly(first: int, second: int) -> bool:
        return proportions.beyond_binomial(accuracies[first - 1], accuracies[second - 1], images)

    others = range(2, len(accuracies) + 1)
    beyond = [row for row in others if differ_clearly(1, row)]
    within = [row for row in others if row not in beyond]
    error = f"the binomial error of {int(images):,} test images (95 %, each pair by itself)"
    if beyond:
        lines.append(f"Row 1 differs by more than {error} from {rows_in_words(beyond)}.")
    if within:
        lines.append(f"Row 1 does not differ by more than {error} from {rows_in_words(within)}.")
    close = [f"{row - 1} and {row}" for row in others[1:] if not differ_clearly(row - 1, row)]
    if close:
        lines.append(
            f"Not told apart by it, though next to each other in the table: rows {', '.join(close)}."
        )
    return lines


def _image_by_image(test: McNemar, frame: pd.DataFrame) -> str:
    verdict = "differ" if test.p < ALPHA else "are within noise of each other"
    sample = "a random sample of " if test.n < frame["test_images"].min() else ""
    return (
        f"Image by image, the best run of row 1 and that of row 2 {verdict}: of {sample}{test.n:,} test "
        f"images, {test.only_first:,} are right in the first alone and {test.only_second:,} in the second "
        f"alone (McNemar's exact test, {probability(test.p)}; of these models, not of their recipes)."
    )


def _images(frame: pd.DataFrame) -> str:
    """How many images the runs trained and were tested on."""
    counts = []
    for split in ("train", "test"):
        numbers = sorted({int(number) for number in frame[f"{split}_images"].dropna()})
        counts.append(" or ".join(f"{number:,}" for number in numbers) or "an unknown number of")
    return f"{counts[0]} training and {counts[1]} test images"


def _levels(values: pd.Series[Any]) -> str:
    levels = runs_by_recipe.in_order(values)
    if len(levels) > 5:
        return f"{len(levels)} values from {level(levels[0])} to {level(levels[-1])}"
    return ", ".join(map(level, levels))
