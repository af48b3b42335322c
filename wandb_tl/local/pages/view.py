"""The request that a view gets, and the answers that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.datastructures import QueryParams

from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.thinning import CurveReader
from wandb_tl.local.pages.values import Run, read_runs
from wandb_tl.local.records.names import project_named
from wandb_tl.local.records.rows import ProjectRow
from wandb_tl.local.records.transaction import Transaction


@dataclass
class PageRequest:
    """A request for a page: the names in its address, and the query after them.

    home: the address of the home page, relative to the page, such as "../..". reader: keeps curves between
    requests.
    """

    db: Transaction
    blobs: Blobs
    names: list[str]
    query: QueryParams
    home: str
    reader: CurveReader

    def project(self) -> ProjectRow:
        """The project that the address names. Raises RequestError (404) if there is none."""
        project = project_named(self.db, self.names[0], self.names[1])
        if project is None:
            raise RequestError(f"There is no project {self.names[0]}/{self.names[1]} here.", 404)
        return project

    def page(self) -> int:
        """The number of the page of a table, from 1."""
        number = self.query.get("page", "1")
        return int(number) if number.isdecimal() and len(number) < 10 else 1

    def runs(self, project: ProjectRow, names: list[str]) -> list[Run]:
        """The project's runs with these ids."""
        marks = ", ".join("?" * len(names))
        return read_runs(self.db, project, f"run.name IN ({marks})", *names)

    def path(self, *names: Any) -> str:
        """The address of a page, relative to this one, by the names in it."""
        return path(self.home, *names)

    def file(self, blob_id: str) -> str:
        """The signed address of a file, relative to this page."""
        return self.blobs.addresses.url(self.home, "GET", blob_id)


@dataclass
class Page:
    """A template of templates/ and the values that it shows."""

    template: str
    context: dict[str, Any]


@dataclass
class Acted:
    """What a button has done. goal: the page to show then, if it is another one; see `path`.

    unused_blobs: ids of blobs whose files to delete after the commit.
    """

    goal: tuple[str, ...] = ()
    unused_blobs: tuple[str, ...] = ()


@dataclass
class Frame:
    """HTML that a run logged, for a frame without access to the server or the network."""

    html: str


@dataclass
class Download:
    """A file that the browser saves under a name."""

    name: str
    text: str
    media_type: str


# A mapping is the data of a chart, sent as JSON; a string is an address to redirect to.
Answer = Page | Frame | Download | Mapping[str, object] | str


def path(home: str, *names: Any) -> str:
    """The address of a page below the home page, by the names in it."""
    return "/".join([home, *(quote(str(name), safe="") for name in names)])
