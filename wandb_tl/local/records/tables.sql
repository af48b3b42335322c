-- The tables of the database. migrations.py upgrades older files; rows.py has the types of the rows.
-- any_type: 0 for a registry that accepts only artifacts of the types that it has. updated_at: null until a
-- registry is changed.
CREATE TABLE IF NOT EXISTS project (
    id INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT NOT NULL, name TEXT NOT NULL, description TEXT,
    created_at REAL NOT NULL, any_type INTEGER NOT NULL DEFAULT 1, updated_at REAL, UNIQUE (entity, name));
CREATE TABLE IF NOT EXISTS sweep (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE, display_name TEXT, description TEXT, config TEXT NOT NULL,
    state TEXT NOT NULL, controller TEXT, scheduler TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS agent (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sweep_id INTEGER NOT NULL REFERENCES sweep ON DELETE CASCADE,
    name TEXT NOT NULL UNIQUE, host TEXT, created_at REAL NOT NULL, heartbeat_at REAL NOT NULL);
-- A run of a sweep exists from the moment when it is handed out, in state pending and with started_at null.
-- prior: it was made outside of its sweep and joined it later. early_stopped: hyperband asked it to stop.
-- stop_seen_at: when its agent was first seen working on it after it was asked to stop.
CREATE TABLE IF NOT EXISTS run (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    name TEXT NOT NULL, display_name TEXT NOT NULL, state TEXT NOT NULL, config TEXT NOT NULL DEFAULT '{}',
    summary TEXT NOT NULL DEFAULT '{}', tags TEXT NOT NULL DEFAULT '[]', group_name TEXT, job_type TEXT,
    description TEXT, notes TEXT, host TEXT, program TEXT, repo TEXT, commit_hash TEXT, exit_code INTEGER,
    stop_requested INTEGER NOT NULL DEFAULT 0, preempting INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, started_at REAL, heartbeat_at REAL,
    history_keys TEXT, history_keys_lines INTEGER NOT NULL DEFAULT 0,
    sweep_id INTEGER REFERENCES sweep ON DELETE SET NULL,
    agent_id INTEGER REFERENCES agent ON DELETE SET NULL,
    sweep_args TEXT, claimed_at REAL, crashes INTEGER NOT NULL DEFAULT 0,
    prior INTEGER NOT NULL DEFAULT 0, early_stopped INTEGER NOT NULL DEFAULT 0, stop_seen_at REAL,
    column_lines INTEGER NOT NULL DEFAULT 0,
    UNIQUE (project_id, name));
CREATE INDEX IF NOT EXISTS run_by_sweep ON run (sweep_id, state);
CREATE INDEX IF NOT EXISTS run_by_state ON run (state);
CREATE INDEX IF NOT EXISTS run_by_agent ON run (agent_id);
CREATE TABLE IF NOT EXISTS stream_line (
    run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, stream TEXT NOT NULL, line INTEGER NOT NULL,
    step INTEGER, text TEXT NOT NULL, PRIMARY KEY (run_id, stream, line)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS stream_line_by_step ON stream_line (run_id, stream, step);
-- The numbers of a key in a block of history lines, as doubles, and the places of their lines in the block, one
-- byte each, empty if all lines have the key. See runs/history_columns.py.
CREATE TABLE IF NOT EXISTS history_column (
    id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    key TEXT NOT NULL, block INTEGER NOT NULL, places BLOB NOT NULL, numbers BLOB NOT NULL,
    UNIQUE (run_id, key, block));
CREATE INDEX IF NOT EXISTS run_behind ON run (id) WHERE history_keys_lines - column_lines >= 240;
-- Lines that had been counted have changed.
CREATE TRIGGER IF NOT EXISTS run_changed_lines AFTER UPDATE OF history_keys_lines ON run
    WHEN NEW.history_keys_lines < OLD.history_keys_lines
    BEGIN
        DELETE FROM history_column WHERE run_id = NEW.id;
        UPDATE run SET column_lines = 0 WHERE id = NEW.id;
    END;
-- The values of a sweep's metric in the history of its runs; number counts a run's values from 1.
CREATE TABLE IF NOT EXISTS metric_value (
    run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, line INTEGER NOT NULL, number INTEGER NOT NULL,
    value REAL NOT NULL, PRIMARY KEY (run_id, line)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS metric_value_by_number ON metric_value (run_id, number, value);
-- The bytes are in a file named by the blob's id. md5 is base64; md5, size and uploaded_at are null until the
-- upload is complete. announced: the md5 that the upload must have. permanent: contents of artifacts, which
-- are written once and belong to every version that lists one of their digests. digest: the XXH128 (base64);
-- until the upload, the MD5 or XXH128 that it must have. announced_at: when a client last asked where to upload
-- it. sent_at: when the newest address was signed to which it was uploaded.
CREATE TABLE IF NOT EXISTS blob (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, announced TEXT, permanent INTEGER NOT NULL DEFAULT 0, md5 TEXT,
    size INTEGER, uploaded_at REAL, digest TEXT, announced_at REAL NOT NULL DEFAULT 0,
    sent_at REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS blob_by_md5 ON blob (md5);
CREATE INDEX IF NOT EXISTS blob_by_digest ON blob (digest);
CREATE TABLE IF NOT EXISTS file (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    name TEXT NOT NULL, blob_id TEXT NOT NULL REFERENCES blob, UNIQUE (run_id, name));
CREATE INDEX IF NOT EXISTS file_by_blob ON file (blob_id);
CREATE TABLE IF NOT EXISTS artifact_type (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    name TEXT NOT NULL, description TEXT, created_at REAL NOT NULL, UNIQUE (project_id, name));
-- kind is the GraphQL type: ArtifactSequence (versions are made here) or ArtifactPortfolio (linked here).
CREATE TABLE IF NOT EXISTS collection (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    type_id INTEGER NOT NULL REFERENCES artifact_type, kind TEXT NOT NULL, name TEXT NOT NULL,
    description TEXT, next_version INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL,
    updated_at REAL NOT NULL, UNIQUE (project_id, name));
-- distributed_id: the name that runs which make a version together use for it. ttl_seconds: -2 means for
-- ever, null means the collection's time to live, which here is for ever too.
CREATE TABLE IF NOT EXISTS artifact (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sequence_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    state TEXT NOT NULL, digest TEXT NOT NULL, digest_algorithm TEXT NOT NULL, description TEXT,
    metadata TEXT, version_index INTEGER, history_step INTEGER, ttl_seconds INTEGER,
    size INTEGER NOT NULL DEFAULT 0, file_count INTEGER NOT NULL DEFAULT 0,
    pending_aliases TEXT NOT NULL DEFAULT '[]', created_by INTEGER REFERENCES run ON DELETE SET NULL,
    created_at REAL NOT NULL, updated_at REAL NOT NULL, distributed_id TEXT);
CREATE INDEX IF NOT EXISTS artifact_by_digest ON artifact (sequence_id, digest);
CREATE INDEX IF NOT EXISTS artifact_by_distributed_id ON artifact (sequence_id, distributed_id);
CREATE INDEX IF NOT EXISTS artifact_by_run ON artifact (created_by);
-- A version of a collection. In a sequence its version_index is the artifact's, in a portfolio its own.
CREATE TABLE IF NOT EXISTS membership (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE, version_index INTEGER NOT NULL,
    created_at REAL NOT NULL, UNIQUE (collection_id, artifact_id), UNIQUE (collection_id, version_index));
CREATE INDEX IF NOT EXISTS membership_by_artifact ON membership (artifact_id);
CREATE TABLE IF NOT EXISTS alias (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection_id INTEGER NOT NULL REFERENCES collection ON DELETE CASCADE,
    membership_id INTEGER NOT NULL REFERENCES membership ON DELETE CASCADE, alias TEXT NOT NULL,
    UNIQUE (collection_id, alias));
CREATE INDEX IF NOT EXISTS alias_by_membership ON alias (membership_id);
CREATE TABLE IF NOT EXISTS tag (
    id INTEGER PRIMARY KEY AUTOINCREMENT, artifact_id INTEGER REFERENCES artifact ON DELETE CASCADE,
    collection_id INTEGER REFERENCES collection ON DELETE CASCADE, name TEXT NOT NULL,
    UNIQUE (artifact_id, name), UNIQUE (collection_id, name));
-- kind: FULL, INCREMENTAL (adds to the version base_id) or PATCH (one run's part).
CREATE TABLE IF NOT EXISTS manifest (
    id INTEGER PRIMARY KEY AUTOINCREMENT, artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE,
    name TEXT NOT NULL, digest TEXT NOT NULL, blob_id TEXT NOT NULL REFERENCES blob,
    kind TEXT NOT NULL DEFAULT 'FULL', base_id INTEGER);
CREATE INDEX IF NOT EXISTS manifest_by_artifact ON manifest (artifact_id);
CREATE INDEX IF NOT EXISTS manifest_by_blob ON manifest (blob_id);
-- The entries of the committed manifest; blob_id is null for references, whose address is in ref.
CREATE TABLE IF NOT EXISTS manifest_entry (
    artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE, path TEXT NOT NULL,
    digest TEXT NOT NULL, size INTEGER NOT NULL, ref TEXT, blob_id TEXT REFERENCES blob,
    PRIMARY KEY (artifact_id, path)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS manifest_entry_by_blob ON manifest_entry (blob_id);
-- The contents that an uncommitted version is going to list, uploaded or not.
CREATE TABLE IF NOT EXISTS expected_blob (
    artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE,
    blob_id TEXT NOT NULL REFERENCES blob, PRIMARY KEY (artifact_id, blob_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS expected_blob_by_blob ON expected_blob (blob_id);
-- role: output (logged by the run) or input (used by it).
CREATE TABLE IF NOT EXISTS run_artifact (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    artifact_id INTEGER NOT NULL REFERENCES artifact ON DELETE CASCADE, role TEXT NOT NULL,
    UNIQUE (run_id, artifact_id, role));
CREATE INDEX IF NOT EXISTS run_artifact_by_artifact ON run_artifact (artifact_id, role);
-- Ids that clients invented for artifacts before they logged them, as in wandb-client-artifact:// paths.
CREATE TABLE IF NOT EXISTS client_id (
    client_id TEXT PRIMARY KEY, artifact_id INTEGER REFERENCES artifact ON DELETE CASCADE,
    collection_id INTEGER REFERENCES collection ON DELETE CASCADE);
CREATE INDEX IF NOT EXISTS client_id_by_artifact ON client_id (artifact_id);
CREATE INDEX IF NOT EXISTS client_id_by_collection ON client_id (collection_id);
-- Runs that several processes write together: each process numbers its own lines; line is the place in the
-- run's stream.
CREATE TABLE IF NOT EXISTS shared_line (
    run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE, stream TEXT NOT NULL, writer TEXT NOT NULL,
    number INTEGER NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (run_id, stream, writer, number)) WITHOUT ROWID;
-- Reports and saved workspaces; resolvers/views.py lists the types. spec: JSON of the client.
CREATE TABLE IF NOT EXISTS saved_view (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
    type TEXT NOT NULL, name TEXT NOT NULL, display_name TEXT NOT NULL, description TEXT NOT NULL,
    spec TEXT NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL,
    UNIQUE (project_id, type, name));
-- What the runs of a sweep say, as a client has computed it; sweeps/answers.py checks the JSON in content.
CREATE TABLE IF NOT EXISTS answer (
    sweep_id INTEGER PRIMARY KEY REFERENCES sweep ON DELETE CASCADE,
    content TEXT NOT NULL, created_at REAL NOT NULL);
-- What scripts said with run.alert(). severity: INFO, WARN or ERROR.
CREATE TABLE IF NOT EXISTS alert (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    severity TEXT NOT NULL, title TEXT NOT NULL, text TEXT NOT NULL, created_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS alert_by_run ON alert (run_id, title);
