"""The HTTP surface: GraphQL, the file stream, blobs and the pages, behind one key."""

from __future__ import annotations

import base64
import json
import mimetypes
import zlib
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from wandb_tl.local.access import has_key
from wandb_tl.local.api.execution import Graph
from wandb_tl.local.artifacts import manifests
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages.site import Site
from wandb_tl.local.records.database import Database, Row, Transaction
from wandb_tl.local.runs import file_stream

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, PUT, OPTIONS",
    "Access-Control-Allow-Headers": "*",
}


# What users logged as HTML or SVG must not act in this server's name when a browser opens it.
READABLE = (".log", ".yaml", ".yml", ".md", ".py")
INERT = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}


def make_app(database: Database, reading: Database, blobs: Blobs, key: str) -> Starlette:
    """The application over one root's records, on a connection to write and one to read, and its blobs.

    Every route asks for the key, but for blobs (whose addresses are signed), telemetry and the pages' own
    scripts.
    """
    graph = Graph(database, reading, blobs)

    def inside(action: Callable[[Transaction], Any]) -> Any:
        with database.transaction() as db:
            return action(db)

    async def graphql(request: Request) -> Response:
        body = await read_json(request)
        status, answer = await run_in_threadpool(
            graph.answer, body, base_url(request), writer_of(request) is not None
        )
        return JSONResponse(answer, status)

    async def stream(request: Request) -> Response:
        # From the raw path: a name may hold an encoded slash, and an entity's slashes come as they are.
        parts = request.scope["raw_path"].decode().split("/")
        if len(parts) < 6 or parts[-1] != "file_stream":
            raise RequestError("there is nothing at this address", 404)
        entity, project, run = (unquote(part) for part in ("/".join(parts[2:-3]), *parts[-3:-1]))
        body = await read_json(request)

        def receive(db: Transaction) -> dict[str, Any]:
            return file_stream.receive(db, entity, project, run, body, writer_of(request))

        return JSONResponse(await run_in_threadpool(inside, receive))

    async def blob(request: Request) -> Response:
        blob_id = request.path_params["blob_id"]
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=CORS)
        signature = request.query_params.get("signature", "")
        if not blobs.allows(request.method, blob_id, signature) and not has_key(request, key):
            raise RequestError("the address is not signed for this request", 403)
        row = await run_in_threadpool(inside, lambda db: db.one("SELECT * FROM blob WHERE id = ?", blob_id))
        if row is None:
            raise RequestError("there is no such file; it may have been deleted", 404)
        if request.method == "PUT":
            size, md5 = await blobs.receive(blob_id, request.stream(), row["announced"])

            def note(db: Transaction) -> None:
                values = (size, md5, db.now, blob_id)
                db.run("UPDATE blob SET size = ?, md5 = ?, uploaded_at = ? WHERE id = ?", *values)

            await run_in_threadpool(inside, note)
            return Response(headers=CORS)
        if row["uploaded_at"] is None:
            raise RequestError("the file was never uploaded", 404)
        return send(row)

    async def content(request: Request) -> Response:
        """A file of an artifact, as `entry.download()` asks for it by its digest in hexadecimal.

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
        row = await run_in_threadpool(inside, lambda db: manifests.stored(db, md5))
        if row is None:
            raise RequestError("there is no such file; it may have been deleted", 404)
        return send(row)

    def send(row: Row) -> Response:
        kind = mimetypes.guess_type(row["name"])[0] or "application/octet-stream"
        if "script" in kind or row["name"].endswith(READABLE):
            # To be read. A script here could be run by a page of this server.
            kind = "text/plain; charset=utf-8"
        return FileResponse(blobs.path(row["id"]), media_type=kind, headers=CORS | INERT)

    return Starlette(
        routes=[
            Route("/graphql", guarded(graphql, key), methods=["POST"]),
            Route("/files/{path:path}", guarded(stream, key), methods=["POST"]),
            Route("/artifacts/{entity}/{digest}", guarded(content, key), methods=["GET"]),
            Route("/artifactsV2/{path:path}", guarded(content, key), methods=["GET"]),
            Route("/blobs/{blob_id}", blob, methods=["GET", "PUT", "OPTIONS"]),
            # The client drops telemetry for good when it is told that there is none.
            Route("/sdk/otel/{path:path}", nothing, methods=["GET", "POST"]),
            *Site(database, reading, blobs, key).routes(),
        ],
        exception_handlers={RequestError: refuse, ClientDisconnect: hung_up},
    )


Endpoint = Callable[[Request], Awaitable[Response]]


def guarded(endpoint: Endpoint, key: str) -> Endpoint:
    """The endpoint for those who bring the key; 401 for everybody else."""

    async def guard(request: Request) -> Response:
        if not has_key(request, key):
            return failure("wrong or missing API key", 401)
        return await endpoint(request)

    return guard


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object, unpacked if it came as gzip. Raises RequestError (400) for anything else."""
    body = await request.body()
    try:
        if request.headers.get("content-encoding") == "gzip":
            body = zlib.decompress(body, wbits=zlib.MAX_WBITS | 16)
        # Large bodies are parsed beside the event loop.
        parsed = await run_in_threadpool(json.loads, body or b"{}")
    except (ValueError, RecursionError, zlib.error):
        raise RequestError("the request's body is no JSON", 400) from None
    if not isinstance(parsed, dict):
        raise RequestError("the request's body is no JSON object", 400)
    return parsed


def writer_of(request: Request) -> str | None:
    """Which of the processes that write a run together (mode="shared") asks; None for an ordinary client."""
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


async def hung_up(_request: Request, _error: Exception) -> Response:
    """The client is gone in the middle of its upload: nobody reads this."""
    return Response(status_code=400)


def failure(message: str, status: int) -> Response:
    return JSONResponse({"errors": [{"message": message}]}, status)
