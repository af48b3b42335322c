"""Help and usage errors of python -m wandb_tl.local: short, and without heavy imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"graphql", "jinja2", "numpy", "requests", "starlette", "torch", "uvicorn", "wandb", "yaml"}
SCRIPT = """
import sys
from wandb_tl.local.__main__ import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def run(*arguments: str) -> tuple[int, str, list[str], set[str]]:
    """Exit code, stdout, the lines of stderr, and the names of the imported packages."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    *errors, modules = result.stderr.splitlines()
    return result.returncode, result.stdout, errors, {name.split(".")[0] for name in modules.split()}


@pytest.mark.parametrize("command", ["", "serve", "check", "backup", "push"])
def test_help_imports_nothing_heavy(command: str) -> None:
    code, output, errors, packages = run(*command.split(), "--help")
    assert code == 0 and errors == [] and output.startswith("usage: python -m wandb_tl.local")
    assert "wandb_tl" in packages and packages & HEAVY == set()


@pytest.mark.parametrize(
    ("arguments", "pointer"),
    [
        ([], "see python -m wandb_tl.local --help"),
        (["serv"], "see python -m wandb_tl.local --help"),
        (["serve", "--port", "many"], "see python -m wandb_tl.local serve --help"),
        (["push", "a/b/c"], "see python -m wandb_tl.local push --help"),
    ],
)
def test_a_usage_error_is_one_line_with_a_pointer_to_help(arguments: list[str], pointer: str) -> None:
    code, output, errors, packages = run(*arguments)
    assert (code, output, len(errors)) == (2, "", 1)
    assert errors[0].startswith("error: ") and errors[0].endswith(pointer)
    assert packages & HEAVY == set()


def test_env_imports_nothing_heavy(tmp_path: Path) -> None:
    code, output, errors, packages = run("env", "--port", "9", "--root", str(tmp_path / "root"))
    assert code == 0 and errors == [] and "export WANDB_BASE_URL=http://127.0.0.1:9" in output
    assert packages & HEAVY == set()
