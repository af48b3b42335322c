"""Files of runs: addresses to upload to, listings to download from."""

from __future__ import annotations

import mimetypes
import posixpath
from typing import Any

from graphql import GraphQLResolveInfo

from wandb_tl.local.artifacts import blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.database import Row
from wandb_tl.local.records.names import decode_id, encode_id, project_named, run_named


def label(name: str) -> str:
    """A file's name without `./` and doubled slashes.

    It is a label in the database, never a path on the disk.
    """
    return posixpath.normpath(name)


def create_run_files(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    run = run_named(
        db, project_named(db, input.get("entityName"), input.get("projectName")), input["runName"]
    )
    if run is None:
        raise RequestError(f"there is no run {input['runName']} to put files into")
    answers = []
    for name in input["files"]:
        stored = label(name)
        blob_id = db.value("SELECT blob_id FROM file WHERE run_id = ? AND name = ?", run["id"], stored)
        if blob_id is None:
            blob_id = blobs.new_blob(db, stored)
            db.insert("file", run_id=run["id"], name=stored, blob_id=blob_id)
        url = info.context.blobs.url(info.context.base_url, "PUT", blob_id)
        answers.append({"name": name, "upload_url": url})
    return {"run_id": encode_id("Run", run["id"]), "upload_headers": [], "files": answers}


def files(
    row: Row,
    info: GraphQLResolveInfo,
    names: list[str] | None = None,
    pattern: str | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Row:
    query = (
        "SELECT file.id, file.name, file.blob_id, blob.md5, blob.size, blob.uploaded_at FROM file"
        " JOIN blob ON blob.id = file.blob_id WHERE file.run_id = ? AND blob.uploaded_at IS NOT NULL"
    )
    values: list[Any] = [row["id"]]
    if names:
        wanted = [label(name) for name in names]
        query += f" AND file.name IN ({', '.join('?' * len(wanted))})"
        values += wanted
    elif pattern:
        query += " AND file.name LIKE ?"
        values.append(pattern)
    return info.context.db.page(f"{query} ORDER BY file.id", values, first, after)


def file_count(row: Row, info: GraphQLResolveInfo) -> int:
    return files(row, info)["total_count"]()


def delete_files(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    db = info.context.db
    for file in (db.get("file", decode_id("RunFile", file_id)) for file_id in input["files"]):
        if file is not None:
            db.run("DELETE FROM file WHERE id = ?", file["id"])
            info.context.dead_blobs.extend(blobs.unused(db, [file["blob_id"]]))
    return {"success": True}


def mark_uploaded(_row: Any, info: GraphQLResolveInfo, input: Row) -> Row:
    """Uploads make themselves known here; this only says whether all of them arrived."""
    project = project_named(info.context.db, input.get("entityName"), input.get("projectName"))
    run = run_named(info.context.db, project, input["runName"])
    if run is None:
        raise RequestError(f"there is no run {input['runName']} that files could belong to")
    wanted = {label(name) for name in input["files"]}
    found = (
        {edge["node"]["name"] for edge in files(run, info, names=sorted(wanted))["edges"]}
        if wanted
        else set()
    )
    return {"success": wanted == found}


def direct_url(row: Row, info: GraphQLResolveInfo) -> str:
    """Where the bytes are; of a reference, the place that it names."""
    return row.get("ref") or info.context.blobs.url(info.context.base_url, "GET", row["blob_id"])


def url(row: Row, info: GraphQLResolveInfo, upload: bool | None = None) -> str:
    if upload and row.get("blob_id"):
        return info.context.blobs.url(info.context.base_url, "PUT", row["blob_id"])
    return direct_url(row, info)


RESOLVERS = {
    "Mutation": {
        "createRunFiles": create_run_files,
        "deleteFiles": delete_files,
        "markRunFilesUploaded": mark_uploaded,
    },
    "Run": {"files": files, "fileCount": file_count},
    "File": {
        "id": lambda row, _: encode_id("RunFile", row["id"]) if isinstance(row["id"], int) else row["id"],
        "displayName": lambda row, _: row["name"],
        "directUrl": direct_url,
        "url": url,
        "sizeBytes": lambda row, _: row["size"],
        "mimetype": lambda row, _: mimetypes.guess_type(row["name"])[0],
        "updatedAt": lambda row, _: row["uploaded_at"],
        "uploadHeaders": lambda *_: [],
    },
}
