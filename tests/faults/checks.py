"""What must hold of a sweep when it is over, whatever happened to its processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .stage import INT, KILL, TERM, Process, Stage, wait_for

# Measured by a clock, or names of a run and of its files.
NEVER_EQUAL = {
    *("_timestamp", "_runtime", "_wandb", "path", "artifact_path", "_latest_artifact_path"),
    *(
        "train_seconds",
        "preparation_seconds",
        "frozen_seconds",
        "images_per_second",
        "peak_memory_mb",
        "energy_wh",
    ),
}
# What stays in the folders on purpose.
KEPT_IN_ROOT = {"key", "lock", "users", "blobs", "wandb.sqlite", "wandb.sqlite-wal", "wandb.sqlite-shm"}
KEPT_IN_ROOT |= {"server.log"}
# The signal itself ends a command that has not started yet, which a shell counts as the same code.
EXIT_CODES = {KILL: (-9,), TERM: (143, -15, 0), INT: (130, -2, 0)}

RUNS = """
SELECT run.id, run.name, run.state, run.sweep_args, run.summary FROM run JOIN sweep ON sweep.id = sweep_id
WHERE sweep.name = ? ORDER BY run.sweep_args, run.id"""
ROWS = "SELECT text FROM stream_line WHERE run_id = ? AND stream = 'wandb-history.jsonl' ORDER BY line"
MODEL_FILES = """
SELECT manifest_entry.path, manifest_entry.digest FROM run_artifact
JOIN artifact ON artifact.id = run_artifact.artifact_id
JOIN collection ON collection.id = artifact.sequence_id
JOIN artifact_type ON artifact_type.id = collection.type_id
JOIN manifest_entry ON manifest_entry.artifact_id = artifact.id
WHERE run_artifact.run_id = ? AND role = 'output' AND artifact_type.name = 'model'
AND artifact.state = 'COMMITTED' ORDER BY 1, 2"""
# The server deletes the files of a run and the contents of a version that were never sent, hours later.
NEVER_SENT = """
SELECT count(*) FROM blob WHERE uploaded_at IS NULL AND NOT permanent
AND NOT EXISTS (SELECT 1 FROM file WHERE blob_id = blob.id)
AND NOT EXISTS (SELECT 1 FROM manifest WHERE blob_id = blob.id)"""


def problems(stage: Stage, sweep: str, undisturbed: str) -> Iterator[str]:
    """What is wrong with a sweep, and with what its processes left behind, one sentence each."""
    yield from differences(results(stage, sweep), results(stage, undisturbed))
    yield from of_outputs(stage)
    yield from of_processes(stage)
    yield from of_folders(stage)


def results(stage: Stage, sweep: str) -> dict[str, list[dict[str, Any]]]:
    """For each point of a sweep its runs: their state, rows, summary and the files of their models."""
    points: dict[str, list[dict[str, Any]]] = {}
    for run_id, name, state, point, summary in stage.query(RUNS, sweep.split("/")[-1]):
        rows = [_comparable(json.loads(text)) for (text,) in stage.query(ROWS, run_id)]
        models = [file for file in stage.query(MODEL_FILES, run_id) if "json" not in file[0]]
        run = {"name": name, "state": state, "rows": rows, "summary": _comparable(json.loads(summary))}
        points.setdefault(point, []).append(run | {"model": models})
    return points


def _comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items() if key not in NEVER_EQUAL}
    return value


def differences(
    disturbed: dict[str, list[dict[str, Any]]], undisturbed: dict[str, list[dict[str, Any]]]
) -> Iterator[str]:
    """Where the points of a disturbed sweep differ from those of an undisturbed one."""
    if set(disturbed) != set(undisturbed):
        yield f"{len(disturbed)} of {len(undisturbed)} points were run"
    for point, runs in disturbed.items():
        if [run["state"] for run in runs] != ["finished"]:
            yield f"{point}: its runs are {[(run['name'], run['state']) for run in runs]}"
            continue
        [run], [expected] = runs, undisturbed[point]
        name = f"run {run['name']}"
        if not run["model"]:
            yield f"{name} has no committed model"
        if "_step" not in run["summary"]:
            # W&B's client leaves it out where a run is resumed that has logged all of its rows.
            expected["summary"].pop("_step", None)
        for part in ("rows", "summary", "model"):
            if run[part] != expected[part]:
                yield f"{name}: its {part} differ: {_first_difference(run[part], expected[part])}"


def _first_difference(actual: Any, expected: Any) -> str:
    if isinstance(actual, list) and len(actual) != len(expected):
        return f"{len(actual)} instead of {len(expected)}: {[_short(item) for item in actual]}"
    pairs = zip(actual, expected, strict=True) if isinstance(actual, list) else [(actual, expected)]
    for one, other in pairs:
        if one != other:
            if not isinstance(one, dict):
                return f"{one} instead of {other}"
            keys = [key for key in {*one, *other} if one.get(key) != other.get(key)]
            return "; ".join(f"{key}: {one.get(key)} instead of {other.get(key)}"[:300] for key in keys[:2])
    return "nothing"


def _short(row: Any) -> Any:
    return (row.get("_step"), row.get("epoch"), len(row)) if isinstance(row, dict) else row


def of_outputs(stage: Stage) -> Iterator[str]:
    """What a person would not want to read, and exit codes that say something else than what happened."""
    places = ("output/*", "client/wandb/*.log", "root/*.log")
    for log in (log for place in places for log in stage.folder.glob(place)):
        lines = log.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if line.startswith("Traceback") or "leaked" in line or "Exception ignored" in line:
                end = next((text for text in lines[number + 1 :] if text[:1].strip()), "")
                yield f"{log.name}:{number + 1}: {line.strip()[:100]} … {end[:300]}"
    for process in stage.processes:
        yield from _of_exit_code(process)


def _of_exit_code(process: Process) -> Iterator[str]:
    code = process.popen.poll()
    allowed = {code for number in process.signals for code in EXIT_CODES[number]} or {0}
    if process.has_lost_agents:
        # run_sweep does not start an agent again that was told to stop: it names the runs that are left.
        allowed |= {1}
    if process.name == "server":
        # It ends in order by SIGTERM.
        allowed |= {0}
    if code not in allowed:
        last = process.lines[-1:] or ["(no output)"]
        yield f"{process.output.name}: exit code {code} after signals {process.signals}: {last[0][:300]}"


def of_processes(stage: Stage) -> Iterator[str]:
    """Processes that outlive the sweep."""
    try:
        wait_for(lambda: not stage.members(), 30)
    except AssertionError:
        for member in stage.members():
            yield f"process {member.pid} is left: {' '.join(member.cmdline())[:150]}"


def of_folders(stage: Stage) -> Iterator[str]:
    """Files that no one needs any more."""
    for path in sorted(stage.temporary.glob("*")):
        inside = [str(file.relative_to(path)) for file in path.rglob("*")][:3]
        yield f"left in the temporary folder: {path.name} {inside}"
    for path in sorted(stage.cache.rglob("*")):
        parts = path.relative_to(stage.cache).parts
        if not path.is_file():
            continue
        # What torch.compile has compiled stays, under any name.
        kept = parts[0] == "torchinductor" or (
            parts[0] in ("FashionMNIST", "tensors") and "." not in parts[1]
        )
        if not kept:
            yield f"left in the cache: {'/'.join(parts)}"
    for path in sorted(stage.root.iterdir()):
        if path.name not in KEPT_IN_ROOT:
            yield f"left in the server's folder: {path.name}"
    for path in stage.root.glob("blobs/incoming/*"):
        yield f"left in the server's folder: {path.relative_to(stage.root)}"
    [[count]] = stage.query(NEVER_SENT)
    if count:
        yield f"{count} files were announced to the server and never sent, and stay there"
