"""Results as tables of strings: Markdown for a page, LaTeX (booktabs) for a paper."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

import pandas as pd

from wandb_tl.analysis import formatting, runs_by_recipe
from wandb_tl.analysis.effects import Comparison
from wandb_tl.analysis.intervals import mean_of
from wandb_tl.analysis.runs_by_recipe import SELECTION

# Table 1 of the original experiment: heading, column of the results.
PARAMETERS = (("Pretrained", "pretrained"), ("Finetuning", "finetuning"), ("Optimizer", "optimizer"))
MEANS = (
    ("Avg Train Loss", "avg_train_loss"),
    ("Avg Train Accuracy", "avg_train_accuracy"),
    ("Val Accuracy", SELECTION),
    ("Val F1", "val/f1_macro"),
    ("Test F1", "test/f1_macro"),
)
LATEX_SPECIAL = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"\N{MINUS SIGN}": "$-$", "→": r"$\rightarrow$"}
)


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
            cells[title] = [formatting.number(value, "{:.4f}") for value in recipes[name]]
    cells["Test Accuracy"] = list(map(formatting.accuracy, recipes["mean"], recipes["half_width"]))
    if recipes["n"].max() > 1:
        cells["n"] = [str(n) for n in recipes["n"]]
    return pd.DataFrame(cells)


def effects(comparisons: list[Comparison], rows: dict[str, int]) -> pd.DataFrame:
    """Every comparison in numbers: the change, its effect in points, p-values, and the rows it rests on."""
    return pd.DataFrame(
        {
            "change": formatting.changes_in_words(one),
            "kind": one.kind,
            "points": one.effect.mean,
            "half_width": one.effect.half_width,
            "pairs": len(one.blocks),
            "seeds": one.effect.n,
            "p": one.p,
            "p_holm": one.p_holm,
            "rests_on": formatting.rows_of(one, rows),
        }
        for one in comparisons
    )


def effects_as_text(comparisons: list[Comparison], rows: dict[str, int]) -> pd.DataFrame:
    """The table of effects() as strings."""
    data = effects(comparisons, rows)
    return pd.DataFrame(
        {
            "Change": data["change"],
            "Kind": data["kind"],
            "Points": [formatting.points(one.effect) for one in comparisons],
            "Pairs": data["pairs"].map(str),
            "Seeds": data["seeds"].map(str),
            "p": data["p"].map(_probability),
            "p (Holm)": data["p_holm"].map(_probability),
            "Rests on": data["rests_on"],
        }
    )


def effects_by_recipe(comparisons: list[Comparison], rows: dict[str, int]) -> pd.DataFrame:
    """Main effects by pair of recipes: what a change does from row to row, over their common seeds."""
    cells = []
    for comparison in comparisons:
        between: dict[tuple[int, int], list[float]] = {}
        for block in comparison.blocks if comparison.kind == "main" else ():
            high, low = (rows[block.runs[side][0]] for side in (1, 0))
            between.setdefault((high, low), []).append(block.difference)
        for (high, low), differences in sorted(between.items()):
            cells.append(
                {
                    "Change": formatting.changes_in_words(comparison),
                    "Row": str(high),
                    "Against row": str(low),
                    "Points": formatting.points(mean_of(differences)),
                    "Seeds": str(len(differences)),
                }
            )
    return pd.DataFrame(cells)


def costs(frame: pd.DataFrame, recipes: pd.DataFrame) -> pd.DataFrame:
    """Means over the runs of each row: training time, throughput, memory, and energy if any run has it."""
    by_id = frame.set_index("id")
    runs = [by_id.loc[list(ids)] for ids in recipes["runs"]]
    cells = {"Row": _row_numbers(recipes)}
    columns = (
        ("Train seconds", "train_seconds", "{:,.1f}"),
        ("Images/s", "images_per_second", "{:,.0f}"),
        ("Peak memory, MB", "peak_memory_mb", "{:,.0f}"),
        ("Energy, Wh", "energy_wh", "{:,.2f}"),
    )
    for title, name, form in columns:
        if frame[name].notna().any():
            cells[title] = [formatting.number(run[name].mean(), form) for run in runs]
    return pd.DataFrame(cells)


def total_time(frame: pd.DataFrame) -> str:
    """The total training time, and which runs the table leaves out, in words."""
    seconds, devices = frame["train_seconds"].sum(), sorted(set(frame["device"]) - {""})
    runs = "1 run" if len(frame) == 1 else f"{len(frame)} runs"
    where = f" on {' and '.join(devices)}" if devices else ""
    text = f"Total training time of the {runs}: {seconds:,.2f} s{where}."
    if left_out := frame.attrs.get("left_out"):
        text += f" Left out: {', '.join(f'{count} {state}' for state, count in left_out.items())}."
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


def markdown(cells: pd.DataFrame) -> str:
    """A table of strings as Markdown, numbers aligned right; Markdown and HTML in cells are escaped."""
    safe = cells.map(lambda cell: html.escape(cell, quote=False).replace("|", "\\|").replace("*", "\\*"))
    sides = ["right" if _numeric(cells[name]) else "left" for name in cells]
    return safe.to_markdown(index=False, disable_numparse=True, colalign=sides)


def latex(cells: pd.DataFrame, caption: str) -> str:
    r"""A table of strings as LaTeX that needs \usepackage{booktabs}."""
    sides = "".join("r" if _numeric(cells[name]) else "l" for name in cells)
    lines = [_latex_row(cells.columns), *(_latex_row(row) for row in cells.itertuples(index=False))]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption.translate(LATEX_SPECIAL)}}}",
            rf"  \begin{{tabular}}{{{sides}}}",
            r"    \toprule",
            f"    {lines[0]}",
            r"    \midrule",
            *(f"    {line}" for line in lines[1:]),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _row_numbers(recipes: pd.DataFrame) -> list[str]:
    return [str(row) for row in range(1, len(recipes) + 1)]


def _probability(p: float) -> str:
    return "" if math.isnan(p) else formatting.probability(p).removeprefix("p = ").removeprefix("p ")


def _numeric(column: pd.Series[str]) -> bool:
    return bool(column.str.fullmatch(r"[+\N{MINUS SIGN}-]?[\d.,]*( ± [\d.]+)?").all())


def _latex_row(cells: Iterable[object]) -> str:
    return " & ".join(str(cell).translate(LATEX_SPECIAL) for cell in cells) + r" \\"
