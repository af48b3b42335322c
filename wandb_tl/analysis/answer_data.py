"""The answer of a sweep as plain data, which the embedded server shows on the sweep's page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd

from wandb_tl.analysis import (
    certainty,
    conclusions,
    formatting,
    importance,
    pareto,
    search_conclusions,
    tables,
)
from wandb_tl.analysis.answer import Answer

# Recipes and changes of the tables; the report has all of them.
ROWS = 12

Data = dict[str, Any]


def as_data(answer: Answer) -> Data:
    """The answer as `python -m wandb_tl.local answer` takes it.

    The commands start this Python: a page is read long after, in a shell with another environment.
    """
    lines = conclusions.command_lines(answer)
    search, plan = answer.search, answer.next_search
    if search is not None and plan is not None and plan.search is not None and plan.confirmation is not None:
        lines.append((search_conclusions.confirmation(search), plan.confirmation))
    return {
        "sentences": [*conclusions.first_sentences(answer), *certainty.cautions(answer)],
        "commands": [
            {"label": label, "line": command.with_python(sys.executable)} for label, command in lines
        ],
        "tables": [*_front(answer), _recipes(answer), *_effects(answer), *_search(answer)],
        "runs": answer.runs,
        "finished": answer.finished,
    }


def _front(answer: Answer) -> list[Data]:
    if answer.front is None or not answer.front.runs:
        return []
    more = len(answer.front.runs) - ROWS
    captions = [f"The report has {formatting.count(more, 'more run')}."] if more > 0 else []
    return [_table("The Pareto front", pareto.table(answer.front).head(ROWS), captions)]


def _recipes(answer: Answer) -> Data:
    more = len(answer.recipes) - ROWS
    captions = [f"{tables.WHAT_PLUS_MINUS_IS}."] if answer.most_seeds > 1 else []
    captions += [f"The report has {formatting.count(more, 'more recipe')}."] if more > 0 else []
    return _table("Recipes", tables.recipes(answer, ROWS), captions)


def _effects(answer: Answer) -> list[Data]:
    if not answer.effects:
        return []
    more = len(answer.effects) - ROWS
    captions = [conclusions.about_effects(answer)]
    captions += [f"The report has {formatting.count(more, 'more change')}."] if more > 0 else []
    return [_table("One change away from row 1", tables.effects(answer).head(ROWS), captions)]


def _search(answer: Answer) -> list[Data]:
    if answer.search is None:
        return []
    found = importance.importances(answer.search)
    captions = [
        search_conclusions.importance(answer.search, found),
        search_conclusions.correlations(answer.search),
        search_conclusions.method(answer.search, found),
    ]
    return [_table("The search", tables.searched(answer.search, found), captions)]


def _table(title: str, cells: pd.DataFrame, captions: Sequence[str]) -> Data:
    table: Data = {
        "title": title,
        "columns": list(cells),
        "rows": [["" if pd.isna(cell) else str(cell) for cell in row] for row in cells.to_numpy().tolist()],
    }
    if caption := " ".join(filter(None, captions)):
        table["caption"] = caption
    return table
