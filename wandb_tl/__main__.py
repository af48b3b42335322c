"""wandb-tl, or python -m wandb_tl: lists the commands and starts them."""

from __future__ import annotations

import argparse
import importlib
import os
import runpy
import sys
from typing import NoReturn

import wandb_tl
from wandb_tl.command_line import PROG, Command
from wandb_tl.errors import ExitCode, nearest

# In the order in which a user needs them: look at the data, choose models, run a sweep, look at its results,
# use its best model, run parts of it by hand.
COMMANDS = (
    *("inspect_data", "rank", "run_sweep", "export_table", "report", "soup", "predict"),
    *("train", "agent"),
)
# The embedded server is independent of the other commands, and is reached through its command line only.
LOCAL = "local"
LOCAL_COMMANDS = ("serve", "open", "env", "answer", "push", "pull", "check", "backup", "restore")
LOCAL_SUMMARY = f"the embedded W&B-compatible server: {', '.join(LOCAL_COMMANDS)}"
# Other names of the commands. Error messages suggest the command.
SYNONYMS = {
    "sweep": "run_sweep",
    "run": "run_sweep",
    "fit": "train",
    "table": "export_table",
    "export": "export_table",
    "results": "export_table",
    "inspect": "inspect_data",
    "models": "rank",
    "ranking": "rank",
    "average": "soup",
    "classify": "predict",
    "infer": "predict",
    "inference": "predict",
    "server": LOCAL,
    "serve": LOCAL,
}


def command(name: str) -> Command:
    """The command that a module of this package defines."""
    definition: Command = importlib.import_module(f"wandb_tl.{name}").COMMAND
    return definition


def overview() -> str:
    """The help text: one line per command."""
    lines = [f"  {name:13} {command(name).summary}" for name in COMMANDS]
    return "\n".join(
        [
            f"usage: {PROG} COMMAND [ARGUMENTS]",
            "",
            "Transfer-learning sweeps for Weights & Biases: which recipe wins on your pictures?",
            "",
            *lines,
            f"  {LOCAL:13} {LOCAL_SUMMARY}",
            "",
            f"{PROG} COMMAND --help describes a command. python -m wandb_tl.COMMAND starts the same command.",
            f"To start without an account: {PROG} run_sweep laptop --local",
        ]
    )


def complete() -> None:
    """Print completions and exit if a shell asks for them through argcomplete."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    import argcomplete

    parser = argparse.ArgumentParser(PROG)
    commands = parser.add_subparsers()
    for name in COMMANDS:
        command(name).add_arguments(commands.add_parser(name, help=command(name).summary))
    commands.add_parser(LOCAL, help=LOCAL_SUMMARY).add_argument("command", choices=LOCAL_COMMANDS)
    argcomplete.autocomplete(parser)


def main() -> NoReturn:
    """Start the command that the arguments name, or list the commands."""
    complete()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        command(name).start(arguments, f"{PROG} {name}")
    if name == LOCAL:
        sys.argv[1:] = arguments
        runpy.run_module("wandb_tl.local", run_name="__main__", alter_sys=True)
        sys.exit(ExitCode.OK)
    if name in ("-h", "--help"):
        print(overview())
        sys.exit(ExitCode.OK)
    if name == "--version":
        print(f"{PROG} {wandb_tl.__version__}")
        sys.exit(ExitCode.OK)
    similar = nearest(name, [*COMMANDS, LOCAL], SYNONYMS)
    hint = f"; did you mean {similar}?" if similar else ""
    print(f"error: {name} is not a command{hint}; see {PROG} --help", file=sys.stderr)
    sys.exit(ExitCode.BAD_INPUT)


if __name__ == "__main__":
    main()
