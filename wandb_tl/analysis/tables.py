"""Results as tables of text: Markdown for a page, LaTeX (booktabs) for a paper."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from wandb_tl.analysis import conclusions, effects
from wandb_tl.analysis.effects import Comparison

# Table 1 of the original experiment: heading, column of the results.
PARAMETERS = (("Pretrained", "pretrained"), ("Finetuning", "finetuning"), ("Optimizer", "optimizer"))
MEANS = (
    ("Avg Train Loss", "avg_train_loss"),
    ("Avg Train Accuracy", "avg_train_accuracy"),
    ("Val Accuracy", effects.SELECTION),
)
LATEX_SPECIAL = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"\N{MINUS SIGN}": "$-$", "→": r"$\rightarrow$"}
)


def results(frame: pd.DataFrame, recipes: pd.DataFrame, numbered: bool = False) -> pd.DataFrame:
    """Table 1's columns, after those of the other hyperparameters that differ; one row a recipe, as text.

    Test accuracy is in per cent: a run's where each recipe ran once, else the mean over n seeds with its 95 %
    t-interval. numbered: with a first column that other tables and the conclusions refer to.
    """
    runs = frame.set_index("id").loc[recipes["best_run"]].reset_index()
    shown = {name for _, name in PARAMETERS}
    columns = [(name, name) for name in effects.varied(frame) if name not in shown] + list(PARAMETERS)
    # A hyperparameter that does nothing in a recipe is left empty; one that does not vary is in no recipe.
    cells = {
        title: (recipes if name in recipes else runs)[name].map(conclusions.level) for title, name in columns
    }
    if numbered:
        cells = {"Row": pd.Series(range(1, len(recipes) + 1)).map(str)} | cells
    for title, name in MEANS:
        if name in recipes:
            cells[title] = recipes[name].map(_printed("{:.4f}"))
    cells["Test Accuracy"] = pd.Series([_with_interval(*pair) for pair in _pairs(recipes)])
    if recipes["n"].max() > 1:
        cells["n"] = recipes["n"].map(str)
    return pd.DataFrame(cells)


def measured(found: list[Comparison], rows: dict[str, int]) -> pd.DataFrame:
    """Every comparison in numbers: what changes, by how many points, how sure, and what it rests on."""
    return pd.DataFrame(
        {
            "change": conclusions.changes_in_words(one),
            "kind": one.kind,
            "points": one.effect.mean,
            "half_width": one.effect.half_width,
            "pairs": len(one.blocks),
            "seeds": one.effect.n,
            "p": one.p,
            "p_holm": one.p_holm,
            "rests_on": conclusions.rows_of(one, rows),
        }
        for one in found
    )


def comparisons(found: list[Comparison], rows: dict[str, int]) -> pd.DataFrame:
    """The same as text."""
    data = measured(found, rows)
    return pd.DataFrame(
        {
            "Change": data["change"],
            "Kind": data["kind"],
            "Points": [conclusions.points(one.effect) for one in found],
            "Pairs": data["pairs"].map(str),
            "Seeds": data["seeds"].map(str),
            "p": data["p"].map(_probability),
            "p (Holm)": data["p_holm"].map(_probability),
            "Rests on": data["rests_on"],
        }
    )


def comparisons_by_recipe(found: list[Comparison], rows: dict[str, int]) -> pd.DataFrame:
    """Main effects taken apart: what a change does from one row to another, over the seeds they share."""
    cells = []
    for comparison in found:
        between: dict[tuple[int, int], list[float]] = {}
        for block in comparison.blocks if comparison.kind == "main" else ():
            high, low = (rows[block.runs[side][0]] for side in (1, 0))
            between.setdefault((high, low), []).append(block.difference)
        for (high, low), differences in sorted(between.items()):
            cells.append(
                {
                    "Change": conclusions.changes_in_words(comparison),
                    "Row": str(high),
                    "Against row": str(low),
                    "Points": conclusions.points(effects.mean_of(differences)),
                    "Seeds": str(len(differences)),
                }
            )
    return pd.DataFrame(cells)


def costs(frame: pd.DataFrame, recipes: pd.DataFrame) -> pd.DataFrame:
    """Means a run of each row: seconds of training, images a second, memory, and energy where it is known."""
    known = frame.set_index("id")
    runs = [known.loc[list(ids)] for ids in recipes["runs"]]
    cells: dict[str, Any] = {"Row": [str(row) for row in range(1, len(recipes) + 1)]}
    columns = (
        ("Train seconds", "train_seconds", "{:,.1f}"),
        ("Images/s", "images_per_second", "{:,.0f}"),
        ("Peak memory, MB", "peak_memory_mb", "{:,.0f}"),
        ("Energy, Wh", "energy_wh", "{:,.2f}"),
    )
    for title, name, form in columns:
        if frame[name].notna().any():
            cells[title] = [_printed(form)(run[name].mean()) for run in runs]
    return pd.DataFrame(cells)


def total_time(frame: pd.DataFrame) -> str:
    """What the runs took together, and which runs the table leaves out, in words."""
    seconds, devices = frame["train_seconds"].sum(), sorted(set(frame["device"]) - {""})
    runs = "1 run" if len(frame) == 1 else f"{len(frame)} runs"
    where = f" on {' and '.join(devices)}" if devices else ""
    text = f"Total training time of the {runs}: {seconds:,.2f} s{where}."
    if left_out := frame.attrs.get("left_out"):
        text += f" Left out: {', '.join(f'{count} {state}' for state, count in left_out.items())}."
    return text


def markdown(cells: pd.DataFrame) -> str:
    """A table of text as Markdown, numbers to the right; nothing in a cell is taken for Markdown or HTML."""
    safe = cells.map(lambda cell: html.escape(cell, quote=False).replace("|", "\\|").replace("*", "\\*"))
    sides = ["right" if _numeric(cells[name]) else "left" for name in cells]
    return safe.to_markdown(index=False, disable_numparse=True, colalign=sides)


def latex(cells: pd.DataFrame, caption: str) -> str:
    r"""A table of text as LaTeX that needs \usepackage{booktabs}."""
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


def _pairs(recipes: pd.DataFrame) -> zip:
    return zip(recipes["mean"], recipes["half_width"], strict=True)


def _with_interval(mean: float, half_width: float) -> str:
    return f"{mean:.2f}" if math.isnan(half_width) else f"{mean:.2f} ± {half_width:.2f}"


def _printed(form: str) -> Callable[[float], str]:
    """Prints a number in a form, and nothing for one that is not known."""
    return lambda value: "" if math.isnan(value) else form.format(value)


def _probability(p: float) -> str:
    return "" if math.isnan(p) else conclusions.probability(p).removeprefix("p = ").removeprefix("p ")


def _numeric(column: pd.Series) -> bool:
    return column.str.fullmatch(r"[+\N{MINUS SIGN}-]?[\d.,]*( ± [\d.]+)?").all()


def _latex_row(cells: Any) -> str:
    return " & ".join(str(cell).translate(LATEX_SPECIAL) for cell in cells) + r" \\"
