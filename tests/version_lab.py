"""Versions made step by step in a database, without a client and a server."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import xxhash

from wandb_tl.local.artifacts import manifests, uploads, versions
from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.transaction import Transaction


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def xxh128(content: bytes) -> str:
    return base64.b64encode(xxhash.xxh128(content).digest()).decode()


@dataclass
class Lab:
    """One transaction of a database, in which everything is in the collection c of the project p."""

    db: Transaction
    blobs: Blobs

    def create(self, digest: str, run: Any = None, **extra: Any) -> dict[str, Any]:
        wanted = {"artifactTypeName": "t", "artifactCollectionNames": ["c"], "digest": digest}
        return versions.create(self.db, ensure_project(self.db, None, "p"), run, wanted | extra)

    def expect(self, artifact: dict[str, Any], content: bytes, **extra: Any) -> dict[str, Any]:
        """The blob for a file, as the client asks for its address."""
        return manifests.expect(self.db, artifact, {"name": "f", "md5": md5(content)} | extra)

    def upload(self, blob_id: str, content: bytes) -> None:
        with self.blobs.write(content) as upload:
            uploads.accept(self.db, self.blobs, blob_id, upload, time.time())

    def announce(self, artifact: dict[str, Any], base: Any = None, kind: str = "FULL") -> dict[str, Any]:
        wanted = {"name": "m", "digest": "", "type": kind}
        return manifests.announce(self.db, artifact, base, wanted)

    def add(
        self, artifact: dict[str, Any], files: dict[str, str], base: Any = None, kind: str = "FULL"
    ) -> Any:
        """Upload files and a manifest of them; returns the manifest."""
        contents = {}
        for path, content in files.items():
            self.upload(self.expect(artifact, content.encode())["id"], content.encode())
            contents[path] = {"digest": md5(content.encode()), "size": len(content)}
        manifest = self.announce(artifact, base, kind)
        self.upload(manifest["blob_id"], json.dumps({"version": 1, "contents": contents}).encode())
        return manifest

    def commit(self, artifact: dict[str, Any]) -> dict[str, Any]:
        return versions.commit(self.db, self.blobs, artifact)

    def make(self, digest: str, files: dict[str, str], **extra: Any) -> dict[str, Any]:
        """A complete version."""
        artifact = self.create(digest, **extra)
        self.add(artifact, files)
        return self.commit(artifact)
