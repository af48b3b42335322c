from __future__ import annotations

import hashlib
from pathlib import Path

from app_in_process import running
from version_lab import Lab

CONTENT = b"of an artifact"


def test_files_are_sent_while_another_client_writes(tmp_path: Path) -> None:
    with running(tmp_path) as app:
        with app.database.transaction() as db:
            lab = Lab(db, app.blobs)
            blob = lab.expect(lab.create("1"), CONTENT)
            lab.upload(blob["id"], CONTENT)
        address = app.blobs.addresses.url("", "GET", blob["id"])
        digest = hashlib.md5(CONTENT).hexdigest()
        # The transaction of another client is under way.
        with app.database.lock:
            assert app.ask("GET", address).content == CONTENT
            assert app.ask("GET", f"/artifacts/local/{digest}").content == CONTENT
