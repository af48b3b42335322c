"""Sweeps that are created on a real server."""

import json

import pytest
import requests
from hostile_server import HostileServer, Reply, hostile_server
from live_server import Server

from wandb_tl.errors import InputError
from wandb_tl.sweeping.work_queue import MOST_BYTES, AgentCommand, WorkQueue

CREATE = """
import json, os, sys
import wandb
from wandb_tl.errors import InputError
from wandb_tl.sweeping.work_queue import create_sweep

names = ("WANDB_ENTITY", "WANDB_PROJECT")
before = [os.environ.get(name) for name in names]
try:
    path = create_sweep(json.loads(sys.argv[1]))
except InputError as error:
    path = f"refused: {error}"
print(json.dumps({"path": path, "same": [os.environ.get(name) for name in names] == before}))
"""
GRID = {"method": "grid", "parameters": {"seed": {"values": [0, 1]}}}


def create(server: Server, definition: dict, **variables: str) -> str:
    result = server.run(CREATE, json.dumps(definition), **variables)
    assert result["same"], "a later sweep of the process would inherit its entity and project"
    return result["path"]


@pytest.mark.parametrize(
    ("definition", "variables", "place"),
    [
        ({}, {}, "local/wandb_tl"),
        ({"entity": "me", "project": "pictures"}, {}, "me/pictures"),
        ({"entity": "me", "project": "pictures"}, {"WANDB_PROJECT": "other"}, "me/other"),
        ({"project": "pictures"}, {"WANDB_ENTITY": "team"}, "team/pictures"),
    ],
)
def test_the_path_names_where_the_sweep_is(server: Server, definition, variables, place):
    path = create(server, GRID | definition, **variables)
    assert path.rpartition("/")[0] == place
    entity, project, name = path.split("/")
    document = """query($e: String!, $p: String!, $s: String!) {
        project(entityName: $e, name: $p) { sweep(sweepName: $s) { name } }
    }"""
    assert server.query(document, e=entity, p=project, s=name)["project"]["sweep"]["name"] == name


def test_a_definition_that_the_server_refuses_is_one_line(server: Server):
    message = create(server, GRID | {"method": "banana"})
    assert message.startswith("refused: the sweep cannot be created: ") and "banana" in message
    assert "\n" not in message


AGAIN = """
import json, os, sys, wandb
from wandb_tl.sweeping.work_queue import WorkQueue, create_sweep, resume_sweep

path = create_sweep(json.loads(sys.argv[1]))
kinds, seeds = [], []
def ask():
    [command] = WorkQueue(path).ask()
    kinds.append(command.kind)
    if command.kind == "run":
        seeds.append(command.arguments["seed"]["value"])
    return command

resume_sweep(path)
command = ask()
entity, project, sweep = path.split("/")
os.environ |= {"WANDB_ENTITY": entity, "WANDB_PROJECT": project, "WANDB_SWEEP_ID": sweep}
os.environ["WANDB_RUN_ID"] = command.run_id
with wandb.init() as run:
    pass
wandb.teardown()
for name in ("WANDB_ENTITY", "WANDB_PROJECT", "WANDB_SWEEP_ID", "WANDB_RUN_ID"):
    del os.environ[name]
ask()
resume_sweep(path)
ask()
wandb.Api().run(f"{entity}/{project}/{command.run_id}").delete()
ask()
resume_sweep(path)
ask()
print(json.dumps([kinds, seeds]))
"""


def test_a_sweep_that_is_resumed_hands_out_the_point_of_a_deleted_run_again(server: Server):
    one_point = {"method": "grid", "parameters": {"seed": {"values": [7]}}}
    kinds, seeds = server.run(AGAIN, json.dumps(one_point))
    # Nothing is left, until the run is deleted and the sweep resumed.
    assert kinds == ["run", "exit", "exit", "exit", "run"] and seeds == [7, 7]


def test_a_sweep_that_is_not_there_cannot_be_resumed(server: Server):
    script = """
    import json
    from wandb_tl.errors import InputError
    from wandb_tl.sweeping.work_queue import resume_sweep
    try:
        resume_sweep("local/wandb_tl/nosweep1")
    except InputError as error:
        print(json.dumps(str(error)))
    """
    assert server.run(script) == "local/wandb_tl/nosweep1: there is no such sweep on the server"


def queue_at(hostile: HostileServer) -> WorkQueue:
    """A queue at work, whose server has been taken over."""
    queue = object.__new__(WorkQueue)
    queue._path, queue._url, queue._agent = "e/p/s", f"{hostile.url}/graphql", "agent"
    queue._session = requests.Session()
    queue._session.auth = ("api", "key")
    return queue


def test_the_agent_follows_no_redirect(tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine localhost login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with hostile_server() as hostile, hostile_server() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        hostile.answer = lambda *_: Reply(status=307, headers={"Location": elsewhere})
        with pytest.raises(InputError, match="redirects elsewhere"):
            queue_at(hostile).ask()
        assert not other.asked


@pytest.mark.parametrize(
    "command",
    [
        1,
        {"type": "run"},
        {"type": "run", "run_id": ""},
        *(
            {"type": "run", "run_id": name}
            for name in ("../x", "/x", "..", "a/b", "a\0", "a\x1b", "a" * 200, 1, ["a"])
        ),
        {"type": "run", "run_id": "a", "args": [1]},
        {"type": "run", "run_id": "a", "args": {"lr": 1}},
    ],
)
def test_odd_commands_are_refused(command):
    with pytest.raises(ValueError):
        AgentCommand.of(command)
    with hostile_server() as hostile:
        hostile.data({"agentHeartbeat": {"commands": json.dumps([command])}})
        with pytest.raises(InputError, match="answers as no W&B server does") as error:
            queue_at(hostile).ask()
        assert str(error.value).isprintable()


def test_a_command_may_lack_a_run_and_its_hyperparameters():
    empty = {"type": "exit", "run_id": None, "args": None}
    assert AgentCommand.of(empty) == AgentCommand.of({"type": "exit"}) == AgentCommand("exit", "", {})


def test_odd_answers_are_refused_or_asked_again():
    with hostile_server() as hostile:
        queue = queue_at(hostile)
        for data in (None, [], {}, {"agentHeartbeat": {"commands": "[" * 100_000}}):
            hostile.data(data)
            with pytest.raises(InputError, match="answers as no W&B server does"):
                queue.ask()
        for content in (b"<html>", b"[", b"[1]", b"[" * 100_000, {"errors": 1}):
            hostile.answer = lambda *_, content=content: Reply(content)
            with pytest.raises(requests.RequestException):
                queue._request("query", {})
        hostile.answer = lambda *_: Reply(b" " * (MOST_BYTES + 1))
        with pytest.raises(InputError, match="more than"):
            queue.ask()
