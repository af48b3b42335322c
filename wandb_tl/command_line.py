"""What all commands share: a description, a parser, and how they start and end."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from wandb_tl import loading, signals, temporary_folder
from wandb_tl.errors import ExitCode, FailedError, InputError, UsageError, nearest, printable

# The console script that starts the commands.
PROG = "wandb-tl"
# How long W&B's own process has to end. A run that has ended by itself has sent everything before.
WANDB_END_SECONDS = 10


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError.

    synonyms: other names of flags, without dashes, such as {"learning_rate": "lr"}; it suggests the flag.
    settings: the names that a flag --set takes as NAME=VALUE; it suggests this flag for them.
    """

    def __init__(
        self,
        *args: Any,
        synonyms: Mapping[str, str] | None = None,
        settings: Collection[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.synonyms = synonyms or {}
        self.settings = settings

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        # parse_known_args takes no positional arguments after a flag, if they may be left out.
        may_be_absent = any(action.nargs == "*" and not action.option_strings for action in self._actions)
        parse = self.parse_known_intermixed_args if may_be_absent else self.parse_known_args
        options, unknown = parse(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0], getattr(options, "set", None) or []))
        return options

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def _unknown(self, argument: str, set_values: Sequence[str]) -> str:
        """Why an argument is refused. set_values: those of the flag --set."""
        if not argument.startswith("-"):
            bare = [name for name in set_values if name in self.settings]
            hint = f" (did you mean --set {bare[-1]}={argument}?)" if bare else ""
            return f"{argument}: unexpected argument{hint}"
        argument = argument.split("=")[0]
        if (setting := argument.lstrip("-")) in self.settings:
            return f"{argument}: no such flag (did you mean --set {setting}=VALUE?)"
        flags = [flag[2:] for action in self._actions for flag in action.option_strings if flag[:2] == "--"]
        name = nearest(argument.lstrip("-"), flags, self.synonyms)
        return f"{argument}: no such flag" + (f" (did you mean --{name}?)" if name else "")


@dataclass(frozen=True)
class Command:
    """A command of the package.

    summary: its line in the list of commands.
    add_arguments: adds its arguments to a parser.
    run: does the work of the parsed options, returns an exit code. UsageError or InputError for bad input.
    ends_on: names of signals that raise SystemExit in it, so that it can stop the processes it has started.
    dies_of_sigint: after Ctrl-C it ends by the signal itself instead of an exit code.
    synonyms, settings: see Parser.
    """

    name: str
    summary: str
    description: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    ends_on: tuple[str, ...] = ()
    dies_of_sigint: bool = False
    synonyms: Mapping[str, str] = field(default_factory=dict)
    settings: Collection[str] = ()

    def parser(self, prog: str | None = None) -> Parser:
        """The command's parser. prog: its name in messages, python -m wandb_tl.NAME by default."""
        parser = Parser(
            prog=prog or f"python -m wandb_tl.{self.name}",
            description=self.description,
            epilog=self.epilog,
            allow_abbrev=False,
            synonyms=self.synonyms,
            settings=self.settings,
        )
        self.add_arguments(parser)
        return parser

    def main(self, arguments: list[str] | None = None, prog: str | None = None) -> int:
        """Parse the arguments (by default the process's), run, and return the exit code.

        InputError becomes one line on stderr, UsageError one with a pointer to --help.
        """
        parser = self.parser(prog)
        try:
            return self.run(parser.parse_args(arguments))
        except UsageError as error:
            print(f"error: {printable(str(error))}; see {parser.prog} --help", file=sys.stderr)
            return ExitCode.BAD_INPUT
        except InputError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            return ExitCode.BAD_INPUT
        except FailedError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            return ExitCode.FAILED
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED

    def start(self, arguments: list[str] | None = None, prog: str | None = None) -> NoReturn:
        """Run as the main program of this process, and exit."""
        signals.raise_on_interrupt()
        signals.end_on(self.ends_on)
        remove_files: Callable[[], None] | None = None
        try:
            remove_files = temporary_folder.use_own()
            with _wandb_ended():
                code = self.main(arguments, prog)
        except InputError as error:
            print(f"error: {printable(str(error))}", file=sys.stderr)
            code = ExitCode.BAD_INPUT
        except KeyboardInterrupt:
            code = ExitCode.INTERRUPTED
        if code == ExitCode.INTERRUPTED and self.dies_of_sigint:
            if remove_files:
                remove_files()
            signals.die_of_sigint()
        loading.exit_at_once(code)


def shell_command(module: str, *arguments: str) -> str:
    """A command line for the current folder that runs a command of this package, such as wandb_tl.train.

    It starts with wandb-tl if this process did, else with Python; without an active environment, by its path.
    """
    script = Path(sys.argv[0])
    if script.stem != PROG:
        return shlex.join([_from_here(Path(sys.executable)), "-m", module, *arguments])
    # `uv run` finds the script by a PATH that ends with it.
    on_path = "UV_RUN_RECURSION_DEPTH" not in os.environ and shutil.which(PROG)
    is_active = on_path and Path(on_path).resolve() == script.resolve()
    name = PROG if is_active else _from_here(script)
    return shlex.join([name, module.removeprefix("wandb_tl."), *arguments])


def add_local_flags(parser: argparse.ArgumentParser, what_for: str) -> None:
    """Add --local and --root, which let a command use the embedded server. what_for: such as "log to"."""
    server = "the embedded server of this machine, which is started if it is not running"
    parser.add_argument("--local", action="store_true", help=f"{what_for} {server}")
    parser.add_argument("--root", help="folder of the embedded server, as in run_sweep")


def local_flags(options: argparse.Namespace) -> list[str]:
    """The flags of another command that uses the same server as the command with these options."""
    root = ["--root", options.root] if options.root else []
    return ["--local", *root] if options.local else []


@contextmanager
def _wandb_ended() -> Iterator[None]:
    """After the block, end W&B's own process, if there is one.

    wandb would do so when this process exits, with a traceback if its process has died, and would wait
    without a limit for a server that is away. A signal ends this process meanwhile.
    """
    try:
        yield
    finally:
        # Only what uses W&B has loaded it, which takes a second.
        if "wandb" in sys.modules:
            from wandb_tl import wandb_process

            with signals.fatal(), signals.at_most(WANDB_END_SECONDS):
                wandb_process.forget()


def _from_here(program: Path) -> str:
    """The path of a program; relative if it lies in the current folder."""
    here = Path.cwd()
    return str(program.relative_to(here) if program.is_relative_to(here) else program)
