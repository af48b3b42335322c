"""wandb-tl: the list of commands, how they start, and what they load before they have to."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wandb_tl.__main__ as front_door

SCRIPT = Path(sys.executable).with_name("wandb-tl")
# What takes long to import. A command that prints help or refuses its input needs none of it.
HEAVY = {
    *("torch", "torchvision", "timm", "torchmetrics", "safetensors", "wandb", "numpy", "pandas", "scipy"),
    *("matplotlib", "PIL", "requests", "starlette", "uvicorn", "graphql", "jinja2", "sklearn", "cleanlab"),
    *("onnx", "onnxruntime", "onnxscript"),
}


def call(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "100"} | variables
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=240)


def test_it_lists_the_commands_with_a_line_each():
    done = call(SCRIPT)
    assert done.returncode == 0 and done.stderr == ""
    for name in (*front_door.COMMANDS, "local"):
        assert re.search(rf"^  {name} +\w.{{20,}}$", done.stdout, re.MULTILINE)
    assert done.stdout == call(sys.executable, "-m", "wandb_tl", "--help").stdout


@pytest.mark.parametrize("name", [*front_door.COMMANDS, "local"])
def test_it_starts_every_command_as_its_module_does(name: str):
    by_script, by_module = (
        call(SCRIPT, name, "--help"),
        call(sys.executable, "-m", f"wandb_tl.{name}", "--help"),
    )
    assert by_script.returncode == by_module.returncode == 0
    usage = by_script.stdout.replace(f"usage: wandb-tl {name}", f"usage: python -m wandb_tl.{name}")
    # Usage lines are wrapped by the length of the program's name.
    assert usage.split() == by_module.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "error: trian is not a command; did you mean train?; see wandb-tl --help"),
        (["server"], "error: server is not a command; did you mean local?; see wandb-tl --help"),
        (["qqq"], "error: qqq is not a command; see wandb-tl --help"),
        (
            ["train", "--bs", "3"],
            "error: --bs: no such flag (did you mean --batch_size?); see wandb-tl train --help",
        ),
        (["train", "--lr", "0"], "error: lr: got '0', takes a number > 0"),
        (
            ["agent"],
            "error: the following arguments are required: ENTITY/PROJECT/SWEEP; see wandb-tl agent --help",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_type(arguments: list[str], message: str):
    done = call(SCRIPT, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{message}\n")


@pytest.mark.parametrize(
    ("program", "variables", "named"),
    [
        ([str(SCRIPT)], {"PATH": str(SCRIPT.parent)}, "wandb-tl run_sweep"),
        ([str(SCRIPT)], {"PATH": "/usr/bin"}, f"{SCRIPT} run_sweep"),
        ([str(SCRIPT)], {"PATH": str(SCRIPT.parent), "UV_RUN_RECURSION_DEPTH": "1"}, f"{SCRIPT} run_sweep"),
        ([sys.executable, "-m", "wandb_tl"], {}, f"{sys.executable} -m wandb_tl.run_sweep"),
        ([sys.executable, "-m", "wandb_tl.run_sweep"], {}, f"{sys.executable} -m wandb_tl.run_sweep"),
    ],
)
def test_printed_commands_start_as_the_user_started_this_one(program, variables, named, tmp_path: Path):
    arguments = [] if program[-1].endswith("run_sweep") else ["run_sweep"]
    # The tests themselves may have been started by `uv run`.
    inherited = {name: value for name, value in os.environ.items() if name != "UV_RUN_RECURSION_DEPTH"}
    done = subprocess.run(
        [*program, *arguments], env=inherited | variables, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"To run one without an account: {named} laptop --local"


@pytest.mark.parametrize(
    "arguments",
    [
        "wandb_tl",
        "wandb_tl nonsense",
        *(f"wandb_tl.{name} --help" for name in (*front_door.COMMANDS, "local")),
        "wandb_tl.train --lr -1",
        "wandb_tl.train --learning_rate 1",
        "wandb_tl.run_sweep",
        "wandb_tl.run_sweep laptop --agents 0",
        "wandb_tl.run_sweep laptop --set lr=-1",
        "wandb_tl.export_table --reports",
        "wandb_tl.report me/p --title=",
        "wandb_tl.agent",
        "wandb_tl.inspect_data",
        "wandb_tl.inspect_data pictures --sheet sheet.jpg",
        "wandb_tl.inspect_data me/project/run --val_fraction 0.1",
        "wandb_tl.rank",
        "wandb_tl.rank resnet18 --set lr=0.1",
        "wandb_tl.rank resnet18 --set image_size=0",
        "wandb_tl.soup",
        "wandb_tl.soup me/project",
        "wandb_tl.predict",
        "wandb_tl.predict me/project/run nowhere.jpg",
        "wandb_tl.predict run .",
        "wandb_tl.predict me/project/run . --top_k 0",
        "wandb_tl.predict me/project/run - -",
        "wandb_tl.predict me/project/run --out folder .",
        "wandb_tl.predict tests/nothing.onnx --export onnx",
        "wandb_tl.predict me/project/run --link_model a:b",
        "wandb_tl.local serve --help",
        "wandb_tl.local serve --prot 1",
    ],
)
def test_help_and_mistakes_load_nothing_heavy(arguments: str):
    done = call(sys.executable, "-X", "importtime", "-m", *arguments.split())
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert done.returncode in (0, 2) and "argparse" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("wandb-tl ru", "run_sweep"),
        ("wandb-tl train --wei", "--weight_decay"),
        ("wandb-tl local pu", "push"),
    ],
)
def test_a_shell_completes_commands_and_flags(line: str, word: str, tmp_path: Path):
    variables = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "words"),
        "_ARGCOMPLETE_IFS": "\n",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    done = call(SCRIPT, **variables)
    assert done.returncode == 0, done.stderr
    assert word in (tmp_path / "words").read_text().split()
