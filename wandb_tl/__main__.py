"""wandb-tl, python -m wandb_tl: lists the commands and starts them."""

from __future__ import annotations

import argparse
import importlib
import os
import runpy
import sys
from typing import NoReturn

import wandb_tl
from wandb_tl.command_line import Command, ExitCode
from wandb_tl.errors import nearest

PROG = "wandb-tl"
# In the order of a user's way: run a sweep, look at it, do parts of it by hand.
COMMANDS = ("run_sweep", "export_table", "report", "train", "agent")
# The embedded server is a package of its own, reached through its command line only.
LOCAL = "local"
LOCAL_SUMMARY = "the embedded W&B-compatible server: serve, open, env, push"
LOCAL_COMMANDS = ("serve", "open", "env", "push")
# What people type for a command.
SYNONYMS = {
    "sweep": "run_sweep",
    "run": "run_sweep",
    "fit": "train",
    "table": "export_table",
    "export": "export_table",
    "results": "export_table",
    "server": LOCAL,
    "serve": LOCAL,
}


def command(name: str) -> Command:
    """The command of this name, from its module."""
    return importlib.import_module(f"wandb_tl.{name}").COMMAND


def overview() -> str:
    """The help of the front door: the commands with one line each."""
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
            f"{PROG} COMMAND --help describes a command. {PROG} COMMAND is python -m wandb_tl.COMMAND.",
            f"To begin without an account: {PROG} run_sweep laptop --local",
        ]
    )


def complete() -> None:
    """Answer a shell that asks how a command line goes on, and end the process; nothing otherwise."""
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
    """Start the command that the process's arguments name, or list the commands."""
    complete()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        command(name).start(arguments, f"{PROG} {name}")
    if name == LOCAL:
        sys.argv[1:] = arguments
        runpy.run_module("wandb_tl.local", run_name="__main__", alter_sys=True)
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
