"""A table of strings as text: Markdown for a page, LaTeX (booktabs) for a paper, CSV for a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pandas as pd

from wandb_tl.analysis import formatting

# A cell that is aligned to the right.
NUMBER = re.compile(r"(< )?[+\N{MINUS SIGN}-]?[\d.,]*( ± [\d.]+)?")
LATEX_SPECIAL = str.maketrans(
    {char: f"\\{char}" for char in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    | {"\N{MINUS SIGN}": "$-$", "→": r"$\rightarrow$"}
)
# A spreadsheet reads a cell that begins with one of these as a formula, unless an apostrophe is before it.
FORMULA = re.compile(r"^(?='*[=+\-@\t\r])")


def csv(frame: pd.DataFrame) -> bytes:
    """A table as a CSV file, in which no string is a formula; `without_apostrophes` is the inverse.

    Headings may come from a run, too: a sweep names its objectives.
    """
    safe = _each_text(frame, lambda text: FORMULA.sub("'", text))
    return safe.to_csv(index=False).encode()


def without_apostrophes(frame: pd.DataFrame) -> pd.DataFrame:
    """The table of a CSV file as it was before `csv`."""
    return _each_text(frame, lambda text: re.sub(r"^'(?='*[=+\-@\t\r])", "", text))


def _each_text(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with each of its strings and headings changed."""
    return frame.map(lambda cell: change(cell) if isinstance(cell, str) else cell).rename(columns=change)


def markdown(cells: pd.DataFrame) -> str:
    """A table of strings as Markdown, numbers aligned right; Markdown and HTML in it are escaped."""
    safe = cells.map(formatting.escaped).rename(columns=formatting.escaped)
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


def _numeric(column: pd.Series[str]) -> bool:
    # Not by the methods of pandas, which with pyarrow know other regular expressions.
    return all(NUMBER.fullmatch(cell) for cell in column)


def _latex_row(cells: Iterable[object]) -> str:
    return " & ".join(str(cell).translate(LATEX_SPECIAL) for cell in cells) + r" \\"
