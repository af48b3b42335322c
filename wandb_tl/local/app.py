"""The HTTP surface: GraphQL, the file stream, blobs and the pages, behind one key."""

from __future__ import annotations

import base64
import json
import logging
import mimetypes
import sqlite3
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from wandb_tl.local.access import has_key
from wandb_tl.local.api.execution import Graph, GraphQLBody
from wandb_tl.local.artifacts import manifests
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError, why_not_stored
from wandb_tl.local.pages.site import Site
from wandb_tl.local.records.database import Database, Transaction
from wandb_tl.local.records.json_path import JsonObject
from wandb_tl.local.records.rows import BlobRow
from wandb_tl.local.runs import file_stream
from wandb_tl.local.runs.file_stream import StreamAnswer, StreamBody
from wandb_tl.local.sweeps import answers

log = logging.getLogger("wandb_tl.local")

T = TypeVar("T")

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, PUT, OPTIONS",
    "Access-Control-Allow-Headers": "*",
}

READABLE = (".log", ".yaml", ".yml", ".md", ".py")
# HTML or SVG that a user logged must not run scripts with this server's rights when a browser opens it.
INERT = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}


def make_app(database: Database, reading: Database, drawing: Database, blobs: Blobs, key: str) -> Starlette:
    """The application over a root's records, with connections to write, to read and for pages, and its blobs.

    Every route requires the key, except blobs (whose addresses are signed), telemetry and the pages' own
    scripts.
    """
    endpoints = Endpoints(database, Graph(database, reading, blobs), blobs, key)
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
            *Site(database, drawing, blobs, key).routes(),
        ],
        exception_handlers={
            RequestError: refuse,
            ClientDisconnect: hung_up,
            sqlite3.OperationalError: not_stored,
            OSError: not_stored,
        },
    )


class Endpoints:
    """The client's routes."""

    def __init__(self, database: Database, graph: Graph, blobs: Blobs, key: str) -> None:
        self.database, self.graph, self.blobs, self.key = database, graph, blobs, key

    def inside(self, action: Callable[[Transaction], T]) -> T:
        """The result of an action inside one transaction."""
        with self.database.transaction() as db:
            return action(db)

    async def graphql(self, request: Request) -> Response:
        body = cast(GraphQLBody, await read_json(request))
        status, answer = await run_in_threadpool(
            self.graph.answer,
            body,
            base_url(request),
            writer_of(request) is not None,
            request.headers.get("user-agent", ""),
        )
        return JSONResponse(answer, status)

    async def stream(self, request: Request) -> Response:
        # From the raw path: a name may contain an encoded slash; those of an entity are not encoded.
        parts = request.scope["raw_path"].decode().split("/")
        if len(parts) < 6 or parts[-1] != "file_stream":
            raise RequestError("there is nothing at this address", 404)
        entity, project, run = (unquote(part) for part in ("/".join(parts[2:-3]), *parts[-3:-1]))
        body = cast(StreamBody, await read_json(request))

        def receive(db: Transaction) -> StreamAnswer:
            return file_stream.receive(db, entity, project, run, body, writer_of(request))

        return JSONResponse(await run_in_threadpool(self.inside, receive))

    async def attach_answer(self, request: Request) -> Response:
        """PUT /-/answer/ENTITY/PROJECT/SWEEP, each name with its slashes encoded."""
        parts = request.scope["raw_path"].decode().split("/")
        if len(parts) != 6:
            raise RequestError("there is nothing at this address", 404)
        entity, project, sweep = (unquote(part) for part in parts[3:])
        value = await read_json(request, answers.BYTES)
        await run_in_threadpool(self.inside, lambda db: answers.attach(db, entity, project, sweep, value))
        return Response(status_code=204)

    async def blob(self, request: Request) -> Response:
        blob_id = request.path_params["blob_id"]
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=CORS)
        signature = request.query_params.get("signature", "")
        if not self.blobs.addresses.allows(request.method, blob_id, signature) and not has_key(
            request, self.key
        ):
            raise RequestError("the address is not signed for this request", 403)
        row = await run_in_threadpool(self.inside, lambda db: db.blob(blob_id))
        if row is None:
            raise RequestError("there is no such file; it may have been deleted", 404)
        if request.method == "PUT":
            size, md5 = await self.blobs.receive(blob_id, request.stream(), row["announced"])

            def record(db: Transaction) -> None:
                values = (size, md5, db.now, blob_id)
                db.run("UPDATE blob SET size = ?, md5 = ?, uploaded_at = ? WHERE id = ?", *values)

            await run_in_threadpool(self.inside, record)
            return Response(headers=CORS)
        if row["uploaded_at"] is None:
            raise RequestError("the file was never uploaded", 404)
        return self.send(row)

    async def content(self, request: Request) -> Response:
        """A file of an artifact, which `entry.download()` requests by its hexadecimal digest.

        /artifacts/ENTITY/DIGEST or /artifactsV2/REGION/ENTITY/PROJECT/COLLECTION[/ID]/BIRTH ID/DIGEST/NAME
        """
        parts = request.scope["raw_path"].decode().split("/")
        if parts[1] == "artifactsV2" and parts[2] != "default":
            raise RequestError(f"there is no storage region {unquote(parts[2])} here", 404)
        digest = parts[-2] if parts[1] == "artifactsV2" else parts[-1]
        try:
            md5 = base64.b64encode(bytes.fromhex(digest)).decode()
        except ValueError:
            raise RequestError("there is nothing at this address", 404) from None
        row = await run_in_threadpool(self.inside, lambda db: manifests.stored(db, md5))
        if row is None:
            raise RequestError("there is no such file; it may have been deleted", 404)
        return self.send(row)

    def send(self, row: BlobRow) -> Response:
        kind = mimetypes.guess_type(row["name"])[0] or "application/octet-stream"
        if "script" in kind or row["name"].endswith(READABLE):
            # Shown as text: a page of this server could run a script.
            kind = "text/plain; charset=utf-8"
        return FileResponse(self.blobs.path(row["id"]), media_type=kind, headers=CORS | INERT)


Endpoint = Callable[[Request], Awaitable[Response]]


def guarded(endpoint: Endpoint, key: str) -> Endpoint:
    """The endpoint for requests with the key; 401 for all others."""

    async def guard(request: Request) -> Response:
        if not has_key(request, key):
            return failure("wrong or missing API key", 401)
        return await endpoint(request)

    return guard


async def read_json(request: Request, limit: int | None = None) -> JsonObject:
    """The JSON object in the body, which may be compressed with gzip.

    limit: of a body without compression, in bytes. Raises RequestError (400, or 413 for a larger body).
    """
    body = await request.body() if limit is None else await read_body(request, limit)
    try:
        if limit is None and request.headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, wbits=zlib.MAX_WBITS | 16)
        # Parsing a large body must not block the event loop.
        parsed: Any = await run_in_threadpool(json.loads, body or b"{}")
    except (ValueError, RecursionError, zlib.error):
        raise RequestError("the request's body is not valid JSON", 400) from None
    if not isinstance(parsed, dict):
        raise RequestError("the request's body is not a JSON object", 400)
    return parsed


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises RequestError (413) if it has more bytes than the limit."""
    body, size = bytearray(), 0
    # To the end: a client that is still sending would not read the refusal.
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
    if size > limit:
        raise RequestError(f"the request's body has more than {limit:,} bytes", 413)
    return bytes(body)


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


def failure(message: str, status: int) -> Response:
    return JSONResponse({"errors": [{"message": message}]}, status)
