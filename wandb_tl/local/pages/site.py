"""The pages' routes: the view that an address names, who may see it, and how it is rendered."""

from __future__ import annotations

import hmac
import json
import shlex
import sqlite3
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, unquote, urlencode

import anyio
import anyio.to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from wandb_tl.local.access import LOGIN, LOGOUT, Logins, from_another_page, has_key, raw_path
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import artifact, comparison, overview, report, run, runs_table, sweep, values
from wandb_tl.local.pages.headers import FRAME_POLICY, HEADERS
from wandb_tl.local.pages.plotly_script import PlotlyScript
from wandb_tl.local.pages.thinning import CurveReader
from wandb_tl.local.pages.view import Acted, Answer, Download, Frame, Page, PageRequest, path
from wandb_tl.local.records.database import READERS, Database, Readers
from wandb_tl.local.records.names import project_named
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs.lines import strict

HERE = Path(__file__).parent

T = TypeVar("T")

# How long the queries of a page may take.
PAGE_SECONDS = 20
# The longest time that a page may show an agent at work after it fell silent.
SILENCE_SHOWS_SECONDS = 15
# The size of the largest form of these pages: of a run with many tags.
FORM_BYTES = 65_536
# The parts of an entity's name, at most.
ENTITY_PARTS = 20
# A form without the token of this server's pages.
STALE_FORM = "This form is not from a page of this server: reload the page, and try again."
STALE_LINK = "This link has been used, is older than ten minutes, or belongs to another server."
# To a browser that calls the server by a name that might lead to another machine tomorrow.
FOREIGN_NAME = (
    "This is not one of the server's own names. Open its pages by the link that "
    "python -m wandb_tl.local open prints, or by a number such as 127.0.0.1."
)
# What the page of a refusal is called; others are called REFUSED.
HEADINGS = {
    404: "Not found",
    409: "Not possible now",
    413: "Too large",
    421: "Unknown name",
    503: "Too slow",
}
REFUSED = "Not done"


class Site:
    """The pages of one database, which they read on connections of their own."""

    def __init__(self, database: Database, reading: Readers, blobs: Blobs, logins: Logins) -> None:
        self.database, self.reading, self.blobs, self.logins = database, reading, blobs, logins
        # A thread per connection: pages that wait for one must not hold the threads of other requests.
        self.showing = anyio.CapacityLimiter(READERS)
        self.start = time.time_ns()
        self.plotly = PlotlyScript()
        self.reader = CurveReader()
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals |= {
            "changed": changed,
            "plotly_name": self.plotly.name,
            "form_token": logins.session.form_token,
        }
        self.templates.filters |= {
            "show": values.show,
            "cut": values.cut,
            "difference": runs_table.show_difference,
            "duration": values.show_duration,
            "time": values.show_time,
            "size": values.show_size,
            "shell": shlex.quote,
            "literal": lambda text: json.dumps(text, ensure_ascii=False),
            "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        }

    def routes(self) -> list[BaseRoute]:
        return [
            Route(LOGIN, self.log_in, methods=["GET", "POST"]),
            Route(LOGOUT, self.log_out, methods=["POST"]),
            Route(f"/-/{self.plotly.name}", self.plotly.send, methods=["GET"]),
            Mount("/-/static", StaticFiles(directory=HERE / "static")),
            Route("/{path:path}", self.get, methods=["GET"]),
            Route("/{path:path}", self.post, methods=["POST"]),
        ]

    async def log_in(self, request: Request) -> Response:
        """Log a browser in, by the link that `wandb_tl.local open` prints or by the key in a form."""
        if request.method == "GET":
            goal, token = request.query_params.get("next", "/"), request.query_params.get("token", "")
            if self.logins.use(token):
                return await self.let_in(request, goal)
            if await run_in_threadpool(self.logins.knows, request):
                return self.onward(request, goal)
            if from_another_page(request) and self.logins.session.read("link", token):
                # Such as a notebook's: the browser sends its cookie when this page of ours asks again.
                return self.onward(request, request.url.path + f"?{request.url.query}")
            return self.ask_for_key(request, goal, STALE_LINK)
        try:
            form = await read_form(request)
        except RequestError as error:
            return self.refuse(request, error)
        if hmac.compare_digest(form.get("key", "").strip().encode(), self.logins.key.encode()):
            return await self.let_in(request, form.get("next", "/"))
        return self.ask_for_key(request, form.get("next", "/"), "This is not the key of this server.")

    async def let_in(self, request: Request, goal: str) -> Response:
        return await run_in_threadpool(self.logins.let_in, request, self.onward(request, goal))

    def onward(self, request: Request, goal: str) -> Response:
        """Lead the browser from LOGIN to a page. `goal` comes from an address: it must be on this server."""
        is_local = goal.startswith("/") and not goal.startswith(("//", "/\\")) and ".." not in unquote(goal)
        address = f".{goal if is_local else '/'}"
        if from_another_page(request):
            # After a redirect, the browser would send no cookie to a page that another one has led to.
            return self.render(request, Page("onward.html", {"address": address}))
        return RedirectResponse(address, 303)

    async def log_out(self, request: Request) -> Response:
        """Log all browsers out."""
        try:
            form = await read_form(request)
            if not self.logins.session.sent_form(form.get("token", "")):
                raise RequestError(STALE_FORM, 403)
        except RequestError as error:
            return self.refuse(request, error)
        page = self.ask_for_key(request, "/", "All browsers are logged out.")
        return await run_in_threadpool(self.logins.log_out, request, page)

    def knows(self, request: Request) -> bool:
        """Whether the request comes from a browser that was logged in, or from a client with the key."""
        return has_key(request, self.logins.key) or self.logins.knows(request)

    def ask_for_key(self, request: Request, goal: str, problem: str | None = None) -> Response:
        if not self.logins.is_own_name(request):
            return self.refuse(request, RequestError(FOREIGN_NAME, 421))
        # Another site's link: the browser sends the cookie that it may have when its reader follows ours.
        context = {"goal": goal, "problem": problem, "again": from_another_page(request)}
        return self.render(request, Page("login.html", context), 401)

    async def get(self, request: Request) -> Response:
        goal = raw_path(request)
        if request.url.query:
            goal += f"?{request.url.query}"
        if not await run_in_threadpool(self.knows, request):
            return self.ask_for_key(request, goal)
        if request.url.path == "/authorize":
            return self.render(request, Page("key.html", {}))
        tag = await run_in_threadpool(self.tag)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=HEADERS | {"ETag": tag})
        try:
            answer = await self.in_turn(partial(self.look, request))
        except RequestError as error:
            return self.refuse(request, error, default=404)
        if isinstance(answer, str):
            return RedirectResponse(answer, 302)
        if isinstance(answer, Frame):
            return HTMLResponse(answer.html, headers=HEADERS | {"Content-Security-Policy": FRAME_POLICY})
        if isinstance(answer, Download):
            disposition = f"attachment; filename*=UTF-8''{quote(answer.name, safe='')}"
            headers = HEADERS | {"Content-Disposition": disposition}
            return Response(answer.text, headers=headers, media_type=f"{answer.media_type}; charset=utf-8")
        if isinstance(answer, Mapping):
            # What is partial is asked for again, even if nothing has changed.
            tagged = {} if answer.get("partial") else {"ETag": tag}
            text = await self.in_turn(partial(chart_text, answer))
            return Response(text, headers=HEADERS | tagged, media_type="application/json")
        return await self.in_turn(partial(self.render, request, answer, headers={"ETag": tag}))

    async def in_turn(self, function: Callable[[], T]) -> T:
        """The result of what takes long for some pages, in one of the threads for pages."""
        return await anyio.to_thread.run_sync(function, limiter=self.showing)

    def tag(self) -> str:
        """A tag that changes with each commit, and with time, because agents may fall silent."""
        # Always on the same connection: it counts the commits of others.
        with self.reading.brief.transaction() as db:
            version = db.value("PRAGMA data_version")
        return f'"{self.start}-{version}-{int(time.time() / SILENCE_SHOWS_SECONDS)}"'

    def look(self, request: Request) -> Answer:
        """The answer of the view that the address names. Raises RequestError (503) if it takes too long."""
        try:
            with self.reading.transaction(PAGE_SECONDS) as db:
                page_request = self.page_request(request, db)
                is_link = "registry" in page_request.names and "selectionPath" in page_request.query
                view = artifact.linked if is_link else view_of(page_request.names)
                answer = view(page_request)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise RequestError(f"This page took longer than {PAGE_SECONDS} s.", 503) from None
        if isinstance(answer, Page):
            answer.context["query"] = page_request.query
        return answer

    def page_request(self, request: Request, db: Transaction) -> PageRequest:
        names = with_whole_entity(db, names_in(request))
        return PageRequest(db, self.blobs, names, request.query_params, home_of(request), self.reader)

    async def post(self, request: Request) -> Response:
        """A button on a sweep's or a run's page."""
        if not await run_in_threadpool(self.knows, request):
            return self.ask_for_key(request, request.url.path)
        actions = {"sweeps": sweep.act, "runs": run.act}

        def act(form: dict[str, str]) -> Acted:
            with self.database.transaction() as db:
                page_request = self.page_request(request, db)
                names = page_request.names
                action = actions.get(names[2]) if len(names) == 4 else None
                if action is None:
                    raise RequestError("This page has no buttons.", 404)
                acted = action(page_request, form)
            for blob_id in acted.unused_blobs:
                self.blobs.delete(blob_id)
            return acted

        try:
            form = await read_form(request)
            if not self.logins.session.sent_form(form.pop("token", "")):
                raise RequestError(STALE_FORM, 403)
            acted = await run_in_threadpool(act, form)
        except RequestError as error:
            return self.refuse(request, error)
        home = home_of(request)
        goal = path(home, *acted.goal) if acted.goal else home + raw_path(request)
        return RedirectResponse(goal, 303)

    def refuse(self, request: Request, error: RequestError, default: int = 400) -> Response:
        """The page that says why. default: its status where the error has that of a GraphQL answer, 200."""
        status = default if error.status == 200 else error.status
        page = Page("missing.html", {"message": str(error), "heading": HEADINGS.get(status, REFUSED)})
        return self.render(request, page, status)

    def render(
        self, request: Request, page: Page, status: int = 200, headers: dict[str, str] | None = None
    ) -> Response:
        template = self.templates.get_template(page.template)
        html = template.render(path=partial(path, home_of(request)), **page.context)
        return HTMLResponse(html, status, headers=HEADERS | (headers or {}))


compact = json.JSONEncoder(separators=(",", ":")).encode


def chart_text(answer: Mapping[str, object]) -> str:
    """The JSON of a chart. Its lines are written one by one: other requests wait while one is written."""
    parts = []
    for name, value in answer.items():
        items = [compact(strict(item)) for item in value] if isinstance(value, list) else []
        parts.append(f"{compact(name)}:{'[' + ','.join(items) + ']' if items else compact(strict(value))}")
    return "{" + ",".join(parts) + "}"


def home_of(request: Request) -> str:
    """The address of the home page, relative to the page of the request.

    All addresses in pages are relative, so that they hold below any prefix that a proxy adds, and without
    trust in a header that names the prefix.
    """
    return "/".join([".."] * (request.scope["raw_path"].count(b"/") - 1)) or "."


def names_in(request: Request) -> list[str]:
    """The parts of an address, from the raw path, because a name may contain an encoded slash."""
    return [unquote(part) for part in raw_path(request).split("/") if part]


def with_whole_entity(db: Transaction, names: list[str]) -> list[str]:
    """The names with the entity as one of them: the client does not encode the slashes in it."""
    for end in range(min(len(names) - 1, ENTITY_PARTS), 0, -1):
        if project_named(db, "/".join(names[:end]), names[end]):
            return ["/".join(names[:end]), *names[end:]]
    return names


def changed(query: QueryParams, **changes: Any) -> str:
    """The query of a link on the same page, with some parameters changed, or left out if None."""
    unchanged = [(name, value) for name, value in query.multi_items() if name not in changes]
    new = [(name, value) for name, value in changes.items() if value is not None]
    return "?" + urlencode([*unchanged, *new])


def view_of(names: list[str]) -> Callable[[PageRequest], Answer]:
    """The view of an address. Raises RequestError (404) for an address without one."""
    if len(names) < 2:
        return overview.home
    if len(names) == 2 or names[2] in ("workspace", "table", "overview"):
        return overview.project
    if names[2] in ("runs", "sweeps", "reports"):
        if len(names) == 3:
            return overview.project
        return {"runs": run.run, "sweeps": sweep.sweep, "reports": report.report}[names[2]]
    if names[2] == "media" and len(names) == 3:
        return comparison.compare
    if names[2] == "artifacts":
        return artifact.version if len(names) > 4 else artifact.listing
    if len(names) == 3:
        return overview.shortcut
    raise RequestError("There is no page at this address.", 404)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form.

    Raises RequestError (404) for another body, which is meant for another server, and (413) for one larger
    than the forms of these pages.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise RequestError("This address takes forms only.", 404)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            raise RequestError(f"This form has more than {FORM_BYTES // 1024} KiB: nothing was changed.", 413)
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
