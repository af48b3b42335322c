"""Results as tables of strings, whose texts table_texts.py writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from wandb_tl.analysis import formatting, runs_by_recipe, search_conclusions
from wandb_tl.analysis.answer import Answer, Recipe
from wandb_tl.analysis.effects import MOST_LEVELS, Pair
from wandb_tl.analysis.importance import Importance
from wandb_tl.analysis.interactions import Interaction
from wandb_tl.analysis.runs_by_recipe import MACRO, METRIC, SELECTION
from wandb_tl.analysis.searches import Hyperparameter, Search

# Table 1 of the original experiment, whose headings stay as they are, and more: heading, column of the
# results.
PARAMETERS = (("Pretrained", "pretrained"), ("Finetuning", "finetuning"), ("Optimizer", "optimizer"))
VAL_ACCURACY = "Val Accuracy, %"
MEANS = (
    ("Avg Train Loss", "avg_train_loss"),
    ("Avg Train Accuracy", "avg_train_accuracy"),
    (VAL_ACCURACY, SELECTION),
    ("Val F1", "val/f1_macro"),
    ("Test F1", "test/f1_macro"),
)
WHAT_PLUS_MINUS_IS = "± is half of a 95 % t-interval of the mean over n seeds"


def introduction(frame: pd.DataFrame, recipes: pd.DataFrame) -> str:
    """What was compared, in a paragraph."""
    varied, same = runs_by_recipe.varied(frame), runs_by_recipe.same_in_all(frame)
    text = f"{formatting.count(len(frame), 'run')} of {formatting.count(len(recipes), 'recipe')}"
    if "model_name" in same:
        text += f": {formatting.code(same['model_name'])}"
    if "dataset" in same:
        text += f" on {formatting.code(same['dataset'])}"
    text += f"; {_images(frame)}"
    if "image_size" in same:
        text += f", {same['image_size']} px"
    if "epochs" in same:
        text += f", {formatting.count(same['epochs'], 'epoch')}"
    seeds = sorted(set(frame["seed"]))
    text += f", {formatting.count(len(seeds), 'seed')} ({', '.join(map(str, seeds))})."
    if repeated := len(frame) - int(recipes["n"].sum()):
        text += f" Of the runs {repeated} repeat a recipe under its seed: their mean counts."
    if varied:
        values = runs_by_recipe.in_effect(frame)
        levels = [f"`{name}` ({_levels(values[name].dropna())})" for name in varied]
        text += f" What differs between the recipes is {formatting.conjunction(levels)}."
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
        text += f"; {WHAT_PLUS_MINUS_IS}"
    return f"{text}. Train loss and accuracy (a share) are means over the epochs."


def results(frame: pd.DataFrame, recipes: pd.DataFrame, numbered: bool = False) -> pd.DataFrame:
    """One row per recipe, as strings: first the hyperparameters that differ, then the columns of Table 1.

    Test accuracy is in per cent: of the run if each recipe ran once, otherwise the mean over n seeds with its
    95 % t-interval. numbered: with a first column that other tables and the conclusions refer to.
    """
    runs = frame.set_index("id").loc[recipes["best_run"]].reset_index()
    table_1 = {name for _, name in PARAMETERS}
    columns = [(name, name) for name in runs_by_recipe.varied(frame) if name not in table_1]
    cells = {"Row": _row_numbers(recipes)} if numbered else {}
    for title, name in (*columns, *PARAMETERS):
        # A hyperparameter without effect in a recipe stays empty; `recipes` has only those that differ.
        values = recipes[name] if name in recipes else runs[name]
        cells[title] = [formatting.level(value) for value in values]
    for title, name in MEANS:
        if name in recipes:
            form, scale = ("{:.2f}", 100) if title == VAL_ACCURACY else ("{:.4f}", 1)
            cells[title] = [formatting.number(scale * value, form) for value in recipes[name]]
    cells["Test Accuracy"] = [
        formatting.accuracy(mean, half_width, low)
        for mean, half_width, low in recipes[["mean", "half_width", "low"]].itertuples(index=False)
    ]
    if recipes["n"].max() > 1:
        cells["n"] = [str(n) for n in recipes["n"]]
    return pd.DataFrame(cells)


def recipes(answer: Answer, most: int) -> pd.DataFrame:
    """The best recipes as strings, at most so many: hyperparameters, what orders them, accuracy and price."""
    best = answer.recipes[:most]
    cells = {"Row": [str(one.row) for one in best]}
    for name in answer.winner.hyperparameters:
        cells[name] = [formatting.level(one.hyperparameters[name]) for one in best]
    if answer.judged_by == SELECTION:
        cells["Val accuracy, %"] = [formatting.number(100 * one.judged, "{:.2f}") for one in best]
    elif answer.judged_by != METRIC:
        cells[answer.judged_by] = [formatting.number(one.judged, "{:.4f}") for one in best]
    cells["Test accuracy, %"] = [
        formatting.accuracy(one.accuracy.mean, one.accuracy.half_width, one.low) for one in best
    ]
    cells["Seeds"] = [str(one.accuracy.n) for one in best]
    cells["Seconds"] = [formatting.number(one.price.seconds, "{:,.1f}") for one in best]
    return pd.DataFrame(cells)


def effects(answer: Answer) -> pd.DataFrame:
    """The changes of the winner as strings, largest first."""
    return pd.DataFrame(
        {
            "Change": formatting.changes_in_words(one.changes),
            "To row": str(one.row),
            "Points": formatting.points(one.effect),
            "Seeds": str(one.effect.n),
            "p": formatting.probability(one.p),
            "p (corrected)": formatting.probability(one.p_corrected),
            "Verdict": formatting.verdict(one.effect, one.settled),
        }
        for one in answer.effects
    )


def interaction(one: Interaction) -> pd.DataFrame:
    """The 2 x 2 table of two hyperparameters: mean test accuracies, and how the effects differ."""
    first, second = one.first, one.second
    before, after = (f"{first.parameter}={formatting.level(value)}" for value in (first.before, first.after))
    levels = [f"{second.parameter}={formatting.level(value)}" for value in (second.before, second.after)]
    return pd.DataFrame(
        {
            "": [*levels, "difference"],
            before: [f"{one.cells[0]:.2f}", f"{one.cells[2]:.2f}", ""],
            after: [f"{one.cells[1]:.2f}", f"{one.cells[3]:.2f}", ""],
            f"Effect of {first.parameter}": [formatting.points(mean) for mean in (*one.simple, one.effect)],
        }
    )


def searched(search: Search, found: Sequence[Importance]) -> pd.DataFrame:
    """The hyperparameters of a search as strings. found: their importance, empty if it is unknown."""
    rows = []
    importance = {one.name: one for one in found}
    for one in search.hyperparameters:
        row = {"Hyperparameter": one.name, "Searched": _space(one), "Best": formatting.level(one.best)}
        row["Best quarter"] = search_conclusions.values_of_best(one)
        row["Rank correlation"] = row["n"] = row["p (corrected)"] = ""
        if (correlation := one.correlation) is not None:
            row["Rank correlation"] = formatting.signed(correlation.rho)
            row["n"] = str(correlation.n)
            row["p (corrected)"] = formatting.probability(correlation.p_corrected)
        if (effect := importance.get(one.name)) is not None:
            value = formatting.signed(effect.mean)
            row["Importance"] = formatting.with_interval(value, effect.half_width)
        rows.append(row)
    return pd.DataFrame(rows)


def _space(one: Hyperparameter) -> str:
    """What a search draws a hyperparameter from."""
    if one.space is None:
        return ", ".join(formatting.level(value) for value in one.counts)
    if 0 < len(one.space.listed) <= MOST_LEVELS:
        return ", ".join(formatting.level(number) for number in one.space.listed)
    text = f"{formatting.level(one.space.low)} to {formatting.level(one.space.high)}"
    return f"{text}, logarithmic" if one.space.logarithmic else text


def pairs(found: list[Pair]) -> pd.DataFrame:
    """What each change does from one recipe to another one, as strings."""
    return pd.DataFrame(
        {
            "Change": formatting.changes_in_words([one.change]),
            "Row": str(one.after),
            "Against row": str(one.before),
            "Points": formatting.points(one.difference),
            "Seeds": str(one.difference.n),
        }
        for one in found
    )


def numbers(answer: Answer, found: list[Pair]) -> pd.DataFrame:
    """All comparisons in numbers: at the winner, interactions within reach of it, and pairs of recipes."""
    lines = [
        (
            *("at the winner", formatting.changes_in_words(one.changes), f"row {one.row} against 1"),
            *(one.effect, one.p, one.p_corrected),
        )
        for one in answer.effects
    ]
    lines += [
        (
            *("interaction", formatting.changes_in_words([one.first, one.second]).replace(", ", " x ")),
            *(formatting.rows_in_words(one.rows), one.effect, one.p, one.p_corrected),
        )
        for one in answer.interactions
    ]
    lines += [
        (
            *("pair", formatting.changes_in_words([one.change]), f"row {one.after} against {one.before}"),
            *(one.difference, one.p, math.nan),
        )
        for one in found
    ]
    return pd.DataFrame(
        {
            **{
                "kind": kind,
                "change": change,
                "rows": rows,
                "points": mean.mean,
                "half_width": mean.half_width,
            },
            **{"seeds": mean.n, "p": p, "p_corrected": corrected},
        }
        for kind, change, rows, mean, p, corrected in lines
    )


def costs(recipes: Sequence[Recipe]) -> pd.DataFrame:
    """What a run of each recipe takes, as strings: medians; without columns that no run reports."""
    columns = (
        ("Train seconds", "seconds", "{:,.1f}"),
        ("Slowest run, s", "slowest", "{:,.1f}"),
        ("Images/s", "images_per_second", "{:,.0f}"),
        ("Peak memory, MB", "memory_mb", "{:,.0f}"),
        ("Energy, Wh", "energy_wh", "{:,.2f}"),
    )
    cells = {"Row": [str(one.row) for one in recipes]}
    cells["Test accuracy, %"] = [
        formatting.accuracy(one.accuracy.mean, one.accuracy.half_width, one.low) for one in recipes
    ]
    for title, name, form in columns:
        values = [getattr(one.price, name) for one in recipes]
        repeats = name == "slowest" and all(one.price.runs == 1 for one in recipes)
        if not repeats and not all(map(math.isnan, values)):
            cells[title] = [formatting.number(value, form) for value in values]
    return pd.DataFrame(cells)


def total_time(frame: pd.DataFrame) -> str:
    """The total training time, and which runs the table leaves out, in words."""
    seconds, devices = frame["train_seconds"].sum(), sorted(set(frame["device"]) - {""})
    runs = "1 run" if len(frame) == 1 else f"{len(frame)} runs"
    where = f" on {' and '.join(map(formatting.escaped, devices))}" if devices else ""
    text = f"Total training time of the {runs}: {seconds:,.2f} s{where}."
    if left_out := frame.attrs.get("left_out"):
        states = (f"{count} {formatting.escaped(state)}" for state, count in left_out.items())
        text += f" Left out: {', '.join(states)}."
    if copies := frame.attrs.get("copies"):
        text += f" {formatting.count(copies, 'more run')} took the results of an equal run."
    return text


def test_images(frame: pd.DataFrame) -> str:
    """What to know about the test images before comparing accuracies, in sentences; "" if nothing."""
    sentences = []
    shares = frame["majority_share"].dropna() if "majority_share" in frame else frame["test_accuracy"][:0]
    if len(shares):
        sentences.append(
            f"A model that always answers the most frequent class has {shares.iloc[0]:.2f} % test accuracy."
        )
    if "test_is_val" in frame and frame["test_is_val"].fillna(0).any():
        sentences.append(
            "There is no test split: the test images are the validation images, which choose the recipe, so "
            "the accuracy of the best recipe is too high."
        )
    if "skipped_images" in frame and (skipped := frame["skipped_images"].fillna(0).max()):
        pictures = "picture was" if skipped == 1 else "pictures were"
        sentences.append(f"{skipped:,.0f} unreadable {pictures} left out.")
    return " ".join(sentences)


def _images(frame: pd.DataFrame) -> str:
    """How many images the runs trained and were tested on."""
    counts = []
    for split in ("train", "test"):
        numbers = sorted({int(number) for number in frame[f"{split}_images"].dropna()})
        counts.append(" or ".join(f"{number:,}" for number in numbers) or "an unknown number of")
    return f"{counts[0]} training and {counts[1]} test images"


def _levels(values: pd.Series[Any]) -> str:
    levels = [formatting.escaped(formatting.level(value)) for value in runs_by_recipe.in_order(values)]
    return f"{len(levels)} values from {levels[0]} to {levels[-1]}" if len(levels) > 5 else ", ".join(levels)


def _row_numbers(recipes: pd.DataFrame) -> list[str]:
    return [str(row) for row in range(1, len(recipes) + 1)]
