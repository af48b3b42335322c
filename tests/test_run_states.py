"""The states of a run have one home outside the embedded server."""

import ast

import pytest
from test_structure import COMMANDS, FILES, SPEAKS_TO_WANDB, module_name

from wandb_tl.run_states import ENDED, RunState

# Who reads the state of a run.
READERS = [file for file in FILES if module_name(file) in SPEAKS_TO_WANDB | COMMANDS]


@pytest.mark.parametrize("file", READERS, ids=module_name)
def test_no_other_module_spells_a_state(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert not strings & set(RunState)


def test_states_are_the_strings_that_the_client_reports():
    assert "finished" in ENDED and "crashed" in ENDED
    assert "running" not in ENDED and "preempted" not in ENDED
