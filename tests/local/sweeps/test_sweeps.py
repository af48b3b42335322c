"""Sweeps that change, are joined by runs of before, or are driven from outside; the real `wandb` commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from live_server import Server
from stream_lab import post
from sweep_lab import AGENT, SweepLab

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import run_states
from wandb_tl.local.records.names import run_named
from wandb_tl.local.records.rows import SweepRow
from wandb_tl.local.records.transaction import Transaction, existing
from wandb_tl.local.runs import branches
from wandb_tl.local.sweeps import hand_out, observations, sweep_config, sweep_rows

WANDB = Path(sys.executable).parent / "wandb"


@pytest.fixture
def lab(tmp_path: Path) -> SweepLab:
    return SweepLab(tmp_path)


def grid(*values: int, **more: str) -> str:
    lines = [f"{name}: {value}" for name, value in more.items()]
    return "\n".join(["method: grid", *lines, f"parameters:\n  a: {{values: {list(values)}}}"])


def run_outside(lab: SweepLab, name: str, value: float, state: str = "finished", **columns: object) -> None:
    row = {
        "project_id": lab.project["id"],
        "name": name,
        "display_name": name,
        "state": state,
        "config": json.dumps({"a": {"value": value}, "_wandb": {"value": {}}}),
        "created_at": 1,
        **columns,
    }
    lab.inside(lambda db: db.insert("run", **row))


def join(lab: SweepLab, sweep: dict, *names: str) -> None:
    chosen = json.dumps({"$or": [{"name": name} for name in names]})
    lab.inside(lambda db: sweep_rows.join(db, sweep, chosen))


def points(lab: SweepLab, agent: dict) -> list[int]:
    """Let an agent work until the sweep is over; returns the values that it was given."""
    values = []
    while (command := lab.beat(agent)) and command[0]["type"] != "exit":
        values.append(command[0]["args"]["a"]["value"])
        lab.post(command[0]["run_id"], complete=True, exitcode=0)
    return values


def test_prior_runs_take_points_of_a_grid_and_are_not_repeated(lab: SweepLab) -> None:
    run_outside(lab, "float", 2.0)
    run_outside(lab, "crashed", 3, "crashed", started_at=1)
    run_outside(lab, "elsewhere", 7)
    sweep = lab.sweep(grid(1, 2, 3, 4))
    join(lab, sweep, "float", "crashed", "elsewhere")
    assert points(lab, lab.agent(sweep)) == [1, 4]
    assert lab.sweep_state(sweep) == "FINISHED" and lab.state("crashed") == "crashed"
    assert sweep_rows.expected_runs(sweep_config.parse(sweep["config"])) == 4


def test_prior_runs_are_observations_and_no_hand_outs(lab: SweepLab) -> None:
    for name, value in (("x", 0.2), ("y", 0.9)):
        run_outside(lab, name, value)
        lines = [json.dumps({"loss": value + 1}), json.dumps({"loss": value})]
        lab.post(name, files={"wandb-history.jsonl": {"offset": 0, "content": lines}})
    config = "method: bayes\nrun_cap: 1\nmetric: {name: loss}\nparameters: {a: {min: 0.0, max: 1.0}}"
    sweep = lab.sweep(config)
    join(lab, sweep, "x", "y")
    trials = lab.inside(lambda db: observations.trials(db, sweep))
    assert [(t.arguments["a"]["value"], t.least, t.latest) for t in trials] == [
        (0.2, 0.2, 0.2),
        (0.9, 0.9, 0.9),
    ]
    assert len(points(lab, lab.agent(sweep))) == 1


def test_prior_run_must_exist_and_not_be_at_work_elsewhere(lab: SweepLab) -> None:
    one, two = lab.sweep(grid(1, 2)), lab.sweep(grid(1, 2))
    [command] = lab.beat(lab.agent(one))
    lab.post(command["run_id"])
    with pytest.raises(RequestError, match="no such prior run"):
        join(lab, two, "nobody")
    with pytest.raises(RequestError, match="is at work for another sweep"):
        join(lab, two, command["run_id"])
    lab.post(command["run_id"], complete=True, exitcode=0)
    with pytest.raises(RequestError, match=f"wandb sweep --stop {one['name']}$"):
        join(lab, two, command["run_id"])
    lab.inside(lambda db: sweep_rows.change(db, one, None, "FINISHED"))
    join(lab, two, command["run_id"])
    assert points(lab, lab.agent(two)) == [2]


def test_sweep_is_not_joined_by_its_own_runs(lab: SweepLab) -> None:
    sweep = lab.sweep(grid(1, 2))
    agent = lab.agent(sweep)
    [command] = lab.beat(agent)
    run_outside(lab, "before", 2)
    join(lab, sweep, command["run_id"], "before")
    assert lab.beat(agent, command["run_id"]) == []
    # It never starts, and is repeated as ever.
    assert lab.beat(agent) == [command | {"type": "resume"}]
    prior = lab.inside(lambda db: db.all("SELECT name FROM run WHERE prior"))
    assert prior == [{"name": "before"}]


def test_histories_are_read_again_only_for_another_metric(lab: SweepLab) -> None:
    config = "method: bayes\nmetric: {{name: {}}}\nrun_cap: {}\nparameters: {{a: {{min: 0.0, max: 1.0}}}}"
    sweep = lab.sweep(config.format("loss", 5))
    [command] = lab.beat(lab.agent(sweep))
    chunk = {"offset": 0, "content": [json.dumps({"loss": 1, "other": 2})]}
    lab.post(command["run_id"], files={"wandb-history.jsonl": chunk})
    # A mark, which lasts as long as nothing is read again.
    lab.inside(lambda db: db.run("UPDATE metric_value SET value = 7"))

    def values_after(text: str) -> list[float]:
        current = lab.inside(lambda db: db.get("sweep", sweep["id"]))
        lab.inside(lambda db: sweep_rows.change(db, current, text, None))
        return [row["value"] for row in lab.inside(lambda db: db.all("SELECT value FROM metric_value"))]

    assert values_after(config.format("loss", 6)) == [7]
    assert values_after(config.format("other", 6)) == [2]
    assert values_after(config.format("other", 6).replace("bayes", "random")) == []
    assert values_after(config.format("loss", 6)) == [1]


def test_prior_runs_that_crashed_are_never_handed_out(lab: SweepLab) -> None:
    run_outside(lab, "unstarted", 1, "crashed", crashes=1)
    sweep = lab.sweep(grid(1))
    join(lab, sweep, "unstarted")
    assert points(lab, lab.agent(sweep)) == []


def test_bayes_learns_from_what_its_runs_log(lab: SweepLab) -> None:
    config = (
        "method: bayes\nrun_cap: 14\nmetric: {name: val.loss}\n"
        "parameters: {a: {min: 0.0, max: 1.0}, b: {values: [x, y]}}"
    )
    sweep = lab.sweep(config)
    agent, tried = lab.agent(sweep), []
    while (command := lab.beat(agent)[0])["type"] == "run":
        value = command["args"]["a"]["value"]
        loss = (value - 0.3) ** 2 + (command["args"]["b"]["value"] == "y")
        chunk = {"offset": 0, "content": [json.dumps({"val": {"loss": loss}})]}
        lab.post(command["run_id"], files={"wandb-history.jsonl": chunk}, complete=True, exitcode=0)
        tried.append(loss)
    assert len(tried) == 14 and min(tried) < 0.01
    # Not the sums: the first look at "y" may come late, and is one loss of 1.
    assert median(tried[7:]) < median(tried[:7])


def test_new_values_alone_are_handed_out_after_an_update(lab: SweepLab) -> None:
    sweep = lab.sweep(grid(1, 2))
    agent = lab.agent(sweep)
    assert points(lab, agent) == [1, 2]

    def change(config: str | None, state: str | None) -> list[str]:
        current = lab.inside(lambda db: db.get("sweep", sweep["id"]))
        return lab.inside(lambda db: sweep_rows.change(db, current, config, state))

    assert change(grid(3, 2, 5), None) == [
        f"the sweep is over: to resume it, type wandb sweep --resume {sweep['name']}"
    ]
    assert lab.beat(agent) == [{"type": "exit"}]
    change(None, "RUNNING")
    assert points(lab, agent) == [3, 5]


def test_resumed_sweep_repeats_what_was_deleted_and_what_crashed(lab: SweepLab) -> None:
    sweep = lab.sweep(grid(1, 2))
    agent = lab.agent(sweep)
    [first] = lab.beat(agent)
    lab.inside(lambda db: db.run("UPDATE run SET state = 'crashed', crashes = 9, started_at = 1"))
    assert points(lab, agent) == [2]
    lab.inside(lambda db: db.run("DELETE FROM run WHERE name != ?", first["run_id"]))
    finished = lab.inside(lambda db: db.get("sweep", sweep["id"]))
    lab.inside(lambda db: sweep_rows.change(db, finished, None, "RUNNING"))
    [again] = lab.beat(agent)
    assert again == first | {"type": "resume"}
    lab.post(first["run_id"], complete=True, exitcode=0)
    assert points(lab, agent) == [2]


def test_silent_run_is_crashed_within_a_minute_but_given_time_to_come_back(lab: SweepLab) -> None:
    sweep = lab.sweep(grid(1))
    lost, waiting = lab.agent(sweep), lab.agent(sweep)
    [command] = lab.beat(lost)
    name = command["run_id"]

    def init(db) -> None:
        db.run("UPDATE run SET started_at = ?", db.now)

    lab.inside(init)
    lab.post(name)
    lab.beat(lost, name)
    lab.wait(run_states.SILENCE_SECONDS + 1)
    assert lab.state(name) == "crashed"
    assert lab.beat(waiting) == []
    # The network is back before another process took its place.
    assert lab.beat(lost, name) == [] and lab.state(name) == "running"
    for speak in (lambda: lab.post(name), lambda: lab.beat(lost, name)) * 3:
        # However often that happens, it is no crash.
        lab.wait(run_states.SILENCE_SECONDS + 1)
        assert lab.state(name) == "crashed"
        speak()
    assert lab.state(name) == "running"
    lab.wait(hand_out.RETURN_SECONDS + 1)
    assert lab.state(name) == "crashed"
    assert lab.beat(waiting) == [command | {"type": "resume"}]


def test_preempted_run_that_falls_silent_is_given_time_to_come_back_too(lab: SweepLab) -> None:
    sweep = lab.sweep(grid(1))
    lost, waiting = lab.agent(sweep), lab.agent(sweep)
    [command] = lab.beat(lost)
    name = command["run_id"]
    lab.post(name, preempting=True)
    lab.wait(run_states.SILENCE_SECONDS + 1)
    assert lab.state(name) == "preempted"
    assert lab.beat(waiting) == []
    assert lab.beat(lost, name) == [] and lab.state(name) == "preempting"
    lab.wait(run_states.SILENCE_SECONDS + 1)
    lab.post(name)
    lab.wait(hand_out.RETURN_SECONDS - 1)
    assert lab.beat(waiting) == []
    lab.wait(2)
    assert lab.beat(waiting) == [command | {"type": "resume"}]


def queue(lab: SweepLab, sweep: dict, *values: float) -> list[str]:
    """Queue runs as a scheduler does; returns their ids."""
    points = [{"a": {"value": value}} for value in values]
    return [lab.inside(lambda db, p=point: sweep_rows.add_run(db, sweep, p))["name"] for point in points]


def queued_and_made(lab: SweepLab, sweep: dict) -> tuple[int, list[str]]:
    """How many runs of a sweep are in its queue, and the ids of the others."""
    runs = lab.inside(lambda db: db.all("SELECT * FROM run WHERE sweep_id = ? ORDER BY id", sweep["id"]))
    waiting = [run for run in runs if run["agent_id"] is None]
    return len(waiting), [run["name"] for run in runs if run not in waiting]


def test_queue_of_an_outside_scheduler(lab: SweepLab) -> None:
    sweep = lab.sweep(grid(1, 2, scheduler="{engine: wandb}"))
    agent = lab.agent(sweep)
    assert lab.beat(agent) == []
    queued = queue(lab, sweep, 5, 6, 7)
    [command] = lab.beat(agent)
    assert (command["run_id"], command["args"]) == (queued[0], {"a": {"value": 5}})
    lab.post(queued[0], complete=True, exitcode=0)
    assert lab.beat(agent)[0]["run_id"] == queued[1]
    lab.inside(lambda db: sweep_rows.change(db, sweep, None, "CANCELED"))
    assert lab.beat(agent, queued[1]) == [{"type": "stop", "run_id": queued[1]}]
    assert lab.beat(agent) == [{"type": "exit"}]
    # Nobody will start the run that is still in the queue.
    assert queued_and_made(lab, sweep) == (0, queued[:2])
    assert [lab.state(name) for name in queued[:2]] == ["finished", "killed"]
    # The run that the scheduler writes its log to never says that it is over.
    run_outside(lab, f"{sweep['name']}-scheduler", 0, "running", heartbeat_at=lab.now)
    lab.wait(run_states.SILENCE_SECONDS + 1)
    assert lab.state(f"{sweep['name']}-scheduler") == "finished"


def test_run_cap_counts_what_is_handed_out_and_not_what_a_scheduler_has_queued(lab: SweepLab) -> None:
    sweep = lab.sweep(grid(1, 2, scheduler="{engine: wandb}", run_cap="2"))
    first, second = lab.agent(sweep), lab.agent(sweep)
    queued = queue(lab, sweep, 5, 6, 7, 8)
    assert [lab.beat(agent)[0]["run_id"] for agent in (first, second)] == queued[:2]
    # The cap is reached: an agent waits for what may have to be repeated, and gets no third point.
    lab.post(queued[0], complete=True, exitcode=0)
    assert lab.beat(first) == []
    lab.post(queued[1], preempting=True, complete=True, exitcode=1)
    assert [command["type"] for command in lab.beat(first)] == ["resume"]
    lab.post(queued[1], complete=True, exitcode=0)
    # The end does not depend on a scheduler that may have died.
    assert lab.beat(second) == [{"type": "exit"}]
    assert queued_and_made(lab, sweep) == (0, queued[:2])
    # Resumed with a higher cap, it takes what a new scheduler queues.
    lab.inside(lambda db: sweep_rows.cap_runs(db, sweep, 3))
    lab.inside(lambda db: sweep_rows.change(db, lab_sweep(db, sweep), None, "RUNNING"))
    assert lab.beat(first) == []
    [late, _] = queue(lab, sweep, 9, 10)
    assert lab.beat(first)[0]["run_id"] == late
    lab.post(late, complete=True, exitcode=0)
    assert lab.beat(first) == [{"type": "exit"}]
    assert queued_and_made(lab, sweep) == (0, [*queued[:2], late])


def lab_sweep(db: Transaction, sweep: dict) -> SweepRow:
    return existing(db.get("sweep", sweep["id"]))


@pytest.mark.parametrize("end", ["FINISHED", "CANCELED"])
def test_queue_of_a_scheduler_ends_with_the_sweep(lab: SweepLab, end: str) -> None:
    sweep = lab.sweep(grid(1, 2, scheduler="{engine: wandb}"))
    queued = queue(lab, sweep, 5, 6)
    lab.beat(lab.agent(sweep))
    lab.inside(lambda db: sweep_rows.change(db, lab_sweep(db, sweep), None, "PAUSED"))
    assert queued_and_made(lab, sweep) == (1, queued[:1])
    lab.inside(lambda db: sweep_rows.change(db, lab_sweep(db, sweep), None, "RUNNING"))
    lab.inside(lambda db: sweep_rows.change(db, lab_sweep(db, sweep), None, end))
    assert queued_and_made(lab, sweep) == (0, queued[:1])


def test_values_follow_their_lines_and_go_with_their_run(lab: SweepLab) -> None:
    run_outside(lab, "r", 1, "running")
    sweep = lab.sweep("method: bayes\nmetric: {name: loss}\nparameters: {a: {min: 0.0, max: 1.0}}")
    join(lab, sweep, "r")
    for content in (['{"loss": 1}', '{"loss": 2}'], ['{"loss": 3}']):
        lab.post("r", files={"wandb-history.jsonl": {"offset": 1, "content": content}})
    rows = lab.inside(lambda db: db.all("SELECT line, number, value FROM metric_value"))
    assert [tuple(row.values()) for row in rows] == [(1, 1, 3.0), (2, 2, 2.0)]
    lab.inside(lambda db: db.run("DELETE FROM run WHERE id = ?", run_named(db, lab.project, "r")["id"]))
    assert lab.inside(lambda db: db.all("SELECT * FROM metric_value")) == []


def test_line_that_cannot_be_read_has_no_value(lab: SweepLab) -> None:
    sweep = lab.sweep("method: bayes\nmetric: {name: loss}\nparameters: {a: {min: 0.0, max: 1.0}}")
    [command] = lab.beat(lab.agent(sweep))
    lines = ['{"loss": ' + "[" * 100_000, "loss", '["loss"]', f'{{"loss": {10**400}}}', '{"loss": 1}']
    lab.post(command["run_id"], files={"wandb-history.jsonl": {"offset": 0, "content": lines}})
    rows = lab.inside(lambda db: db.all("SELECT line, number, value FROM metric_value"))
    assert rows == [{"line": 4, "number": 1, "value": 1.0}]


def test_values_of_several_writers_and_of_a_rewound_run(lab: SweepLab) -> None:
    run_outside(lab, "r", 1, "running")
    sweep = lab.sweep("method: bayes\nmetric: {name: loss}\nparameters: {a: {min: 0.0, max: 1.0}}")
    join(lab, sweep, "r")

    def write(writer: str | None, offset: int, *losses: int) -> None:
        content = [json.dumps({"loss": loss, "_step": loss}) for loss in losses]
        files = {"wandb-history.jsonl": {"offset": offset, "content": content}}
        lab.inside(lambda db: post(db, writer=writer, files=files))

    def values() -> list[tuple[int, float]]:
        rows = lab.inside(lambda db: db.all("SELECT number, value FROM metric_value ORDER BY number"))
        return [tuple(row.values()) for row in rows]

    write("one", 0, 1)
    write("two", 0, 2, 3)
    write("one", 1, 4)
    assert values() == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    lab.inside(lambda db: branches.rewind(db, run_named(db, lab.project, "r"), "_step", 2))
    assert values() == [(1, 1.0), (2, 2.0)]
    write(None, 2, 5)
    assert values() == [(1, 1.0), (2, 2.0), (3, 5.0)]


# ---- the real client -------------------------------------------------------------------------------------

SCRIPT = """
import time
import wandb

with wandb.init() as run:
    for epoch in range(4 if run.config.a == 0 else 200):
        run.log({"loss": run.config.a})
        time.sleep(run.config.get("pause", 0))
"""

RUNS = """query ($project: String!) { project(name: $project, entityName: "local") { sweeps { edges { node {
    state bestLoss runs { edges { node { state config exitcode historyLineCount } } } } } } } }"""


class Begun:
    """Processes of the client that work beside one another, to save time."""

    def __init__(self, server: Server) -> None:
        self.options = {
            "cwd": server.folder / "client",
            "env": server.env | {"WANDB_SILENT": "false"},
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }
        self.processes: dict[str, subprocess.Popen] = {}

    def make_sweep(self, project: str, config: str) -> str:
        (self.options["cwd"] / f"{project}.yaml").write_text(config)
        made = subprocess.run([WANDB, "sweep", "--project", project, f"{project}.yaml"], **self.options)
        return made.stdout.rpartition("wandb agent ")[2].split()[0]

    def start(self, name: str, *command: str | Path) -> None:
        self.processes[name] = subprocess.Popen(command, **self.options)

    def wait(self, name: str) -> str:
        output, _ = self.processes[name].communicate(timeout=240)
        assert self.processes[name].returncode == 0, output
        return output


@pytest.fixture(scope="module")
def begun(server: Server) -> Iterator[Begun]:
    work = Begun(server)
    (server.folder / "client" / "x.py").write_text(SCRIPT)
    agent = (sys.executable, "-c", AGENT)
    metric = {"program": "x.py", "metric": "{name: loss}"}
    bad = work.make_sweep(
        "h",
        grid(0, 1, early_terminate="{type: hyperband, min_iter: 2}", **metric) + "\n  pause: {value: 0.5}",
    )
    work.start("agent under hyperband", *agent, bad)
    outside = work.make_sweep("q", grid(1, 2, scheduler="{engine: wandb}", **metric))
    work.start("its agent", *agent, outside)
    work.start("scheduler", WANDB, "sweep-scheduler", "--poll-interval", "0.5", outside)
    yield work
    for process in work.processes.values():
        if process.poll() is None:
            process.kill()
            process.communicate()


# One process, because importing wandb costs a second; the commands are the ones that `wandb` runs.
COMMANDS = """
import json, pathlib, sys, time
import wandb
from wandb.agents import pyagent
from wandb.cli.cli import cli

pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.3

def sweep(*arguments):
    cli.main(["sweep", *arguments], standalone_mode=False)

def write(values, **more):
    config = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"a": {"values": values}}, **more}
    pathlib.Path("sweep.json").write_text(json.dumps(config))

def last():
    return max(wandb.Api().project("p", "local").sweeps(), key=lambda sweep: sweep._attrs["createdAt"])

for name, a in (("onpoint", 1), ("beside", 9)):
    with wandb.init(project="p", id=name, config={"a": a}) as run:
        run.log({"loss": a})

write([1, 2])
sweep("--project", "p", "-R", "onpoint", "-R", "beside", "sweep.json")
made = last()
path = f"local/p/{made.id}"
sweep("--resume", path)
sweep("--pause", path)
paused = wandb.Api().sweep(path).state
write([1, 2, 3])
sweep("--project", "p", "--update", path, "sweep.json")
sweep("--resume", path)

given = []
def work():
    with wandb.init() as run:
        given.append(run.config["a"])
        run.log({"loss": run.config["a"]})

wandb.agent(path, function=work)
done = wandb.Api().sweep(path)

write([1], progam="x.py")
sweep("--project", "p", "sweep.json")
other = last()
sweep("--stop", f"local/p/{other.id}")
try:
    sweep("--cancel", f"local/p/{other.id}")
    refused = None
except Exception as error:
    refused = str(error)
project = wandb.Api().project("p", "local")
finished = project.sweeps(filters={"state": "finished"})
print(json.dumps({
    "expected": [made.expected_run_count, done.expected_run_count],
    "paused": paused,
    "given": given,
    "state": done.state,
    "runs": sorted(run.id for run in done.runs if run.id in ("onpoint", "beside")),
    "count": len(done.runs),
    "best": done.best_run().id,
    "other": wandb.Api().sweep(f"local/p/{other.id}").state,
    "refused": refused,
    "finished": {s.id for s in finished} == {made.id, other.id},
    "named": [s.id for s in project.sweeps(filters={"name": {"$in": [other.id]}})] == [other.id],
    "none": len(list(project.sweeps(filters={"state": "RUNNING"}))),
    "id": made.id,
}))
"""

PRIOR = """query ($sweep: String!) { project(name: "p", entityName: "local") { sweep(sweepName: $sweep) {
    priorRuns { edges { node { name } } } runs { edges { node { name state } } } } } }"""


@pytest.mark.slow
@pytest.mark.usefixtures("begun")
def test_commands_of_the_client_and_an_agent_within_a_script(server: Server) -> None:
    process = server.spawn(COMMANDS, WANDB_SILENT="false")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    answer = json.loads(out.strip().splitlines()[-1])
    sweep_id = answer.pop("id")
    assert answer == {
        "expected": [2, 3],
        "paused": "PAUSED",
        "given": [2, 3],
        "state": "FINISHED",
        "runs": ["beside", "onpoint"],
        "count": 4,
        "best": "onpoint",
        "other": "FINISHED",
        "refused": "Sweep already finished.",
        "finished": True,
        "named": True,
        "none": 0,
    }
    # The unknown key of the second sweep, in the client's own frame.
    assert "progam is not a key of a sweep's config, and is ignored: did you mean program?" in err
    sweep = server.query(PRIOR, sweep=sweep_id)["project"]["sweep"]
    assert {edge["node"]["name"] for edge in sweep["priorRuns"]["edges"]} == {"onpoint", "beside"}
    assert {edge["node"]["state"] for edge in sweep["runs"]["edges"]} == {"finished"}


@pytest.mark.slow
def test_sweep_scheduler_of_the_client_drives_an_agent(server: Server, begun: Begun) -> None:
    outputs = [begun.wait("scheduler"), begun.wait("its agent")]
    assert "the search space is exhausted" in outputs[0]
    sweep = server.query(RUNS, project="q")["project"]["sweeps"]["edges"][0]["node"]
    runs = [edge["node"] for edge in sweep["runs"]["edges"]]
    assert sweep["state"] == "FINISHED", outputs
    assert [(run["state"], json.loads(run["config"])["a"]["value"]) for run in runs] == [
        ("finished", 1),
        ("finished", 2),
    ]


@pytest.mark.slow
def test_hyperband_stops_the_bad_run_of_a_real_agent_and_not_the_good_one(
    server: Server, begun: Begun
) -> None:
    output = begun.wait("agent under hyperband")
    sweep = server.query(RUNS, project="h")["project"]["sweeps"]["edges"][0]["node"]
    runs = {json.loads(e["node"]["config"])["a"]["value"]: e["node"] for e in sweep["runs"]["edges"]}
    assert sweep["state"] == "FINISHED" and sweep["bestLoss"] == 0
    assert runs[0]["state"] == "finished" and runs[0]["historyLineCount"] == 4
    # It was told by its file stream, and ended by itself: all that it logged is there.
    assert runs[1]["state"] == "killed" and runs[1]["exitcode"] in (1, 255), output
    assert 2 <= runs[1]["historyLineCount"] < 100
