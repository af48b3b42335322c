"""A folder with all that a sweep shows: README.md with its figures, results as CSV and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from wandb_tl import charts, conclusions, effects, tables
from wandb_tl.config import FIELDS
from wandb_tl.results import Results

# Media of the best run: file, media key, caption.
OF_THE_BEST = (
    ("examples", "examples", "One randomly chosen test image of each class, actual and predicted label"),
    ("first_conv", "feature_maps/first_conv", "Feature maps of the first convolution for one test image"),
    ("curves", "curves", "Loss and accuracy by epoch"),
)
MORE_OF_THE_BEST = (
    ("class_report", "class_report", "Precision, recall and F1 of each class"),
    ("reliability", "reliability", "How far its confidence can be believed"),
    ("grad_cam", "grad_cam", "Where it looked: Grad-CAM of its most confident mistakes and of some hits"),
)
# How the numbers came about, where recipes have several seeds, and in any case.
REPLICATED = (
    "Effects are differences of test accuracy between runs that differ in nothing else, seed included. The "
    "pairs of one seed are averaged: they share weights and order of images, so a seed is one observation. "
    "± is half of the 95 % t-interval over the seeds, p is of the paired t-test.",
    "p (Holm), which the conclusions quote, is corrected for all comparisons of this page together (Holm, "
    f"1979): below {effects.ALPHA} a difference counts as real, else it is within noise.",
    "An interaction is by how much one change's effect differs between the other's two values.",
    "Intervals are over seeds (weights, order of images). The test images are the same for all runs: how "
    "another test set would come out is not in them.",
)
MEASURED = (
    "McNemar's test (exact, two-sided) compares the best runs of rows 1 and 2 on the test images that only "
    "one of them has right. Both rows were picked by their test accuracy, which favours row 1.",
    "`results.csv` has every run, `effects.csv` every comparison, `results.tex` the table of results.",
)


def write(results: Results, frame: pd.DataFrame, folder: Path) -> None:
    """Write the report of the runs in a frame into a folder. OSError if that cannot be.

    The same runs give the same bytes: nothing in it depends on when or where it is written.
    """
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    recipes = effects.recipes(frame)
    comparisons = effects.comparisons(frame)
    rows = conclusions.row_of_each_run(frame, recipes)
    told = conclusions.sentences(frame, recipes, comparisons, results.image_by_image(recipes))
    cells = tables.results(frame, recipes, numbered=True)

    frame.to_csv(folder / "results.csv", index=False)
    (folder / "results.tex").write_text(tables.latex(cells, conclusions.caption(recipes)), encoding="utf-8")
    best, worst = recipes["best_run"].iloc[0], recipes["best_run"].iloc[-1]
    pictures = _download(results, best, worst, folder)
    if comparisons:
        tables.comparisons(comparisons, rows).to_csv(folder / "effects.csv", index=False)
        pictures["effects"] = _save(charts.effects(comparisons), folder, "effects")
    if len(recipes) > 1:
        chart = charts.parallel_coordinates(recipes, effects.varied(frame))
        pictures["recipes"] = _save(chart, folder, "recipes")

    page = [
        f"# Results of `{results.path}`",
        conclusions.introduction(frame, recipes),
        "## Conclusions",
        "\n".join(f"- {sentence}" for sentence in told),
        "## Results",
        tables.markdown(cells),
        conclusions.caption(recipes),
        *_effects(comparisons, rows, pictures),
        *_shown(
            pictures, "recipes", "One line a recipe, coloured by its test accuracy; the best is thickest"
        ),
        *_pictures_of(pictures, frame, best, worst),
        "## Time and cost",
        tables.markdown(tables.costs(frame, recipes)),
        f"{tables.total_time(frame)} Seconds are of training and evaluation, without start and uploads.",
        "## How it was measured",
        _method(frame, recipes),
    ]
    (folder / "README.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


def _effects(comparisons: list, rows: dict[str, int], pictures: dict[str, str]) -> list[str]:
    if not comparisons:
        return []
    text = "Filled: told apart from zero (Holm-corrected p < 0.05). Hollow: within noise"
    return [
        "## What each choice is worth",
        *_shown(pictures, "effects", f"Circles: main effects. Diamonds: interactions. {text}"),
        "<details><summary>All comparisons</summary>",
        tables.markdown(tables.comparisons(comparisons, rows)),
        "</details>",
        "<details><summary>Each change from recipe to recipe</summary>",
        "Each with a 95 % interval of its own, which is not corrected for how many there are.",
        tables.markdown(tables.comparisons_by_recipe(comparisons, rows)),
        "</details>",
    ]


def _pictures_of(pictures: dict[str, str], frame: pd.DataFrame, best: str, worst: str) -> list[str]:
    """The figures that the best run logged, and the confusion matrices of the best and the worst."""
    names = frame.set_index("id")["name"]
    lines = ["## The best run", f"`{names[best]}` (row 1)."]
    for name, _, text in OF_THE_BEST:
        lines += _shown(pictures, name, text)
    lines += _pair(
        pictures, "confusion_best", "confusion_worst", "Confusion matrix of the best and the worst run"
    )
    if "confusion_worst" in pictures:
        lines.append(f"Confusion matrices of the best run (left) and of the worst (right, `{names[worst]}`).")
    for name, _, text in MORE_OF_THE_BEST:
        lines += _shown(pictures, name, text)
    return lines


def _pair(pictures: dict[str, str], left: str, right: str, text: str) -> list[str]:
    if left not in pictures or right not in pictures:
        return []
    images = [f'  <img src="{pictures[name]}" alt="{text}" width="49%">' for name in (left, right)]
    return ["\n".join(['<p align="center">', *images, "</p>"])]


def _shown(pictures: dict[str, str], name: str, text: str) -> list[str]:
    """A picture above its caption; nothing if there is no such picture."""
    return [f"![{text}]({pictures[name]})", f"{text}."] if name in pictures else []


def _method(frame: pd.DataFrame, recipes: pd.DataFrame) -> str:
    fixed = {name: frame[name].iloc[0] for name in FIELDS if frame[name].nunique(dropna=False) == 1}
    values = [f"`{name}={value}`" for name, value in fixed.items() if not pd.isna(value) and value != ""]
    lines = [*(REPLICATED if recipes["n"].max() > 1 else ()), *MEASURED]
    lines.append(f"The same in all runs: {', '.join(values)}.")
    return "\n".join(f"- {line}" for line in lines)


def _download(results: Results, best: str, worst: str, folder: Path) -> dict[str, str]:
    """Fetch the figures of the best and the worst run; their addresses in the folder, by name."""
    wanted = {name: key for name, key, _ in (*OF_THE_BEST, *MORE_OF_THE_BEST)}
    media = results.media(best, [*wanted.values(), "confusion_matrix"])
    files = {name: media[key] for name, key in wanted.items() if key in media}
    if "confusion_matrix" in media:
        files["confusion_best"] = media["confusion_matrix"]
    if worst != best and (other := results.media(worst, ["confusion_matrix"])):
        files["confusion_worst"] = other["confusion_matrix"]
    for name, content in files.items():
        (folder / "figures" / f"{name}.png").write_bytes(content)
    return {name: f"figures/{name}.png" for name in files}


def _save(figure: Figure, folder: Path, name: str) -> str:
    # Without the version of matplotlib in it.
    figure.savefig(folder / "figures" / f"{name}.png", metadata={"Software": None})
    return f"figures/{name}.png"
