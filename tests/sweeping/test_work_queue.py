"""Sweeps that are created on a real server."""

import json

import pytest
from live_server import Server

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
