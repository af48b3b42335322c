"""The rows of the tables, as queries return them. A test compares them with tables.sql.

Times are Unix seconds. SQLite has no booleans: a flag is 0 or 1.
"""

from __future__ import annotations

from typing import Any, TypedDict

# A row of a query that selects columns of its own choice.
Row = dict[str, Any]
# What a column can hold, and columns of one row to insert or to update.
SqlValue = str | int | float | bytes | None
Columns = dict[str, SqlValue]


class ProjectRow(TypedDict):
    id: int
    entity: str
    name: str
    description: str | None
    created_at: float
    any_type: int
    updated_at: float | None


class SweepRow(TypedDict):
    """config is the YAML or JSON that the client sent; state is in capitals, such as RUNNING."""

    id: int
    project_id: int
    name: str
    display_name: str | None
    description: str | None
    config: str
    state: str
    controller: str | None
    scheduler: str | None
    created_at: float
    updated_at: float


class AgentRow(TypedDict):
    id: int
    sweep_id: int
    name: str
    host: str | None
    created_at: float
    heartbeat_at: float


class RunRow(TypedDict):
    """config, summary, tags, history_keys and sweep_args hold JSON; state is a RunState."""

    id: int
    project_id: int
    name: str
    display_name: str
    state: str
    config: str
    summary: str
    tags: str
    group_name: str | None
    job_type: str | None
    description: str | None
    notes: str | None
    host: str | None
    program: str | None
    repo: str | None
    commit_hash: str | None
    exit_code: int | None
    stop_requested: int
    preempting: int
    created_at: float
    started_at: float | None
    heartbeat_at: float | None
    history_keys: str | None
    history_keys_lines: int
    sweep_id: int | None
    agent_id: int | None
    sweep_args: str | None
    claimed_at: float | None
    crashes: int
    prior: int
    early_stopped: int
    stop_seen_at: float | None
    column_lines: int


class StreamLineRow(TypedDict):
    run_id: int
    stream: str
    line: int
    step: int | None
    text: str


class HistoryColumnRow(TypedDict):
    id: int
    run_id: int
    key: str
    block: int
    places: bytes
    numbers: bytes


class BlobRow(TypedDict):
    """md5, announced and digest are base64."""

    id: str
    name: str
    announced: str | None
    permanent: int
    md5: str | None
    size: int | None
    uploaded_at: float | None
    digest: str | None
    announced_at: float
    sent_at: float


class FileRow(TypedDict):
    id: int
    run_id: int
    name: str
    blob_id: str


class ArtifactTypeRow(TypedDict):
    id: int
    project_id: int
    name: str
    description: str | None
    created_at: float


class CollectionRow(TypedDict):
    """kind is the GraphQL type: ArtifactSequence or ArtifactPortfolio."""

    id: int
    project_id: int
    type_id: int
    kind: str
    name: str
    description: str | None
    next_version: int
    created_at: float
    updated_at: float


class ArtifactRow(TypedDict):
    """A version of an artifact. metadata and pending_aliases hold JSON; state is PENDING or COMMITTED."""

    id: int
    sequence_id: int
    state: str
    digest: str
    digest_algorithm: str
    description: str | None
    metadata: str | None
    version_index: int | None
    history_step: int | None
    ttl_seconds: int | None
    size: int
    file_count: int
    pending_aliases: str
    created_by: int | None
    created_at: float
    updated_at: float
    distributed_id: str | None


class MembershipRow(TypedDict):
    id: int
    collection_id: int
    artifact_id: int
    version_index: int
    created_at: float


class AliasRow(TypedDict):
    id: int
    collection_id: int
    membership_id: int
    alias: str


class TagRow(TypedDict):
    """The tag of a version or of a collection."""

    id: int
    artifact_id: int | None
    collection_id: int | None
    name: str


class ManifestRow(TypedDict):
    """kind is FULL, INCREMENTAL or PATCH."""

    id: int
    artifact_id: int
    name: str
    digest: str
    blob_id: str
    kind: str
    base_id: int | None


class ManifestEntryRow(TypedDict):
    artifact_id: int
    path: str
    digest: str
    size: int
    ref: str | None
    blob_id: str | None


class RunArtifactRow(TypedDict):
    """role is output or input."""

    id: int
    run_id: int
    artifact_id: int
    role: str


class ClientIdRow(TypedDict):
    client_id: str
    artifact_id: int | None
    collection_id: int | None


class ViewRow(TypedDict):
    """A report or a saved workspace: a row of saved_view. spec holds the client's JSON."""

    id: int
    project_id: int
    type: str
    name: str
    display_name: str
    description: str
    spec: str
    created_at: float
    updated_at: float


class AlertRow(TypedDict):
    """What a script said with run.alert(). severity is INFO, WARN or ERROR."""

    id: int
    run_id: int
    severity: str
    title: str
    text: str
    created_at: float


class AnswerRow(TypedDict):
    """What the runs of a sweep say: content holds JSON that sweeps/answers.py has checked."""

    sweep_id: int
    content: str
    created_at: float
