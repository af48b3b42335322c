"""The artifacts of runs on their way to another server: versions, files and who logged and used them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from wandb_tl.local.artifacts import manifests
from wandb_tl.local.artifacts.blobs import stored_at
from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push.remote import Remote
from wandb_tl.local.records.database import Database, Row
from wandb_tl.local.records.names import decode_id

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


class ArtifactPush:
    """What some runs logged and used. Iterating over push() takes over one version at a time.

    A version that the runs used but did not log goes to the same project, without a run that logged it.
    """

    def __init__(
        self, database: Database, root: Path, remote: Remote, entity: str, project: str, runs: list[Row]
    ) -> None:
        self.database, self.blobs, self.remote = database, root / "blobs", remote
        self.place = {"entityName": entity, "projectName": project}
        self.names = {run["id"]: run["name"] for run in runs}
        # Ids of the versions here -> there.
        self.ids: dict[int, str] = {}
        self.relations: dict[int, list[Row]] = {}
        with database.transaction() as db:
            for run_id in self.names:
                query = (
                    "SELECT run_artifact.* FROM run_artifact JOIN artifact ON artifact.id = artifact_id"
                    " WHERE run_id = ? AND artifact.state = 'COMMITTED' ORDER BY run_artifact.id"
                )
                for relation in db.all(query, run_id):
                    self.relations.setdefault(relation["artifact_id"], []).append(relation)

    def __len__(self) -> int:
        return len(self.relations)

    def push(self, with_tags: bool) -> Iterator[None]:
        # In the order of their birth, so that versions are counted there as they are here.
        for artifact_id in sorted(self.relations):
            self._push_version(artifact_id, with_tags)
            yield

    def _push_version(self, artifact_id: int, with_tags: bool) -> None:
        relations = self.relations[artifact_id]
        loggers = [self.names[row["run_id"]] for row in relations if row["role"] == "output"]
        users = [self.names[row["run_id"]] for row in relations if row["role"] == "input"]
        wanted, ids = self._wanted(artifact_id, with_tags)
        # Runs that logged the same content share its version: each of them asks for it.
        made: Row = {}
        for number, (run, own) in enumerate(zip_longest(loggers, ids)):
            request = wanted | (own or {}) | ({"runName": run} if run else {})
            made = self.remote.graphql(CREATE, input=request)["createArtifact"]["artifact"]
            self.ids[artifact_id] = made["id"]
            if number == 0 and made["state"] != "COMMITTED":
                self._push_contents(artifact_id, made["id"], (loggers + users)[0])
        for run in users:
            request = {"artifactID": made["id"], "runName": run, **self.place}
            self.remote.graphql(USE, input=request)

    def _wanted(self, artifact_id: int, with_tags: bool) -> tuple[Row, list[Row]]:
        """The version as CreateArtifactInput, and the ids that clients invented for it, one at least.

        They must be known there too: paths of logged Tables name them.
        """
        with self.database.transaction() as db:
            version = db.get("artifact", artifact_id)
            sequence = db.get("collection", version["sequence_id"])
            kind = db.get("artifact_type", sequence["type_id"])["name"]
            aliases = db.all(
                "SELECT alias FROM alias JOIN membership ON membership.id = alias.membership_id"
                " WHERE membership.artifact_id = ? AND alias.collection_id = ? ORDER BY alias.id",
                artifact_id,
                sequence["id"],
            )
            tags = db.all("SELECT name FROM tag WHERE artifact_id = ? ORDER BY id", artifact_id)
            # A client sends the id of its sequence together with that of its version.
            clients = db.all(
                "SELECT client_id AS clientID, (SELECT client_id FROM client_id AS sequence"
                " WHERE collection_id = ? AND sequence.rowid < client_id.rowid ORDER BY rowid DESC LIMIT 1)"
                " AS sequenceClientID FROM client_id WHERE artifact_id = ? ORDER BY rowid",
                sequence["id"],
                artifact_id,
            )
        names = [alias["alias"] for alias in aliases if alias["alias"] != "latest"]
        wanted = {
            **self.place,
            "artifactTypeName": kind,
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
        return _given(wanted), [_given(ids) for ids in clients] or [{}]

    def _push_contents(self, artifact_id: int, there: str, run: str) -> None:
        """Upload the files of a version and its manifest, and commit it."""
        with self.database.transaction() as db:
            algorithm = _algorithm(db.get("artifact", artifact_id))
            manifest = manifests.current(db, {"id": artifact_id})
            rows = db.all(
                "SELECT path, entry.digest, blob_id, blob.md5 FROM manifest_entry AS entry"
                " JOIN blob ON blob.id = entry.blob_id WHERE artifact_id = ? AND ref IS NULL ORDER BY path",
                artifact_id,
            )
        place = {"entity": self.place["entityName"], "project": self.place["projectName"], "run": run}
        wanted = {"artifactID": there, "name": manifest["name"], **place}
        made = self._manifest(digest="", includeUpload=False, **wanted)
        for start in range(0, len(rows), FILES_AT_ONCE):
            self._push_files(rows[start : start + FILES_AT_ONCE], there, made["id"], algorithm)
        text = self._rewritten(stored_at(self.blobs, manifest["blob_id"]), there)
        file = self._manifest(digest=_md5(text), includeUpload=True, **wanted)["file"]
        self.remote.put([(file["uploadUrl"], file["uploadHeaders"], text)])
        self.remote.graphql(COMMIT, artifactID=there)

    def _manifest(self, **wanted: Any) -> Row:
        return self.remote.graphql(CREATE_MANIFEST, **wanted)["createArtifactManifest"]["artifactManifest"]

    def _push_files(self, rows: list[Row], there: str, manifest: str, algorithm: str | None) -> None:
        files = [
            {
                "artifactID": there,
                "artifactManifestID": manifest,
                "name": row["path"],
                "digest": row["digest"],
                "md5": row["md5"],
            }
            for row in rows
        ]
        request = {"artifactFiles": files, "storageLayout": "V2", "digestAlgorithm": algorithm}
        made = self.remote.graphql(CREATE_FILES, input=_given(request))
        places = [edge["node"] for edge in made["createArtifactFiles"]["files"]["edges"]]
        self.remote.put(
            (place["uploadUrl"], place["uploadHeaders"], stored_at(self.blobs, row["blob_id"]))
            for row, place in zip(rows, places, strict=True)
            if place["uploadUrl"]
        )

    def _rewritten(self, path: Path, there: str) -> bytes:
        """The manifest with the other server's ids of versions in place of ours."""
        manifest = json.loads(path.read_bytes())
        for name, entry in manifest["contents"].items():
            if "birthArtifactID" in entry:
                entry["birthArtifactID"] = there
            other = OTHER_VERSION.fullmatch(entry.get("ref") or "")
            if other:
                known = self.ids.get(
                    decode_id("Artifact", base64.b64encode(bytes.fromhex(other[1])).decode())
                )
                if known is None:
                    raise RemoteError(
                        f"the artifact file {name} is a file of another artifact, which none of the runs used"
                    )
                ref = base64.b64decode(known).hex()
                entry["ref"] = f"wandb-artifact://{ref}{other[2] or ''}"
        return json.dumps(manifest).encode()


def _algorithm(version: Row) -> str | None:
    """The digests' algorithm, None for the one that every server knows."""
    return None if version["digest_algorithm"] == "MANIFEST_MD5" else version["digest_algorithm"]


def _given(fields: Row) -> Row:
    return {key: value for key, value in fields.items() if value is not None}


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
