"""The HTTP surface: GraphQL, the file stream, blobs and the pages, behind one key."""

from __future__ import annotations

import base64
import logging
import posixpath
import sqlite3
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, cast
from urllib.parse import unquote

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from wandb_tl.local.access import Logins, has_key, raw_path
from wandb_tl.local.api.execution import Graph, GraphQLBody
from wandb_tl.local.artifacts import manifests, uploads
from wandb_tl.local.artifacts.blobs import GONE, Blobs
from wandb_tl.local.bodies import read_json, rendered
from wandb_tl.local.errors import RequestError, why_not_stored
from wandb_tl.local.gate import Gate, failure
from wandb_tl.local.pages.headers import FILE_POLICY
from wandb_tl.local.pages.site import Site
from wandb_tl.local.records.database import Database, Readers
from wandb_tl.local.records.rows import BlobRow
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import file_stream
from wandb_tl.local.runs.file_stream import StreamAnswer, StreamBody
from wandb_tl.local.sweeps import answers

log = logging.getLogger("wandb_tl.local")

T = TypeVar("T")

# As what a browser gets a file, by the ending of its name; others as bytes to save. None of them is a script.
TEXT = "text/plain; charset=utf-8"
CONTENT_TYPES = {
    **dict.fromkeys((".log", ".txt", ".yaml", ".yml", ".md", ".py", ".csv", ".tsv", ".js", ".sh"), TEXT),
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".svg": "image/svg+xml",
    ".wav": "audio/x-wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
}
# HTML or SVG that a user logged must not run scripts with this server's rights when a browser opens it, and
# no page of another origin may show a file.
INERT = {
    "Content-Security-Policy": FILE_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

GRAPHQL_THREADS = 24
# Between the transactions of one request.
PAUSE_SECONDS = 0.01


def make_app(
    database: Database, reading: Readers, drawing: Readers, blobs: Blobs, logins: Logins
) -> Starlette:
    """The application over a root's records, with connections to write, to read and for pages, and its blobs.

    Every route requires the key, except blobs (whose addresses are signed), telemetry and the pages' own
    scripts.
    """
    key = logins.key
    endpoints = Endpoints(database, reading, Graph(database, reading, blobs), blobs, key)
    return Starlette(
        routes=[
            Route("/graphql", guarded(endpoints.graphql, key), methods=["POST"]),
            Route("/files/{path:path}", guarded(endpoints.stream, key), methods=["POST"]),
            Route("/artifacts/{entity}/{digest}", guarded(endpoints.content, key), methods=["GET"]),
            Route("/artifactsV2/{path:path}", guarded(endpoints.content, key), methods=["GET"]),
            Route("/-/answer/{path:path}", guarded(endpoints.attach_answer, key), methods=["PUT"]),
            Route("/blobs/{blob_id}", endpoints.blob, methods=["GET", "PUT", "OPTIONS"]),
            # After a 404 the client sends no more telemetry.
            Route("/sdk/otel/{path:path}", nothing, methods=["GET", "POST"]),
            *Site(database, drawing, blobs, logins).routes(),
        ],
        middleware=[Middleware(Gate, key=key)],
        exception_handlers={
            RequestError: refuse,
            ClientDisconnect: hung_up,
            sqlite3.OperationalError: not_stored,
            OSError: not_stored,
        },
    )


class Endpoints:
    """The client's routes."""

    def __init__(self, database: Database, reading: Readers, graph: Graph, blobs: Blobs, key: str) -> None:
        self.database, self.reading, self.graph, self.blobs, self.key = database, reading, graph, blobs, key
        # Of the 40 threads: documents that wait for each other must not keep a run's heartbeat waiting.
        self.answering = anyio.CapacityLimiter(GRAPHQL_THREADS)

    def inside(self, action: Callable[[Transaction], T]) -> T:
        """The result of an action inside one transaction."""
        with self.database.transaction() as db:
            return action(db)

    def look_up(self, action: Callable[[Transaction], T]) -> T:
        """The result of an action that reads a row, for which it does not wait for those that write."""
        with self.reading.brief.transaction() as db:
            return action(db)

    async def graphql(self, request: Request) -> Response:
        body = cast(GraphQLBody, await read_json(request))

        def answer() -> Response:
            agent = request.headers.get("user-agent", "")
            shared = writer_of(request) is not None
            status, content = self.graph.answer(body, base_url(request), shared, agent)
            return Response(rendered(content), status, media_type="application/json")

        return await anyio.to_thread.run_sync(answer, limiter=self.answering)

    async def stream(self, request: Request) -> Response:
        # From the raw path: a name may contain an encoded slash; those of an entity are not encoded.
        parts = raw_path(request).split("/")
        if len(parts) < 6 or parts[-1] != "file_stream":
            raise RequestError("there is nothing at this address", 404)
        entity, project, run = (unquote(part) for part in ("/".join(parts[2:-3]), *parts[-3:-1]))
        body = cast(StreamBody, await read_json(request))

        writer = writer_of(request)

        def receive() -> StreamAnswer:
            answer: StreamAnswer = {}
            for number, part in enumerate(file_stream.parts(body)):
                # Without a pause, the lock of the database would go to the same thread again.
                time.sleep(PAUSE_SECONDS if number else 0)
                store = partial(
                    file_stream.receive, entity=entity, project=project, name=run, part=part, writer=writer
                )
                answer = self.database.repeat(store)
            return answer

        return JSONResponse(await run_in_threadpool(receive))

    async def attach_answer(self, request: Request) -> Response:
        """PUT /-/answer/ENTITY/PROJECT/SWEEP, each name with its slashes encoded."""
        parts = raw_path(request).split("/")
        if len(parts) != 6:
            raise RequestError("there is nothing at this address", 404)
        entity, project, sweep = (unquote(part) for part in parts[3:])
        value = await read_json(request, answers.BYTES)
        await run_in_threadpool(self.inside, lambda db: answers.attach(db, entity, project, sweep, value))
        return Response(status_code=204)

    async def blob(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            # For `wandb verify`, which asks whether pages of this server may read files. No other pages may.
            return Response(status_code=204, headers={"Access-Control-Allow-Origin": base_url(request)})
        blob_id = request.path_params["blob_id"]
        signed_at = self.blobs.addresses.signed_at(request.method, blob_id, request.query_params)
        if signed_at is None:
            if not has_key(request, self.key):
                raise RequestError("the address is not signed for this request, or is older than a day", 403)
            signed_at = time.time()
        row = await run_in_threadpool(self.look_up, lambda db: db.blob(blob_id))
        if row is None:
            raise RequestError("there is no such file; it may have been deleted", 404)
        if request.method == "PUT":
            async with self.blobs.receive(request.stream()) as upload:
                await run_in_threadpool(uploads.place, self.blobs, row, upload)
                await run_in_threadpool(
                    self.inside, lambda db: uploads.accept(db, self.blobs, blob_id, upload, signed_at)
                )
            return Response()
        if row["uploaded_at"] is None:
            raise RequestError("the file was never uploaded", 404)
        return self.send(row)

    async def content(self, request: Request) -> Response:
        """A file of an artifact, which `entry.download()` requests by its hexadecimal digest.

        /artifacts/ENTITY/DIGEST or /artifactsV2/REGION/ENTITY/PROJECT/COLLECTION[/ID]/BIRTH ID/DIGEST/NAME
        """
        parts = raw_path(request).split("/")
        if parts[1] == "artifactsV2" and parts[2] != "default":
            raise RequestError(f"there is no storage region {unquote(parts[2])} here", 404)
        digest = parts[-2] if parts[1] == "artifactsV2" else parts[-1]
        try:
            md5 = base64.b64encode(bytes.fromhex(digest)).decode()
        except ValueError:
            raise RequestError("there is nothing at this address", 404) from None
        row = await run_in_threadpool(self.look_up, lambda db: manifests.stored(db, md5))
        if row is None:
            raise RequestError("there is no such file; it may have been deleted", 404)
        return self.send(row)

    def send(self, row: BlobRow) -> Response:
        if not self.blobs.path(row["id"]).is_file():
            raise RequestError(GONE, 404)
        ending = posixpath.splitext(row["name"])[1].lower()
        kind = CONTENT_TYPES.get(ending, "application/octet-stream")
        return FileResponse(self.blobs.path(row["id"]), media_type=kind, headers=INERT)


Endpoint = Callable[[Request], Awaitable[Response]]


def guarded(endpoint: Endpoint, key: str) -> Endpoint:
    """The endpoint for requests with the key; 401 for all others."""

    async def guard(request: Request) -> Response:
        if not has_key(request, key):
            return failure("wrong or missing API key", 401)
        return await endpoint(request)

    return guard


def writer_of(request: Request) -> str | None:
    """The id of one of several processes that write a run together (mode="shared"); None otherwise."""
    if request.headers.get("x-wandb-use-async-filestream") != "true":
        return None
    return request.headers.get("x-wandb-async-client-id") or request.headers.get("x-wandb-client-id")


def base_url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


async def nothing(_request: Request) -> Response:
    return failure("there is nothing at this address", 404)


async def refuse(_request: Request, error: Exception) -> Response:
    return failure(
        str(error), error.status if isinstance(error, RequestError) and error.status != 200 else 400
    )


async def not_stored(_request: Request, error: Exception) -> Response:
    """The disk is full, for example. The client repeats the request until it is not."""
    reason = why_not_stored(error)
    if reason is None:
        raise error
    log.error("%s", reason)
    return failure(reason, 503)


async def hung_up(_request: Request, _error: Exception) -> Response:
    """The client disconnected in the middle of its upload: no one reads the answer."""
    return Response(status_code=400)
