"""Who moves a run from which state to which; and that no other module spells a state."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wandb_tl.local
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import run_states
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.run_states import INTERRUPTED, LIVE, RunState
from wandb_tl.local.records.transaction import Transaction

SOURCES = Path(wandb_tl.local.__file__).parent
# A GraphQL field, a column or a key of a request's body that has the name of a state.
FIELDS = {
    ("api/resolvers/runs.py", "running"),
    ("api/resolvers/runs.py", "failed"),
    ("runs/file_stream.py", "preempting"),
    ("sweeps/answers.py", "finished"),
    ("pages/answer.py", "finished"),
}
ENDED = [state for state in RunState if state not in LIVE]


def states_spelled(source: str) -> Iterator[str]:
    """The states that a module spells as strings, alone or quoted in SQL; docstrings do not count."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if node.value in list(RunState):
                yield node.value
            yield from re.findall(f"'({'|'.join(RunState)})'", node.value)


def test_no_other_module_spells_a_state() -> None:
    modules = [path for path in SOURCES.rglob("*.py") if path.name != "run_states.py"]
    spelled = {
        (path.relative_to(SOURCES).as_posix(), state)
        for path in modules
        for state in states_spelled(path.read_text(encoding="utf-8"))
    }
    assert len(modules) > 40 and spelled - FIELDS == set()


@pytest.mark.parametrize(
    ("source", "states"),
    [
        ('run["state"] == "running"', ["running"]),
        ("db.run(f\"UPDATE run SET state = 'killed' WHERE {condition}\")", ["killed"]),
        ('def f():\n    """A running run."""\n    return "RUNNING", "it is running"', []),
    ],
)
def test_what_counts_as_spelling(source: str, states: list[str]) -> None:
    assert list(states_spelled(source)) == states


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Transaction]:
    database = Database(tmp_path / "wandb.sqlite")
    with database.transaction() as db:
        db.now = 10_000.0
        db.listening_since = 0.0
        yield db
    database.close()


def a_run(db: Transaction, state: RunState, **columns: Any) -> Any:
    project = ensure_project(db, "me", "p")
    number = db.value("SELECT count(*) FROM run")
    names = {"project_id": project["id"], "name": f"r{number}", "display_name": ""}
    return db.get("run", db.insert("run", state=state, **names | {"created_at": db.now} | columns))


@pytest.mark.parametrize(
    ("exit_code", "preempting", "stop_requested", "state"),
    [
        (0, False, 0, RunState.FINISHED),
        (0, True, 1, RunState.FINISHED),
        (1, False, 0, RunState.FAILED),
        (INTERRUPTED, False, 0, RunState.KILLED),
        (INTERRUPTED, True, 0, RunState.PREEMPTED),
        (1, True, 0, RunState.PREEMPTED),
        (1, True, 1, RunState.KILLED),
        (1, False, 1, RunState.KILLED),
    ],
)
def test_how_a_run_ended(
    db: Transaction, exit_code: int, preempting: bool, stop_requested: int, state: RunState
) -> None:
    run = a_run(db, RunState.RUNNING, stop_requested=stop_requested)
    columns = run_states.ended(run, exit_code, preempting)
    assert columns == {"state": state, "exit_code": exit_code, "preempting": int(preempting)}


@pytest.mark.parametrize("state", LIVE)
def test_a_live_run_that_logs_is_running(db: Transaction, state: RunState) -> None:
    run = a_run(db, state, crashes=1)
    columns = {"state": RunState.RUNNING, "preempting": 0, "crashes": 1}
    assert run_states.heard(run, preempting=False) == columns
    columns |= {"state": RunState.PREEMPTING, "preempting": 1}
    assert run_states.heard(run, preempting=True) == columns


def test_a_crash_does_not_count_if_the_run_logs_again(db: Transaction) -> None:
    run = a_run(db, RunState.CRASHED, crashes=2)
    assert run_states.heard(run, preempting=False)["crashes"] == 1


@pytest.mark.parametrize("state", [state for state in ENDED if state != RunState.CRASHED])
def test_a_reported_end_is_final_for_a_late_request(db: Transaction, state: RunState) -> None:
    assert run_states.heard(a_run(db, state), preempting=False) == {}


def test_a_run_that_its_agent_sees_is_alive(db: Transaction) -> None:
    started = a_run(db, RunState.CRASHED, started_at=1.0, crashes=1)
    assert run_states.seen_alive(started) == {"state": RunState.RUNNING, "crashes": 0}
    unstarted = a_run(db, RunState.CRASHED, crashes=1)
    assert run_states.seen_alive(unstarted) == {"state": RunState.PENDING, "crashes": 0}
    preempted = a_run(db, RunState.PREEMPTED)
    assert run_states.seen_alive(preempted) == {"state": RunState.PREEMPTING, "exit_code": None}
    assert run_states.seen_alive(a_run(db, RunState.FAILED)) == {}


@pytest.mark.parametrize("state", RunState)
def test_states_that_are_set_by_hand(db: Transaction, state: RunState) -> None:
    run, allowed = a_run(db, state), []
    for target in [*RunState, "queued"]:
        try:
            allowed.append(run_states.set_by_hand(run, target)["state"])
        except RequestError as error:
            assert str(error).endswith(f"transition: a run that is {state} cannot be set to {target}")
    expected = {
        RunState.PENDING: [RunState.FAILED],
        RunState.RUNNING: [RunState.PENDING, RunState.FAILED],
        RunState.FAILED: [RunState.PENDING],
        RunState.CRASHED: [RunState.PENDING],
        RunState.PREEMPTED: [RunState.PENDING],
    }
    assert allowed == expected.get(state, [])


def test_the_state_of_a_sweeps_run_is_not_set_by_hand(db: Transaction) -> None:
    run = a_run(db, RunState.RUNNING) | {"sweep_id": 1}
    with pytest.raises(RequestError, match="of a sweep's run"):
        run_states.set_by_hand(run, RunState.FAILED)


@pytest.mark.parametrize(
    ("columns", "state", "crashes"),
    [
        ({}, RunState.CRASHED, 1),
        ({"stop_requested": 1, "preempting": 1}, RunState.KILLED, 0),
        ({"preempting": 1}, RunState.PREEMPTED, 0),
    ],
)
def test_a_silent_run_is_given_up(
    db: Transaction, columns: dict[str, int], state: RunState, crashes: int
) -> None:
    silent = a_run(db, RunState.RUNNING, heartbeat_at=db.now - run_states.SILENCE_SECONDS - 1, **columns)
    heard = a_run(db, RunState.RUNNING, heartbeat_at=db.now - run_states.SILENCE_SECONDS + 1, **columns)
    run_states.give_up_silent(db)
    silent, heard = db.get("run", silent["id"]), db.get("run", heard["id"])
    assert (silent["state"], silent["crashes"]) == (state, crashes)
    assert heard["state"] == RunState.RUNNING


def test_silence_before_the_server_listened_does_not_count(db: Transaction) -> None:
    run = a_run(db, RunState.RUNNING, heartbeat_at=0.0)
    db.listening_since = db.now - run_states.SILENCE_SECONDS + 1
    run_states.give_up_silent(db)
    assert db.get("run", run["id"])["state"] == RunState.RUNNING


@pytest.mark.parametrize("state", ENDED)
def test_another_server_derives_the_same_end_from_the_exit_code(db: Transaction, state: RunState) -> None:
    for exit_code in (None, 0, 1, 7, INTERRUPTED):
        code = run_states.exit_code_of(a_run(db, state, exit_code=exit_code))
        derived = run_states.ended(a_run(db, RunState.RUNNING), code, preempting=False)["state"]
        # An exit code has no room for "crashed" and "preempted".
        assert derived == (state if state in (RunState.FINISHED, RunState.KILLED) else RunState.FAILED)
