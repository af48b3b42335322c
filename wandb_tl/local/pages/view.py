"""What a view is given and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.datastructures import QueryParams

from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.values import Run, read_runs
from wandb_tl.local.records.database import Row, Transaction
from wandb_tl.local.records.names import project_named


@dataclass
class Asked:
    """A request for a page: the names in its address, and the query behind them."""

    db: Transaction
    blobs: Blobs
    names: list[str]
    query: QueryParams

    def project(self) -> Row:
        """The project that the address names. Raises RequestError (404) where there is none."""
        found = project_named(self.db, self.names[0], self.names[1])
        if found is None:
            raise RequestError(f"There is no project {self.names[0]}/{self.names[1]} here.", 404)
        return found

    def page(self) -> int:
        """The number of the page of a table, from 1."""
        given = self.query.get("page", "1")
        return int(given) if given.isdecimal() and len(given) < 10 else 1

    def runs(self, project: Row, names: list[str]) -> list[Run]:
        """Those of the project's runs that have these ids."""
        marks = ", ".join("?" * len(names))
        return read_runs(self.db, project, f"run.name IN ({marks})", *names)


@dataclass
class Page:
    """A template of templates/ and what it shows."""

    template: str
    context: dict[str, Any]


@dataclass
class Frame:
    """HTML that a run logged, to be shown in a frame that can reach nothing."""

    html: str


# A dictionary is what a chart draws, and goes out as JSON; a text is the address to go to instead.
Answer = Page | Frame | dict[str, Any] | str


def path(*names: Any) -> str:
    """The address of a page, by the names in it."""
    return "/" + "/".join(quote(str(name), safe="") for name in names)
