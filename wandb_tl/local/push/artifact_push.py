"""Push the artifacts of runs: versions, files, and which runs logged and used them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypedDict

from wandb_tl.local.artifacts import manifests
from wandb_tl.local.artifacts.blobs import stored_at
from wandb_tl.local.artifacts.inputs import CreateArtifactInput, Manifest, ManifestEntry
from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push import answers
from wandb_tl.local.push.remote import Remote
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.json_path import JsonObject
from wandb_tl.local.records.names import decode_id
from wandb_tl.local.records.rows import (
    AliasRow,
    ArtifactRow,
    CollectionRow,
    ManifestRow,
    RunArtifactRow,
    RunRow,
    TagRow,
)
from wandb_tl.local.records.transaction import Transaction, existing

FILES_AT_ONCE = 500

CREATE = """mutation CreateArtifact($input: CreateArtifactInput!) {
  createArtifact(input: $input) { artifact { id state } } }"""

CREATE_MANIFEST = """mutation CreateArtifactManifest($artifactID: ID!, $name: String!, $digest: String!,
    $entity: String!, $project: String!, $run: String!, $includeUpload: Boolean!) {
  createArtifactManifest(input: {artifactID: $artifactID, name: $name, digest: $digest, entityName: $entity,
      projectName: $project, runName: $run, type: FULL}) {
    artifactManifest { id file { id uploadUrl @include(if: $includeUpload)
      uploadHeaders @include(if: $includeUpload) } } } }"""

CREATE_FILES = """mutation CreateArtifactFiles($input: CreateArtifactFilesInput!) {
  createArtifactFiles(input: $input) { files { edges { node { uploadUrl uploadHeaders } } } } }"""

COMMIT = """mutation CommitArtifact($artifactID: ID!) {
  commitArtifact(input: {artifactID: $artifactID}) { artifact { id digest } } }"""

USE = "mutation UseArtifact($input: UseArtifactInput!) { useArtifact(input: $input) { artifact { id } } }"

# A reference to a file of another version: the version's id in hexadecimal.
OTHER_VERSION = re.compile(r"wandb-artifact://([0-9a-f]+)(/.*)?")


class ClientIds(TypedDict):
    """Ids that a client invented for a version and for its sequence."""

    clientID: str
    sequenceClientID: str | None


class StoredFile(TypedDict):
    """A file of a version that has a blob."""

    path: str
    digest: str
    blob_id: str
    md5: str | None


class ArtifactPush:
    """Pushes the artifacts that runs logged or used. Each step of the iterator push() pushes one version.

    A version that the runs used but did not log is created in the same project, without a run that logged it.
    """

    def __init__(
        self, database: Database, root: Path, remote: Remote, entity: str, project: str, runs: list[RunRow]
    ) -> None:
        self.database, self.blobs, self.remote = database, root / "blobs", remote
        self.entity, self.project = entity, project
        self.names = {run["id"]: run["name"] for run in runs}
        # Local ids of the pushed versions -> ids on the other server.
        self.ids: dict[int, str] = {}
        self.relations: dict[int, list[RunArtifactRow]] = {}
        with database.transaction() as db:
            for run_id in self.names:
                query = (
                    "SELECT run_artifact.* FROM run_artifact JOIN artifact ON artifact.id = artifact_id"
                    " WHERE run_id = ? AND artifact.state = 'COMMITTED' ORDER BY run_artifact.id"
                )
                for relation in db.all(query, run_id, row=RunArtifactRow):
                    self.relations.setdefault(relation["artifact_id"], []).append(relation)

    def __len__(self) -> int:
        return len(self.relations)

    def push(self, with_tags: bool) -> Iterator[None]:
        # In the order of their creation, so that their numbers there are in the same order.
        for artifact_id in sorted(self.relations):
            self._push_version(artifact_id, with_tags)
            yield

    def _push_version(self, artifact_id: int, with_tags: bool) -> None:
        relations = self.relations[artifact_id]
        loggers = [self.names[row["run_id"]] for row in relations if row["role"] == "output"]
        users = [self.names[row["run_id"]] for row in relations if row["role"] == "input"]
        input, ids = self._input(artifact_id, with_tags)
        # Runs that logged the same contents share a version: each of them creates it.
        version_id = ""
        for number, (run, own) in enumerate(zip_longest(loggers, ids)):
            request = {**input, **(own or {}), **({"runName": run} if run else {})}
            answer = self.remote.graphql(answers.CreateArtifact, CREATE, input=request)
            version = answer["createArtifact"]["artifact"]
            version_id = self.ids[artifact_id] = version["id"]
            if number == 0 and version["state"] != "COMMITTED":
                self._push_contents(artifact_id, version_id, (loggers + users)[0])
        place = {"entityName": self.entity, "projectName": self.project}
        for run in users:
            use = {"artifactID": version_id, "runName": run, **place}
            self.remote.graphql(dict[str, Any], USE, input=use)

    def _input(self, artifact_id: int, with_tags: bool) -> tuple[JsonObject, list[JsonObject]]:
        """The version as CreateArtifactInput, and the ids that clients invented for it, at least one entry.

        The other server must know these ids: they are part of the paths of logged Tables.
        """
        with self.database.transaction() as db:
            version = existing(db.get("artifact", artifact_id))
            sequence = existing(db.get("collection", version["sequence_id"]))
            type_name = existing(db.get("artifact_type", sequence["type_id"]))["name"]
            aliases = _aliases(db, version)
            tags = db.all("SELECT * FROM tag WHERE artifact_id = ? ORDER BY id", artifact_id, row=TagRow)
            ids = _client_ids(db, version, sequence)
        names = [alias["alias"] for alias in aliases if alias["alias"] != "latest"]
        input: CreateArtifactInput = {
            "entityName": self.entity,
            "projectName": self.project,
            "artifactTypeName": type_name,
            "artifactCollectionName": sequence["name"],
            "digest": version["digest"],
            "digestAlgorithm": _algorithm(version),
            "description": version["description"],
            "metadata": version["metadata"],
            "historyStep": version["history_step"],
            "ttlDurationSeconds": version["ttl_seconds"],
            "aliases": [{"artifactCollectionName": sequence["name"], "alias": name} for name in names],
            "tags": [{"tagName": tag["name"]} for tag in tags] if with_tags and tags else None,
            "enableDigestDeduplication": True,
        }
        return _without_nulls(input), [_without_nulls(each) for each in ids] or [{}]

    def _push_contents(self, artifact_id: int, version_id: str, run: str) -> None:
        """Upload the files of a version and its manifest, and commit the version."""
        with self.database.transaction() as db:
            algorithm = _algorithm(existing(db.get("artifact", artifact_id)))
            manifest = existing(manifests.current(db, artifact_id))
            rows = db.all(
                "SELECT path, entry.digest, blob_id, blob.md5 FROM manifest_entry AS entry"
                " JOIN blob ON blob.id = entry.blob_id WHERE artifact_id = ? AND ref IS NULL ORDER BY path",
                artifact_id,
                row=StoredFile,
            )
        names = self._names(manifest, version_id, run)
        empty = self.remote.graphql(
            answers.CreateManifest, CREATE_MANIFEST, digest="", includeUpload=False, **names
        )
        manifest_id = empty["createArtifactManifest"]["artifactManifest"]["id"]
        for start in range(0, len(rows), FILES_AT_ONCE):
            self._push_files(rows[start : start + FILES_AT_ONCE], version_id, manifest_id, algorithm)
        content = self._rewritten(stored_at(self.blobs, manifest["blob_id"]), version_id)
        filled = self.remote.graphql(
            answers.UploadManifest, CREATE_MANIFEST, digest=_md5(content), includeUpload=True, **names
        )
        file = filled["createArtifactManifest"]["artifactManifest"]["file"]
        self.remote.put([(file["uploadUrl"], file["uploadHeaders"], content)])
        self.remote.graphql(dict[str, Any], COMMIT, artifactID=version_id)

    def _names(self, manifest: ManifestRow, version_id: str, run: str) -> dict[str, Any]:
        """The variables of CREATE_MANIFEST that say which manifest it is."""
        place = {"entity": self.entity, "project": self.project, "run": run}
        return {"artifactID": version_id, "name": manifest["name"], **place}

    def _push_files(
        self, rows: list[StoredFile], version_id: str, manifest_id: str, algorithm: str | None
    ) -> None:
        files = [
            {
                "artifactID": version_id,
                "artifactManifestID": manifest_id,
                "name": row["path"],
                "digest": row["digest"],
                "md5": row["md5"],
            }
            for row in rows
        ]
        request = {"artifactFiles": files, "storageLayout": "V2", "digestAlgorithm": algorithm}
        answer = self.remote.graphql(answers.CreateArtifactFiles, CREATE_FILES, input=_without_nulls(request))
        uploads = [edge["node"] for edge in answer["createArtifactFiles"]["files"]["edges"]]
        if len(uploads) != len(rows):
            raise RemoteError(f"{self.remote.url} names other files to upload than it was asked for")
        self.remote.put(
            (address, upload["uploadHeaders"], stored_at(self.blobs, row["blob_id"]))
            for row, upload in zip(rows, uploads, strict=True)
            if (address := upload["uploadUrl"])
        )

    def _rewritten(self, path: Path, version_id: str) -> bytes:
        """A manifest file with the other server's ids of versions in place of the local ones."""
        manifest: Manifest = json.loads(path.read_bytes())
        for name, entry in manifest["contents"].items():
            if "birthArtifactID" in entry:
                entry["birthArtifactID"] = version_id
            self._rewrite_reference(name, entry)
        return json.dumps(manifest).encode()

    def _rewrite_reference(self, name: str, entry: ManifestEntry) -> None:
        reference = OTHER_VERSION.fullmatch(entry.get("ref") or "")
        if not reference:
            return
        local_id = decode_id("Artifact", base64.b64encode(bytes.fromhex(reference[1])).decode())
        remote_id = None if local_id is None else self.ids.get(local_id)
        if remote_id is None:
            raise RemoteError(
                f"the artifact file {name} is a file of another artifact, which none of the runs used"
            )
        try:
            ref = base64.b64decode(remote_id, validate=True).hex()
        except ValueError:
            raise RemoteError(f"{self.remote.url} has an artifact without a valid id") from None
        entry["ref"] = f"wandb-artifact://{ref}{reference[2] or ''}"


def _aliases(db: Transaction, version: ArtifactRow) -> list[AliasRow]:
    """The aliases of a version in its own sequence."""
    return db.all(
        "SELECT alias.* FROM alias JOIN membership ON membership.id = alias.membership_id"
        " WHERE membership.artifact_id = ? AND alias.collection_id = ? ORDER BY alias.id",
        version["id"],
        version["sequence_id"],
        row=AliasRow,
    )


def _client_ids(db: Transaction, version: ArtifactRow, sequence: CollectionRow) -> list[ClientIds]:
    """The ids of a version; a client sends the id of its sequence together with that of its version."""
    return db.all(
        "SELECT client_id AS clientID, (SELECT client_id FROM client_id AS sequence"
        " WHERE collection_id = ? AND sequence.rowid < client_id.rowid ORDER BY rowid DESC LIMIT 1)"
        " AS sequenceClientID FROM client_id WHERE artifact_id = ? ORDER BY rowid",
        sequence["id"],
        version["id"],
        row=ClientIds,
    )


def _algorithm(version: ArtifactRow) -> str | None:
    """The algorithm of a version's digests, None for the one that every server supports."""
    return None if version["digest_algorithm"] == "MANIFEST_MD5" else version["digest_algorithm"]


def _without_nulls(fields: Mapping[str, Any]) -> JsonObject:
    return {key: value for key, value in fields.items() if value is not None}


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
