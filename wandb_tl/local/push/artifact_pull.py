"""Read the artifacts of pulled runs: versions, files, and which runs logged and used them."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from wandb_tl.local.artifacts import collections, manifests
from wandb_tl.local.artifacts.blobs import new_blob
from wandb_tl.local.errors import RemoteError
from wandb_tl.local.push import answers
from wandb_tl.local.push.answers import FilePulled, VersionPulled, VersionState, checked
from wandb_tl.local.push.artifact_push import OTHER_VERSION
from wandb_tl.local.push.run_pull import RunPull
from wandb_tl.local.records.json_path import whole
from wandb_tl.local.records.names import encode_id, ensure_project
from wandb_tl.local.records.rows import Columns, RunRow
from wandb_tl.local.records.transaction import Transaction, existing

VERSIONS = """query PullArtifacts($entity: String, $project: String, $run: String!, $after: String) {
  project(name: $project, entityName: $entity) { run(name: $run) { versions: %s(first: 50, after: $after) {
    edges { node { id state digest digestAlgorithm description metadata historyStep ttlDurationSeconds
      versionIndex tags { name } aliases { alias artifactCollection { name } } artifactSequence { name }
      artifactType { name } currentManifest { file { directUrl } } } }
    pageInfo { endCursor hasNextPage } } } } }"""
ROLES = {"output": VERSIONS % "outputArtifacts", "input": VERSIONS % "inputArtifacts"}

FILES = """query PullArtifactFiles($id: ID!, $after: String) { artifact(id: $id) {
  files(first: 200, after: $after) { edges { node { name directUrl } }
    pageInfo { endCursor hasNextPage } } } }"""

CLIENT_ID = "query PullClientID($id: ID!) { clientIDMapping(clientID: $id) { serverID } }"
# In paths of logged Tables: an id that the client invented before it logged the artifact.
INVENTED = re.compile(r"wandb-client-artifact://([^/\"]+)/")


class ArtifactPull:
    """Reads the artifacts that runs logged or used into the database and the blobs of a RunPull."""

    def __init__(self, runs: RunPull) -> None:
        self.runs, self.database, self.remote = runs, runs.database, runs.remote

    def pull(self, runs: list[RunRow]) -> None:
        found: dict[str, VersionPulled] = {}
        relations = []
        for run in runs:
            for role, document in ROLES.items():
                path = ("project", "run", "versions")
                of_run = {"run": run["name"], **self.runs.place}
                for node in self.remote.pages(VersionState, document, *path, **of_run):
                    if node["state"] == "COMMITTED":
                        version = checked(node, VersionPulled, self.remote.url, "versions")
                        found[version["id"]] = version
                        relations.append((run["id"], version["id"], role))
        # In the order of their numbers, so that they get them again.
        ordered = sorted(found.values(), key=lambda version: (version["versionIndex"] or 0, version["id"]))
        with self.database.transaction() as db:
            # What an interrupted pull has read of artifacts is read again.
            db.run("DELETE FROM collection")
            ids = {version["id"]: self._insert(db, version) for version in ordered}
        for version in ordered:
            self._contents(version, ids)
        with self.database.transaction() as db:
            for run_id, version_id, role in relations:
                db.run(
                    "INSERT INTO run_artifact (run_id, artifact_id, role) VALUES (?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    run_id,
                    ids[version_id],
                    role,
                )
        self._client_ids(runs, ids)

    def _insert(self, db: Transaction, version: VersionPulled) -> int:
        project = ensure_project(db, self.runs.entity, self.runs.project)
        name = version["artifactSequence"]["name"]
        kind = version["artifactType"]["name"]
        sequence = collections.ensure(db, project, collections.SEQUENCE, kind, name)
        ttl = whole(version["ttlDurationSeconds"])
        artifact_id = db.insert(
            "artifact",
            sequence_id=sequence["id"],
            state="COMMITTED",
            digest=version["digest"],
            digest_algorithm=version["digestAlgorithm"] or "MANIFEST_MD5",
            description=version["description"],
            metadata=version["metadata"],
            history_step=version["historyStep"],
            ttl_seconds=ttl if ttl and ttl > 0 else None,
            created_at=db.now,
            updated_at=db.now,
        )
        artifact = existing(db.get("artifact", artifact_id))
        number = collections.join(db, sequence, artifact)["version_index"]
        db.update("artifact", artifact_id, version_index=number)
        own = [item["alias"] for item in version["aliases"] if item["artifactCollection"]["name"] == name]
        names = [alias for alias in own if not re.fullmatch("v[0-9]+", alias)]
        collections.add_aliases(db, artifact, sequence, names)
        collections.tag(db, "artifact_id", artifact_id, [tag["name"] for tag in version["tags"]])
        return artifact_id

    def _contents(self, version: VersionPulled, ids: dict[str, int]) -> None:
        """Download the manifest of a version and the files that are not here yet."""
        artifact_id = ids[version["id"]]
        with self.database.transaction() as db:
            blob_id = new_blob(db, "wandb_manifest.json")
        manifest_file = version["currentManifest"]["file"]
        self.runs.fetch(manifest_file["directUrl"], blob_id, "a manifest", None, None)
        self._rewrite(blob_id, ids)
        with self.database.transaction() as db:
            row: Columns = {"artifact_id": artifact_id, "name": "wandb_manifest.json", "blob_id": blob_id}
            db.insert("manifest", kind="FULL", digest="", **row)
            artifact = existing(db.get("artifact", artifact_id))
            contents = manifests.contents_of(db, self.runs.blobs.folder, artifact)
        path = ("artifact", "files")
        for file in self.remote.pages(FilePulled, FILES, *path, id=version["id"]):
            entry = contents.get(file["name"])
            if entry is None or entry.get("ref"):
                continue
            with self.database.transaction() as db:
                if manifests.stored(db, entry.get("digest") or ""):
                    continue
                blob_id = new_blob(db, file["name"], permanent=True)
            self.runs.fetch(file["directUrl"], blob_id, file["name"], entry.get("digest"), entry.get("size"))
        with self.database.transaction() as db:
            db.update("artifact", artifact_id, **manifests.store(db, artifact, contents))

    def _rewrite(self, blob_id: str, ids: dict[str, int]) -> None:
        """Put the ids of this database in place of the other server's, in references to other versions."""
        path = self.runs.blobs.path(blob_id)
        try:
            manifest: Any = json.loads(path.read_bytes())
            entries = [entry for entry in manifest["contents"].values() if entry.get("ref")]
        except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
            raise RemoteError(f"{self.remote.url} sends a manifest that is not valid") from None
        try:
            here = {base64.b64decode(there).hex(): encode_id("Artifact", row) for there, row in ids.items()}
        except binascii.Error:
            raise RemoteError(f"{self.remote.url} has an artifact without a valid id") from None
        for entry in entries:
            reference = OTHER_VERSION.fullmatch(str(entry["ref"]))
            if reference and reference[1] in here:
                own = base64.b64decode(here[reference[1]]).hex()
                entry["ref"] = f"wandb-artifact://{own}{reference[2] or ''}"
        path.write_text(json.dumps(manifest), encoding="utf-8")

    def _client_ids(self, runs: list[RunRow], ids: dict[str, int]) -> None:
        """Store the ids that clients invented for versions, as far as runs have logged them."""
        invented: set[str] = set()
        with self.database.transaction() as db:
            for run in runs:
                lines = db.all("SELECT text FROM stream_line WHERE run_id = ?", run["id"])
                for text in (run["summary"], *(line["text"] for line in lines)):
                    invented.update(INVENTED.findall(text))
        for client_id in sorted(invented):
            mapping = self.remote.graphql(answers.ClientIdFound, CLIENT_ID, id=client_id)["clientIDMapping"]
            artifact_id = ids.get(mapping["serverID"]) if mapping else None
            if artifact_id is not None:
                with self.database.transaction() as db:
                    row = (client_id, artifact_id)
                    db.run(
                        "INSERT INTO client_id (client_id, artifact_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
                        *row,
                    )
