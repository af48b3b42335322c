"""The page of one Table: its rows in pages, sorted, filtered, with summaries of its columns."""

from __future__ import annotations

from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import logged_tables, table_rows
from wandb_tl.local.pages.logged_tables import LoggedTable, TableError
from wandb_tl.local.pages.media import SUMMARY, Media
from wandb_tl.local.pages.media_items import TABLES, ItemReader
from wandb_tl.local.pages.values import Run
from wandb_tl.local.pages.view import Page, PageRequest


def of_run(request: PageRequest, run: Run, media: Media, key: str) -> Page:
    """The page of a Table that a run logged. Raises RequestError (404) if it logged none under this key.

    The query may name the line of the history; otherwise it is the last Table.
    """
    line = request.query.get("line", "")
    value = media.value(key, int(line) if line.isdecimal() and len(line) < 10 else SUMMARY)
    if value is None or value.get("_type") not in TABLES or key not in media.logged_keys():
        raise RequestError(f"There is no Table {key} in this run.", 404)
    try:
        table = media.table(value)
    except TableError as error:
        raise RequestError(f"{error}. Download it from the page of the run.", 404) from error
    except (LookupError, TypeError, ValueError, AttributeError):
        table = None
    if table is None:
        raise RequestError(f"The Table {key} was not uploaded.", 404)
    return _page(request, table, key, run)


def of_artifact(request: PageRequest, blobs: Blobs, artifact_id: int, path: str) -> Page:
    """The page of a Table in an artifact. Raises RequestError (404) if the file is not a Table."""
    files = logged_tables.files_of_version(request.db, artifact_id)
    try:
        table = logged_tables.of_artifact(blobs, files, path)
    except TableError as error:
        raise RequestError(f"{error}. Download it from the page of the artifact.", 404) from error
    if table is None:
        raise RequestError(f"There is no file {path} in this artifact.", 404)
    return _page(request, table, path.removesuffix(".table.json"), None)


def _page(request: PageRequest, table: LoggedTable, title: str, run: Run | None) -> Page:
    query = request.query
    selection = table_rows.select(table, query.get("filter", ""), query.get("sort", ""), request.page())
    reader = ItemReader(request, table.files)
    rows = [[reader.cell(cell) for cell in row] for row in selection.rows]
    context = {"project": request.project(), "run": run, "title": title, "selection": selection, "rows": rows}
    return Page("table.html", context | {"names": request.names, "live": bool(run and run.live)})
