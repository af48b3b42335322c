"""The report of a sweep as a folder: README.md with its figures, and the results as CSV and LaTeX."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from wandb_tl.analysis import charts, conclusions, effects, formatting, runs_by_recipe, tables
from wandb_tl.analysis.effects import Comparison
from wandb_tl.analysis.intervals import ALPHA
from wandb_tl.analysis.results import Results
from wandb_tl.analysis.runs_by_recipe import METRIC, SELECTION

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
# All files that a report may have.
FILES = ("README.md", "results.csv", "results.tex", "effects.csv")
PICTURES = (
    *(name for name, _, _ in (*OF_THE_BEST, *MORE_OF_THE_BEST)),
    *("confusion_best", "confusion_worst", "effects", "recipes"),
)
# The method, if recipes have several seeds.
REPLICATED = (
    "Effects are differences of test accuracy between runs that differ in nothing else, seed included. The "
    "pairs of one seed are averaged: they share weights and order of images, so a seed is one observation. "
    "± is half of the 95 % t-interval over the seeds, p is of the paired t-test.",
    "p (Holm), which the conclusions quote, is corrected for all comparisons of this page together (Holm, "
    f"1979), McNemar's test aside: below {ALPHA} a difference counts as real, else it is within "
    "noise. The intervals are not corrected, and may leave out zero where the corrected p does not.",
    "An interaction is by how much one change's effect differs between the other's two values: a difference "
    "of two pairs, so of a quadruple of runs.",
    "Intervals are over seeds (weights, order of images). The test images are the same for all runs: how "
    "another test set would come out is not in them.",
)
IMAGE_BY_IMAGE = (
    "McNemar's test (exact, two-sided) compares the best runs of rows 1 and 2 on the test images that only "
    "one of them has right."
)
PICKED_BY_TEST = (
    "Rows 1 and 2 were picked by their test accuracy, which favours row 1 wherever they are compared."
)
BINOMIAL = (
    "Binomial error: half of the 95 % interval of a difference of two independent shares of so many images. "
    "All runs saw the same images, so that it is rather too wide."
)


def write(results: Results, frame: pd.DataFrame, folder: Path) -> None:
    """Write the report of the runs in a frame into a folder. OSError if it cannot be written.

    The same runs give the same bytes: nothing depends on when or where the report is written. Files of an
    earlier report that this one does not have are removed.
    """
    recipes = runs_by_recipe.recipes(frame)
    comparisons = effects.comparisons(frame)
    rows = runs_by_recipe.row_of_each_run(recipes)
    mcnemar = results.image_by_image(recipes)
    sentences = conclusions.sentences(frame, recipes, comparisons, mcnemar)
    cells = tables.results(frame, recipes, numbered=True)
    caption = conclusions.caption(frame, recipes)

    best, worst = str(recipes["best_run"].iloc[0]), str(frame["id"].iloc[int(frame[METRIC].argmin())])
    files = _download(results, best, worst)
    crossed = [one for one in comparisons if one.kind != "lead"]
    if crossed:
        files["figures/effects.png"] = _png(charts.effects(comparisons))
    if len(recipes) > 1:
        chart = charts.parallel_coordinates(recipes, runs_by_recipe.varied(frame))
        files["figures/recipes.png"] = _png(chart)
    files["results.csv"] = frame.assign(row=frame["id"].map(rows)).to_csv(index=False).encode()
    files["results.tex"] = tables.latex(cells, caption).encode()
    if comparisons:
        files["effects.csv"] = tables.effects(comparisons, rows).to_csv(index=False).encode()

    page = [
        f"# Results of {formatting.code(results.path)}",
        conclusions.introduction(frame, recipes),
        "## Conclusions",
        "\n".join(f"- {sentence}" for sentence in sentences),
        "## Results",
        tables.markdown(cells),
        f"{caption} {tables.test_images(frame)}".strip(),
        *(_effects(comparisons, rows) if crossed else ()),
        *_picture(files, "recipes", "One line a recipe, coloured by its test accuracy; row 1 is thickest"),
        *_pictures_of(files, frame, best, worst, rows[worst]),
        "## Time and cost",
        tables.markdown(tables.costs(frame, recipes)),
        f"{tables.total_time(frame)} Seconds are of training and evaluation, without start and uploads.",
        "## How it was measured",
        _method(frame, recipes, mcnemar is not None, comparisons != []),
    ]
    files["README.md"] = ("\n\n".join(page) + "\n").encode()
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name in {*FILES, *(f"figures/{name}.png" for name in PICTURES)} - set(files):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _effects(comparisons: list[Comparison], rows: dict[str, int]) -> list[str]:
    sure = any(one.effect.n > 1 for one in comparisons)
    marks = f"Filled: Holm-corrected p below {ALPHA}. Hollow: within noise" if sure else "No intervals"
    text = f"Circles: main effects. Diamonds: interactions. {marks}"
    return [
        "## What each choice is worth",
        f"![{text}](figures/effects.png)",
        f"{text}.",
        "<details><summary>All comparisons</summary>",
        tables.markdown(tables.effects_as_text(comparisons, rows)),
        "</details>",
        "<details><summary>Each change from recipe to recipe</summary>",
        "Each with a 95 % interval of its own, which is not corrected for how many there are.",
        tables.markdown(tables.effects_by_recipe(comparisons, rows)),
        "</details>",
    ]


def _pictures_of(
    files: dict[str, bytes], frame: pd.DataFrame, best: str, worst: str, worst_row: int
) -> list[str]:
    """The figures that the best run logged, and the confusion matrices of the best and the worst."""
    names = frame.set_index("id")["name"].map(formatting.code)
    lines = ["## The best run", f"{names[best]} (the best of row 1, run `{best}`)."]
    for name, _, text in OF_THE_BEST:
        lines += _picture(files, name, text)
    pair = [f"figures/confusion_{which}.png" for which in ("best", "worst")]
    if set(pair) <= set(files):
        images = [f'  <img src="{name}" alt="Confusion matrix" width="49%">' for name in pair]
        lines.append("\n".join(['<p align="center">', *images, "</p>"]))
        worst_run = f"{names[worst]}, row {worst_row}, run `{worst}`"
        lines.append(f"Confusion matrices of the best run (left) and of the worst (right: {worst_run}).")
    for name, _, text in MORE_OF_THE_BEST:
        lines += _picture(files, name, text)
    return lines


def _picture(files: dict[str, bytes], name: str, text: str) -> list[str]:
    """A picture above its caption; nothing if there is no such picture."""
    file = f"figures/{name}.png"
    return [f"![{text}]({file})", f"{text}."] if file in files else []


def _method(frame: pd.DataFrame, recipes: pd.DataFrame, paired: bool, compared: bool) -> str:
    lines = ["A recipe is all hyperparameters but the seed."]
    if recipes["n"].max() == 1:
        lines.append(BINOMIAL)
    elif compared:
        lines += REPLICATED
    if paired:
        lines.append(IMAGE_BY_IMAGE)
    if len(recipes) > 1 and recipes.attrs["judged_by"] not in (SELECTION, "val/f1_macro"):
        lines.append(PICKED_BY_TEST)
    same = runs_by_recipe.same_in_all(frame).items()
    values = (formatting.code(f"{name}={formatting.level(value)}") for name, value in same)
    lines.append(f"The same in all runs: {', '.join(values)}.")
    each = ", `effects.csv` every comparison" if compared else ""
    lines.append(f"`results.csv` has every run{each}, `results.tex` the table of results (booktabs).")
    return "\n".join(f"- {line}" for line in lines)


def _download(results: Results, best: str, worst: str) -> dict[str, bytes]:
    """The figures of the best and the worst run, by their place in the folder."""
    wanted = {name: key for name, key, _ in (*OF_THE_BEST, *MORE_OF_THE_BEST)}
    media = results.media(best, [*wanted.values(), "confusion_matrix"])
    figures = {name: media[key] for name, key in wanted.items() if key in media}
    if "confusion_matrix" in media:
        figures["confusion_best"] = media["confusion_matrix"]
    if worst != best and (other := results.media(worst, ["confusion_matrix"])):
        figures["confusion_worst"] = other["confusion_matrix"]
    return {f"figures/{name}.png": content for name, content in figures.items()}


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    # Without this, the file names the version of matplotlib.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
