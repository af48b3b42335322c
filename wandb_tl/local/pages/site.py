"""The pages' routes: which view an address means, who may see it, and how it is rendered."""

from __future__ import annotations

import hmac
import json
import shlex
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from wandb_tl.local.access import LOGIN, Session, from_here, has_key
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import artifact, overview, report, run, sweep, values
from wandb_tl.local.pages.view import Answer, Asked, Frame, Page, path
from wandb_tl.local.records.database import Database, Transaction
from wandb_tl.local.records.names import project_named
from wandb_tl.local.runs.history import strict

HERE = Path(__file__).parent

# How long an agent that fell silent may still be shown at work.
SILENCE_SHOWS_SECONDS = 15
# No form of these pages is larger.
FORM_BYTES = 4096

# Nothing from elsewhere, and no script but this server's own files. Charts set styles on their elements.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " media-src 'self'; frame-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
# What a run logged as HTML may run its own scripts, on an origin of its own, and reach nothing.
FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval';"
    " style-src 'unsafe-inline'; img-src data: blob:; media-src data: blob:; font-src data:;"
    " frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # The browser asks again each time, and gets a 304 where nothing has changed.
    "Cache-Control": "no-cache",
}


class Site:
    """The pages over one database, which they read on a connection of its own."""

    def __init__(self, database: Database, reading: Database, blobs: Blobs, key: str) -> None:
        self.database, self.reading, self.blobs, self.key = database, reading, blobs, key
        self.session = Session(key)
        self.born = time.time_ns()
        self.templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals |= {"path": path, "changed": changed}
        self.templates.filters |= {
            "show": values.show,
            "duration": values.show_duration,
            "time": values.show_time,
            "size": values.show_size,
            "shell": shlex.quote,
            "pretty": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
        }

    def routes(self) -> list[BaseRoute]:
        return [
            Route(LOGIN, self.log_in, methods=["GET", "POST"]),
            Mount("/-/static", StaticFiles(directory=HERE / "static")),
            Route("/{path:path}", self.get, methods=["GET"]),
            Route("/{path:path}", self.post, methods=["POST"]),
        ]

    async def log_in(self, request: Request) -> Response:
        """By the link that `wandb_tl.local open` prints, or by typing the key."""
        if request.method == "GET":
            goal = request.query_params.get("next", "/")
            if self.session.accepts("link", request.query_params.get("token", "")):
                return self.session.let_in(request, goal)
            return self.ask_for_key(goal, "This link is older than a day, or of another server.")
        form = await read_form(request)
        if from_here(request) and hmac.compare_digest(
            form.get("key", "").strip().encode(), self.key.encode()
        ):
            return self.session.let_in(request, form.get("next", "/"))
        return self.ask_for_key(form.get("next", "/"), "That is not the key.")

    def knows(self, request: Request) -> bool:
        """A browser that was logged in, or a client with the key."""
        return self.session.knows(request) or has_key(request, self.key)

    def ask_for_key(self, goal: str, problem: str | None = None) -> Response:
        return self.render(Page("login.html", {"goal": goal, "problem": problem}), 401)

    async def get(self, request: Request) -> Response:
        goal = request.scope["raw_path"].decode()
        if request.url.query:
            goal += f"?{request.url.query}"
        if not self.knows(request):
            return self.ask_for_key(goal)
        if request.url.path == "/authorize":
            return self.render(Page("key.html", {}))
        tag = await run_in_threadpool(self.tag)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=HEADERS | {"ETag": tag})
        try:
            answer = await run_in_threadpool(self.look, request)
        except RequestError as error:
            return self.render(Page("missing.html", {"message": str(error)}), 404)
        if isinstance(answer, str):
            return RedirectResponse(answer, 302)
        if isinstance(answer, Frame):
            return HTMLResponse(answer.html, headers=HEADERS | {"Content-Security-Policy": FRAME_POLICY})
        if isinstance(answer, dict):
            return JSONResponse(strict(answer), headers=HEADERS | {"ETag": tag})
        return await run_in_threadpool(self.render, answer, 200, {"ETag": tag})

    def tag(self) -> str:
        """What changes when a page may have: a commit, or for what silence means, the time."""
        with self.reading.lock:
            version = next(iter(self.reading.connection.execute("PRAGMA data_version").fetchone().values()))
        return f'"{self.born}-{version}-{int(time.time() / SILENCE_SHOWS_SECONDS)}"'

    def look(self, request: Request) -> Answer:
        with self.reading.transaction() as db:
            asked = self.asked(request, db)
            answer = view_of(asked.names)(asked)
        if isinstance(answer, Page):
            answer.context["query"] = asked.query
        return answer

    def asked(self, request: Request, db: Transaction) -> Asked:
        return Asked(db, self.blobs, with_whole_entity(db, names_in(request)), request.query_params)

    async def post(self, request: Request) -> Response:
        """A button on a sweep's or a run's page."""
        if not self.knows(request) or not from_here(request):
            return self.ask_for_key(request.url.path)
        form = await read_form(request)
        actions = {"sweeps": sweep.act, "runs": run.act}

        def act() -> None:
            with self.database.transaction() as db:
                asked = self.asked(request, db)
                action = actions.get(asked.names[2]) if len(asked.names) == 4 else None
                if action is None:
                    raise RequestError("There is nothing to do at this address.", 404)
                action(asked, form)

        try:
            await run_in_threadpool(act)
        except RequestError as error:
            return self.render(Page("missing.html", {"message": str(error)}), 404)
        return RedirectResponse(request.scope["raw_path"].decode(), 303)

    def render(self, page: Page, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        html = self.templates.get_template(page.template).render(**page.context)
        return HTMLResponse(html, status, headers=HEADERS | (headers or {}))


def names_in(request: Request) -> list[str]:
    """The parts of an address; from the raw path, because a name may hold an encoded slash."""
    return [unquote(part) for part in request.scope["raw_path"].decode().split("/") if part]


def with_whole_entity(db: Transaction, names: list[str]) -> list[str]:
    """The names with the entity as one: the client prints the slashes in it as they are."""
    for end in range(len(names) - 1, 0, -1):
        if project_named(db, "/".join(names[:end]), names[end]):
            return ["/".join(names[:end]), *names[end:]]
    return names


def changed(query: QueryParams, **changes: Any) -> str:
    """The query of a link on the same page, with some of its parameters changed or (None) left out."""
    kept = [(name, value) for name, value in query.multi_items() if name not in changes]
    given = [(name, value) for name, value in changes.items() if value is not None]
    return "?" + urlencode([*kept, *given])


def view_of(names: list[str]) -> Any:
    """The view that shows an address. Raises RequestError (404) for an address that means nothing."""
    if len(names) < 2:
        return overview.home
    if len(names) == 2 or names[2] in ("workspace", "table", "overview"):
        return overview.project
    if names[2] in ("runs", "sweeps", "reports"):
        if len(names) == 3:
            return overview.project
        return {"runs": run.run, "sweeps": sweep.sweep, "reports": report.report}[names[2]]
    if names[2] == "artifacts":
        return artifact.version if len(names) > 4 else artifact.listing
    if len(names) == 3:
        return overview.shortcut
    raise RequestError("There is nothing at this address.", 404)


async def read_form(request: Request) -> dict[str, str]:
    """A small form; an empty one where what came is larger than any of these pages sends."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_BYTES:
            return {}
    return {name: given[0] for name, given in parse_qs(body.decode(errors="replace")).items()}
