"""The report of a sweep as a folder: README.md and its HTML, figures, and the results as CSV and LaTeX."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd
import yaml
from matplotlib.figure import Figure

from wandb_tl.analysis import (
    certainty,
    charts,
    compare,
    conclusions,
    effects,
    formatting,
    importance,
    method,
    pareto,
    prices,
    report_html,
    runs_by_recipe,
    search_charts,
    search_conclusions,
    table_texts,
    tables,
)
from wandb_tl.analysis.answer import Answer
from wandb_tl.analysis.effects import Pair
from wandb_tl.analysis.formatting import count
from wandb_tl.analysis.interactions import Interaction
from wandb_tl.analysis.runs_by_recipe import METRIC, RunsByRecipe

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
FILE_OF_MEDIA = {key: name for name, key, _ in (*OF_THE_BEST, *MORE_OF_THE_BEST)}
FILE_OF_MEDIA |= {"confusion_matrix": "confusion_best"}
# All files that a report may have.
FILES = ("README.md", "report.html", "results.csv", "results.tex", "effects.csv", "search.yaml")
PICTURES = (
    *(name for name, _, _ in (*OF_THE_BEST, *MORE_OF_THE_BEST)),
    *("confusion_best", "confusion_worst", "effects", "frontier", "search"),
)
# What a report keeps of a search, of several objectives, or of equal points, besides its runs: keys of the
# frame's attrs.
DEFINITION = ("method", "metric", "metrics", "parameters", "left_out", "copies")
# Rows of a table in sight and in a fold, changes, and interactions; the CSV files have the rest.
ROWS, FOLDED_ROWS, CHANGES, INTERACTIONS = 10, 100, 20, 3


class Source(compare.Source, Protocol):
    """Where the runs and the figures of a report come from."""

    def media(self, run_id: str, keys: Sequence[str]) -> dict[str, bytes]: ...


def write(source: Source, frame: pd.DataFrame, folder: Path, result: Answer | None = None) -> Answer:
    """Write the report of the runs in a frame into a folder. Returns what it says.

    result: their answer, if the caller has it. InputError if no run has a test accuracy; OSError if the files
    cannot be written. The same runs give the same bytes: nothing depends on when or where it is written.
    Files of an earlier report that this one does not have are removed.
    """
    compared, *others = runs_by_recipe.by_test_images(frame)
    result = result or compare.answer_of(source, frame)
    recipes = runs_by_recipe.recipes(compared)
    pairs = effects.pairs(RunsByRecipe(compared))
    rows = runs_by_recipe.row_of_each_run(recipes)
    cells = tables.results(compared, recipes, numbered=True)
    caption = tables.caption(compared, recipes)

    best, worst = result.winner.best_run, str(compared["id"].iloc[int(compared[METRIC].argmin())])
    files = _download(source, best, worst)
    if result.effects:
        files["figures/effects.png"] = _png(charts.effects(result.effects))
    if len(result.frontier) > 0 and len(result.recipes) > 1:
        files["figures/frontier.png"] = _png(charts.frontier(result))
    if result.search is not None:
        files["figures/search.png"] = _png(search_charts.hyperparameters(result.search))
    definition = {key: frame.attrs[key] for key in DEFINITION if frame.attrs.get(key)}
    if definition and (result.search is not None or result.front is not None or result.copies):
        files["search.yaml"] = yaml.safe_dump(definition, sort_keys=False).encode()
    recorded = frame[frame.attrs.get("columns", list(frame))]
    files["results.csv"] = table_texts.csv(recorded.assign(row=frame["id"].map(rows)))
    files["results.tex"] = table_texts.latex(cells, caption).encode()
    if pairs:
        files["effects.csv"] = table_texts.csv(tables.numbers(result, pairs))

    page = [
        f"# Results of {formatting.code(source.path)}",
        *first_screen(result),
        *(
            ["## The Pareto front", table_texts.markdown(pareto.table(result.front))]
            if result.front and result.front.runs
            else []
        ),
        *(["## The search", *search_section(result, with_figure=True)] if result.search else []),
        *_changes(result),
        *_together(result.interactions),
        "## Results",
        tables.introduction(compared, recipes),
        *_long_table(cells, "recipes", "results.csv"),
        f"{caption} {tables.test_images(compared)}".strip(),
        *_prices(result, compared, files),
        *_from_recipe_to_recipe(pairs),
        *_other_images(others),
        *_pictures_of(files, compared, result, worst, rows.get(worst)),
        "## How it was measured",
        _bullets(method.sentences(result, compared)),
    ]
    markdown = "\n\n".join(page) + "\n"
    files["README.md"], files["report.html"] = markdown.encode(), report_html.page(markdown)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name in {*FILES, *(f"figures/{name}.png" for name in PICTURES)} - set(files):
        (folder / name).unlink(missing_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return result


def point_to(folder: Path, sentence: str) -> None:
    """Put a sentence of Markdown, about reports that go on from this one, below the title of a report.

    The report must be there. Written twice, the sentence is there once.
    """
    markdown = (folder / "README.md").read_text(encoding="utf-8")
    title, _, rest = markdown.partition("\n\n")
    if not rest.startswith(sentence):
        markdown = "\n\n".join([title, sentence, rest])
        (folder / "README.md").write_bytes(markdown.encode())
        (folder / "report.html").write_bytes(report_html.page(markdown))


def first_screen(result: Answer) -> list[str]:
    """The answer in Markdown: what to use, how sure that is, and the commands that follow from it."""
    first, *others = conclusions.first_sentences(result)
    block = "\n".join(f"# {label}\n{command}" for label, command in conclusions.command_lines(result))
    return [
        f"**{first}**",
        _bullets([*others, *certainty.cautions(result)]),
        f"```bash\n{block}\n```",
        conclusions.never_varied(result),
    ]


def search_section(result: Answer, with_figure: bool) -> list[str]:
    """What a search says in Markdown: a figure and a table of its hyperparameters, and what follows."""
    search, plan = result.search, result.next_search
    if search is None or plan is None:
        return []
    found = importance.importances(search)
    caption = f"{search.judged_by} against each hyperparameter"
    lines = [search_conclusions.introduction(search)]
    if with_figure:
        lines.append(f"![{caption}](figures/search.png)")
    lines += [
        table_texts.markdown(tables.searched(search, found)),
        _bullets([search_conclusions.importance(search, found), search_conclusions.correlations(search)]),
    ]
    if plan.search is not None and plan.confirmation is not None:
        label = search_conclusions.confirmation(search)
        lines.append(f"```bash\n# {label}\n{plan.confirmation}\n```")
    return [*lines, search_conclusions.method(search, found)]


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _changes(result: Answer) -> list[str]:
    """The changes of the winner as a figure and a table."""
    if not result.effects:
        return []
    cells = tables.effects(result)
    more = len(cells) - CHANGES
    return [
        "## One change away from the best recipe",
        "What each change does to the test accuracy of row 1, largest first, compared seed by seed.",
        "![Points of test accuracy by change, with 95 % intervals](figures/effects.png)",
        table_texts.markdown(cells.head(CHANGES)),
        *([f"`effects.csv` has {more} more."] if more > 0 else []),
        conclusions.about_effects(result),
    ]


def _together(found: Sequence[Interaction]) -> list[str]:
    """The largest settled interaction of each pair of hyperparameters as a 2 x 2 table."""
    shown: dict[frozenset[str], Interaction] = {}
    for one in found:
        if one.settled:
            shown.setdefault(frozenset((one.first.parameter, one.second.parameter)), one)
    if not shown:
        return []
    lines = ["## Hyperparameters that act together", conclusions.about_interactions(found)]
    for one in list(shown.values())[:INTERACTIONS]:
        lines += [conclusions.interaction(one), table_texts.markdown(tables.interaction(one))]
    more = len(shown) - INTERACTIONS
    return [*lines, *([f"`effects.csv` has {count(more, 'more pair')}."] if more > 0 else [])]


def _long_table(cells: pd.DataFrame, noun: str, file: str) -> list[str]:
    """The first rows of a table, more of them in a fold, and where the rest is."""
    lines = [table_texts.markdown(cells.head(ROWS))]
    rest = cells.iloc[ROWS : ROWS + FOLDED_ROWS]
    if len(rest):
        lines += _fold(f"{len(rest)} more {noun}", table_texts.markdown(rest))
    if (more := len(cells) - ROWS - FOLDED_ROWS) > 0:
        lines.append(f"`{file}` has the other {more}.")
    return lines


def _fold(summary: str, *lines: str) -> list[str]:
    return [f"<details><summary>{summary}</summary>", *lines, "</details>"]


def _prices(result: Answer, frame: pd.DataFrame, files: dict[str, bytes]) -> list[str]:
    """Time and cost: the frontier as a figure and a table, and what the numbers mean."""
    best = [result.recipes[row - 1] for row in result.frontier]
    others = [recipe for recipe in result.recipes if recipe not in best]
    caption = "Accuracy against time: no recipe is both more accurate and faster than those on the line"
    cells = tables.costs(best[:ROWS])
    return [
        "## Time and cost",
        *_picture(files, "frontier", caption),
        table_texts.markdown(cells),
        *(_fold("Other recipes", table_texts.markdown(tables.costs(others[:FOLDED_ROWS]))) if others else []),
        " ".join(
            [
                f"{tables.total_time(frame)} Numbers are medians over the runs of a recipe.",
                prices.scope(frame),
                *result.price_notes,
            ]
        ),
        *filter(None, [prices.frozen_layers(frame)]),
    ]


def _from_recipe_to_recipe(pairs: list[Pair]) -> list[str]:
    """What each change does anywhere in the table, in a fold."""
    if not pairs:
        return []
    more = len(pairs) - FOLDED_ROWS
    return _fold(
        "Each change from recipe to recipe",
        "Each with a 95 % interval of its own, which is not corrected for how many there are.",
        table_texts.markdown(tables.pairs(pairs[:FOLDED_ROWS])),
        *([f"`effects.csv` has the other {more}."] if more > 0 else []),
    )


def _other_images(others: list[pd.DataFrame]) -> list[str]:
    """A table for each group of runs that are tested on other images."""
    lines = []
    for frame in others:
        recipes = runs_by_recipe.recipes(frame)
        if len(recipes):
            lines += [tables.introduction(frame, recipes)]
            lines += _long_table(tables.results(frame, recipes), "recipes", "results.csv")
    return ["## Runs with other test images", *lines] if lines else []


def _pictures_of(
    files: dict[str, bytes], frame: pd.DataFrame, result: Answer, worst: str, worst_row: int | None
) -> list[str]:
    """The figures that the best run logged, and the confusion matrices of the best and the worst."""
    names = frame.set_index("id")["name"].map(formatting.code)
    lines = ["## The best run", f"{names[result.winner.best_run]} {conclusions.best_run(result)}"]
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


def _download(source: Source, best: str, worst: str) -> dict[str, bytes]:
    """The figures of the best and the worst run, by their place in the folder."""
    media = source.media(best, list(FILE_OF_MEDIA))
    figures = {name: media[key] for key, name in FILE_OF_MEDIA.items() if key in media}
    if worst != best and (other := source.media(worst, ["confusion_matrix"])):
        figures["confusion_worst"] = other["confusion_matrix"]
    return {f"figures/{name}.png": content for name, content in figures.items()}


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    # Without this, the file names the version of matplotlib.
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
