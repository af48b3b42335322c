"""Files of runs: addresses to upload to, listings to download from."""

from __future__ import annotations

import json
import mimetypes
import posixpath
from typing import NotRequired, TypedDict
from urllib.parse import urlencode

from wandb_tl.local.api.context import Info, Payload, Resolvers
from wandb_tl.local.api.inputs import DeleteFilesInput, RunFilesInput
from wandb_tl.local.artifacts import blobs
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import decode_id, encode_id, project_named, run_named
from wandb_tl.local.records.rows import RunRow, SqlValue
from wandb_tl.local.records.transaction import Page


class FileNode(TypedDict):
    """A file of a run or of an artifact. ref is the address of a reference, which has no blob."""

    id: int | str
    name: str
    blob_id: str | None
    md5: str | None
    size: int | None
    uploaded_at: float | None
    ref: NotRequired[str | None]
    storage_path: NotRequired[str | None]


def label(name: str) -> str:
    """A file's name without `./` and doubled slashes: a label in the database, never a path on the disk."""
    return posixpath.normpath(name)


def create_run_files(_row: object, info: Info, input: RunFilesInput) -> Payload:
    db = info.context.db
    run = run_named(
        db, project_named(db, input.get("entityName"), input.get("projectName")), input["runName"]
    )
    if run is None:
        raise RequestError(f"there is no run {input['runName']} to put files into")
    files = []
    for name in input["files"]:
        path = label(name)
        blob_id = db.value("SELECT blob_id FROM file WHERE run_id = ? AND name = ?", run["id"], path)
        if blob_id is None:
            blob_id = blobs.new_blob(db, path)
            db.insert("file", run_id=run["id"], name=path, blob_id=blob_id)
        else:
            db.run("UPDATE blob SET announced_at = ? WHERE id = ?", db.now, blob_id)
        url = info.context.blobs.addresses.url(info.context.base_url, "PUT", blob_id)
        files.append({"name": name, "upload_url": url})
    return {"run_id": encode_id("Run", run["id"]), "upload_headers": [], "files": files}


def files(
    row: RunRow,
    info: Info,
    names: list[str] | None = None,
    pattern: str | None = None,
    first: int | None = None,
    after: str | None = None,
) -> Page:
    """The run's uploaded files as FileNodes; of the names, as on W&B, each missing one with the MD5 "0"."""
    query = (
        "SELECT file.id, file.name, file.blob_id, blob.md5, blob.size, blob.uploaded_at FROM file"
        " JOIN blob ON blob.id = file.blob_id WHERE file.run_id = ? AND blob.uploaded_at IS NOT NULL"
    )
    values: list[SqlValue] = [row["id"]]
    if names:
        wanted = {label(name): name for name in names if name}
        query += " AND file.name IN (SELECT value FROM json_each(?))"
        values.append(json.dumps(list(wanted)))
        return _with_missing(info.context.db.page(query, values, None, None), wanted)
    if pattern:
        query += " AND file.name LIKE ?"
        values.append(pattern)
    return info.context.db.page(f"{query} ORDER BY file.id", values, first, after)


def _with_missing(page: Page, wanted: dict[str, str]) -> Page:
    """A page with an entry for each of the names that it does not have."""
    missing = wanted.keys() - {edge["node"]["name"] for edge in page["edges"]}
    nothing = {"blob_id": "0", "md5": "0", "size": 0, "uploaded_at": None}
    for name in (name for name in wanted if name in missing):
        node = {"id": f"missing:{name}", "name": wanted[name], **nothing}
        page["edges"].append({"node": node, "cursor": name})
    return page


def file_count(row: RunRow, info: Info) -> int:
    return files(row, info)["total_count"]()


def delete_files(_row: object, info: Info, input: DeleteFilesInput) -> Payload:
    db = info.context.db
    for file in (db.get("file", decode_id("RunFile", file_id)) for file_id in input["files"]):
        if file is not None:
            db.run("DELETE FROM file WHERE id = ?", file["id"])
            info.context.unused_blobs.extend(blobs.delete_unused(db, [file["blob_id"]]))
    return {"success": True}


def mark_uploaded(_row: object, info: Info, input: RunFilesInput) -> Payload:
    """Whether all of the uploads are complete. The server itself notices each upload."""
    project = project_named(info.context.db, input.get("entityName"), input.get("projectName"))
    run = run_named(info.context.db, project, input["runName"])
    if run is None:
        raise RequestError(f"there is no run {input['runName']} that files could belong to")
    names = {label(name) for name in input["files"]}
    found = [edge["node"] for edge in files(run, info, names=sorted(names))["edges"]]
    return {"success": all(node["md5"] != "0" for node in found)}


def direct_url(row: FileNode, info: Info) -> str:
    """The address of the bytes; for a reference, the address that it refers to."""
    if ref := row.get("ref"):
        return ref
    address = info.context.blobs.addresses.url(info.context.base_url, "GET", str(row["blob_id"]))
    # As W&B's addresses do, it says what it is of.
    place = row.get("storage_path")
    return f"{address}&{urlencode({'of': place}, safe='/')}" if place else address


def url(row: FileNode, info: Info, upload: bool | None = None) -> str:
    blob_id = row.get("blob_id")
    if upload and blob_id:
        return info.context.blobs.addresses.url(info.context.base_url, "PUT", blob_id)
    return direct_url(row, info)


RESOLVERS: Resolvers = {
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
