"""The answer of a sweep as HTML for a notebook: sentences, tables and figures in one piece."""

from __future__ import annotations

import html
import re

from wandb_tl.analysis import (
    certainty,
    charts,
    conclusions,
    formatting,
    importance,
    pareto,
    search_charts,
    search_conclusions,
    tables,
)
from wandb_tl.analysis.answer import Answer
from wandb_tl.figures.html import figure_as_html, table_as_html

# Recipes of the table; a notebook has the others as answer.recipes.
ROWS = 10


def render(answer: Answer) -> str:
    """The answer as a fragment of HTML. Every text is escaped; figures are embedded as PNG."""
    first, *others = conclusions.first_sentences(answer)
    parts = [f"<p><b>{_inline(first)}</b></p>", _list([*others, *certainty.cautions(answer)])]
    if answer.front is not None and answer.front.runs:
        parts.append(table_as_html(pareto.table(answer.front)))
    parts.append(table_as_html(tables.recipes(answer, ROWS)))
    if (more := len(answer.recipes) - ROWS) > 0:
        parts.append(f"<p>{formatting.count(more, 'more recipe')}.</p>")
    if answer.search is not None:
        found = importance.importances(answer.search)
        sentences = (
            search_conclusions.importance(answer.search, found),
            search_conclusions.correlations(answer.search),
        )
        parts += [
            f"<p>{_inline(search_conclusions.introduction(answer.search))}</p>",
            figure_as_html(
                search_charts.hyperparameters(answer.search), "The metric against each hyperparameter"
            ),
            table_as_html(tables.searched(answer.search, found)),
            _list(list(sentences)),
            f"<p>{_inline(search_conclusions.method(answer.search, found))}</p>",
        ]
    if answer.effects:
        parts += [
            "<p>One change away from row 1:</p>",
            table_as_html(tables.effects(answer)),
            figure_as_html(charts.effects(answer.effects), "Points of test accuracy by change"),
            f"<p>{_inline(conclusions.about_effects(answer))}</p>",
        ]
    if len(answer.recipes) > 1 and answer.frontier:
        parts.append(figure_as_html(charts.frontier(answer), "Test accuracy against training time"))
    parts.append(f"<p>Next, {_inline(conclusions.next_step(answer))}.</p>")
    if answer.next_runs.command is not None:
        parts.append(f"<pre>{html.escape(str(answer.next_runs.command))}</pre>")
    return "\n".join(part for part in parts if part)


def _inline(sentence: str) -> str:
    """A sentence with its code spans as HTML."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(sentence, quote=False))


def _list(sentences: list[str]) -> str:
    items = "".join(f"<li>{_inline(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""
