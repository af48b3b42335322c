"""The same media of several runs, side by side at one step."""

from __future__ import annotations

from typing import NamedTuple

from wandb_tl.local.pages.labels import label_runs
from wandb_tl.local.pages.media import SUMMARY, Media, Moment, Strip, slider_of
from wandb_tl.local.pages.media_items import Item
from wandb_tl.local.pages.values import Run, read_runs
from wandb_tl.local.pages.view import Answer, Page, PageRequest

# The runs on the page; the reader ticks others to see them.
RUNS = 24


class Column(NamedTuple):
    """One run: its media of the key, the axis and the value on it; without items if it had none by then."""

    run: Run
    items: list[Item]
    axis: str
    at: object


def compare(request: PageRequest) -> Answer:
    """ENTITY/PROJECT/media?runs=A,B&key=KEY&step=STEP. Without runs: the first of the project."""
    project, query = request.project(), request.query
    names = [name for text in query.getlist("runs") for name in text.split(",") if name]
    runs = request.runs(project, names) if names else read_runs(request.db, project)
    label_runs(runs)
    in_order = sorted(runs, key=lambda run: names.index(run.id)) if names else runs
    readers = [Media(request, run) for run in in_order[:RUNS]]
    keys = list(dict.fromkeys(key for media in readers for key in media.logged_keys()))
    key = query.get("key") or (keys[0] if keys else "")
    strips = [media.strip(key) for media in readers]
    slider = slider_of([strip for strip in strips if strip])
    step = _number(query.get("step", ""))
    columns = [_column(media, strip, key, step) for media, strip in zip(readers, strips, strict=True)]
    context = {
        "project": project,
        "total": len(runs),
        "columns": columns,
        "keys": keys,
        "key": key,
        "slider": slider,
        "step": step,
        "live": any(run.live for run in runs),
    }
    return Page("comparison.html", context)


def _column(media: Media, strip: Strip | None, key: str, step: float | None) -> Column:
    """What a run had last logged at a step; None is the newest."""
    moments: list[Moment] = strip.moments if strip else []
    logged = [
        moment for moment in moments if step is None or moment.line == SUMMARY or moment.position <= step
    ]
    if not strip or not logged:
        return Column(media.run, [], strip.axis if strip else "", None)
    return Column(media.run, media.at(key, logged[-1].line), strip.axis.lstrip("_"), logged[-1].at)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
