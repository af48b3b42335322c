"""The deletion of a run, with its files and the artifact versions that it logged."""

from __future__ import annotations

from wandb_tl.local.artifacts import blobs, versions
from wandb_tl.local.records.rows import ArtifactRow, RunRow
from wandb_tl.local.records.transaction import Transaction


def delete(db: Transaction, run: RunRow, with_artifacts: bool) -> list[str]:
    """Delete a run with its history and files, and the artifact versions that it logged if asked to.

    Returns the ids of blobs whose files to delete after the commit.
    """
    unused = []
    if with_artifacts:
        query = "SELECT * FROM artifact WHERE created_by = ?"
        for artifact in db.all(query, run["id"], row=ArtifactRow):
            unused += versions.delete(db, artifact, with_aliases=True)
    blob_ids = [row["blob_id"] for row in db.all("SELECT blob_id FROM file WHERE run_id = ?", run["id"])]
    db.run("DELETE FROM run WHERE id = ?", run["id"])
    return unused + blobs.delete_unused(db, blob_ids)
