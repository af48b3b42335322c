"""JSON bodies: read, unpacked and parsed within limits, and written, while other clients are served."""

from __future__ import annotations

import json
import zlib
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import patient_json
from wandb_tl.local.records.json_path import JsonObject

# Of a body, compressed or not. wandb-core sends at most about 10 MiB at once.
LARGEST = 32 * 2**20

# Its iterencode is not that of json.dumps, and lets other threads run between two values.
PATIENT_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


async def read_json(request: Request, limit: int = LARGEST) -> JsonObject:
    """The JSON object in the body, which may be compressed with gzip.

    limit: of the body without compression, in bytes. Raises RequestError (400, or 413 for a larger body).
    """
    body = await read_body(request, limit)
    is_packed = request.headers.get("content-encoding") == "gzip"
    return await run_in_threadpool(parse, body, is_packed, limit)


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request. Raises RequestError (413) if it has more bytes than the limit."""
    body, size = bytearray(), 0
    # To the end: a client that is still sending would not read the refusal.
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            body += chunk
        else:
            body.clear()
    if size > limit:
        raise too_large(limit)
    return bytes(body)


def parse(body: bytes, is_packed: bool = False, limit: int = LARGEST) -> JsonObject:
    """The JSON object that a body holds. Raises RequestError as read_json does."""
    try:
        if is_packed:
            body = unpacked(body, limit)
        patient_json.check(body, "the request's body")
        text = body.decode(json.detect_encoding(body), "surrogatepass") or "{}"
        parsed = patient_json.loads(text)
    except (ValueError, RecursionError, zlib.error):
        raise RequestError("the request's body is not valid JSON", 400) from None
    if not isinstance(parsed, dict):
        raise RequestError("the request's body is not a JSON object", 400)
    return parsed


def unpacked(body: bytes, limit: int) -> bytes:
    """A body without its compression with gzip; no more of it is unpacked than the limit."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    content = unpacker.decompress(body, limit + 1)
    if len(content) > limit:
        raise too_large(limit)
    if not unpacker.eof:
        raise zlib.error("the end is missing")
    return content


def rendered(content: Any) -> bytes:
    """The JSON of an answer, which may be long."""
    return "".join(PATIENT_ENCODER.iterencode(content)).encode()


def too_large(limit: int) -> RequestError:
    return RequestError(f"the request's body has more than {limit:,} bytes", 413)
