"""python -m wandb_tl.run_sweep: a whole sweep in one command - server, sweep, agents, report."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_tl.command_line import Command, ExitCode
from wandb_tl.errors import InputError
from wandb_tl.sweeping import agent_processes, embedded_server, sweep_files
from wandb_tl.sweeping.agent_processes import AgentProcess

if TYPE_CHECKING:
    from wandb_tl.analysis.results import Results
    from wandb_tl.sweeping.sweep_files import Definition

LOGS = Path("wandb")
POLL_SECONDS = 3
ENDED = ("finished", "failed", "crashed", "killed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep",
        nargs="?",
        metavar="SWEEP",
        help="a preset, a sweep YAML file, or ENTITY/PROJECT/SWEEP to resume one; without it, presets are "
        "listed",
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="use the embedded W&B-compatible server on this machine, started unless it runs already: no "
        "account, no network",
    )
    parser.add_argument(
        "--root", help="folder where the embedded server keeps the runs (default: see wandb_tl.local --help)"
    )
    parser.add_argument(
        "--agents", type=int, help="how many to run at a time (default: one per GPU, or two on a CPU)"
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="all runs of an agent in one process, which keeps images, activations and the GPU's state",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE…]",
        help="fix a hyperparameter of the sweep, or give the values it takes; may be repeated",
    )
    parser.add_argument(
        "--reports", type=Path, metavar="DIR", help="write a report there: README.md, CSV, LaTeX, figures"
    )
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help="write the table between the markers in this file"
    )


def run(options: argparse.Namespace) -> int:
    """Run a sweep, or list the presets. FAILED if not every run finished."""
    if options.sweep is None:
        print(f"The presets of run_sweep:\n\n{sweep_files.list_presets()}\n")
        print("Run one without an account: python -m wandb_tl.run_sweep laptop --local")
        return ExitCode.OK
    check(options)
    resumed = sweep_files.is_path(options.sweep)
    definition = None if resumed else sweep_files.load(options.sweep, options.set)
    make_log_folder()
    with contextlib.ExitStack() as stack:
        if options.local:
            os.environ.update(stack.enter_context(embedded_server.serving(options.root, LOGS)))
        # The agents' `python` must be the one that runs this, whether or not its environment is active.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return sweep(definition, options)


def check(options: argparse.Namespace) -> None:
    """InputError for options that cannot be used, before anything is started."""
    if options.agents is not None and options.agents < 1:
        raise InputError(f"--agents: got {options.agents}, takes a whole number >= 1")
    if options.set and sweep_files.is_path(options.sweep):
        raise InputError(f"--set: {options.sweep} exists, and its hyperparameters are fixed")


def make_log_folder() -> None:
    """Where wandb and this command write, below the current folder. InputError if that cannot be."""
    try:
        LOGS.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {Path.cwd()}: {error.strerror}") from error


def sweep(definition: Definition | None, options: argparse.Namespace) -> int:
    """Create the sweep unless it exists, run its agents to the end, print the table."""
    # wandb reads its environment when it is imported, and the embedded server's is known only now.
    from wandb_tl.analysis.results import Results
    from wandb_tl.export_table import check_targets, export
    from wandb_tl.sweeping.work_queue import create_sweep

    check_targets(options.reports, options.readme)
    began = time.monotonic()
    path = create_sweep(definition) if definition else options.sweep
    results = Results(path)
    total = results.expected_runs()
    # Before there are agents: after that, every failure has to stop them.
    page = embedded_server.page_link(path, options.root) if options.local else None
    agents = agent_processes.start(path, options.agents, options.in_process, LOGS)
    logs = ", ".join(str(agent.log) for agent in agents)
    print(f"Sweep {path}; its agents write to {logs}")
    if page:
        print(f"Follow it at {page}", flush=True)
    with stopped_on_failure(agents, path, options):
        states = watch(agents, results, total)
    finished = sum(state == "finished" for state, _ in states.values())
    stopped = sum(state == "killed" for state, _ in states.values()) if results.ends_early() else 0
    early = f", {stopped} stopped early" if stopped else ""
    print(f"{finished} runs finished{early}, after {time.monotonic() - began:,.0f} s\n")
    missing = max(total or 0, len(states)) - finished - stopped
    if finished:
        export(results, options.reports, options.readme)
    if options.local:
        again = embedded_server.as_typed("wandb_tl.local", *embedded_server.to_open(path, options.root))
        print(f"\nThe runs are kept; to look at them: {again}")
    if missing:
        runs = "1 run" if missing == 1 else f"{missing} runs"
        print(f"error: {runs} did not finish; see {logs}", file=sys.stderr)
    return ExitCode.FAILED if missing else ExitCode.OK


@contextlib.contextmanager
def stopped_on_failure(agents: list[AgentProcess], path: str, options: argparse.Namespace) -> Iterator[None]:
    """Stop the agents if the block fails or is interrupted, and print the command that resumes the sweep."""
    try:
        yield
    except BaseException:
        # A closed terminal may send several signals: they must not interrupt the stopping.
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        agent_processes.stop(agents)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        print(
            f"\nThe sweep keeps its runs. To resume it: {command_to_resume(path, options)}", file=sys.stderr
        )
        raise


def command_to_resume(path: str, options: argparse.Namespace) -> str:
    """The command that resumes an interrupted sweep as it was started."""
    flags = [flag for flag in ("--local", "--in-process") if getattr(options, flag[2:].replace("-", "_"))]
    for name in ("root", "agents", "reports", "readme"):
        if (value := getattr(options, name)) is not None:
            flags += [f"--{name}", str(value)]
    return embedded_server.as_typed("wandb_tl.run_sweep", path, *flags)


def watch(agents: list[AgentProcess], results: Results, total: int | None) -> dict[str, tuple[str, str]]:
    """Wait for the agents to end. Print which run has ended, and why one failed.

    Returns state and name of every run, by id.
    """
    from tqdm import tqdm

    printed: set[tuple[str, str]] = set()
    reasons: set[str] = set()
    states: dict[str, tuple[str, str]] = {}
    with tqdm(total=total, unit="run", disable=None) as progress:
        while True:
            working = any(agent.working for agent in agents)
            try:
                states = results.states()
            except InputError:
                # The agents wait for a server that is away for a while, and so does this.
                if not working:
                    raise
            for run_id, (state, name) in states.items():
                if state in ENDED and (run_id, state) not in printed:
                    printed.add((run_id, state))
                    tqdm.write(f"{state}: {name}")
            for reason in dict.fromkeys(reason for agent in agents for reason in agent.failures()):
                if reason not in reasons:
                    reasons.add(reason)
                    tqdm.write(f"error: {reason}", file=sys.stderr)
            # A run that crashed may be handed out again: it counts as long as it has ended.
            progress.update(sum(state in ENDED for state, _ in states.values()) - progress.n)
            if not working:
                return states
            time.sleep(POLL_SECONDS)


COMMAND = Command(
    name="run_sweep",
    summary="run a whole sweep on this machine: server, agents, report",
    description="Create a W&B sweep, run its agents on this machine, and print the table of its results.",
    epilog="Example: laptop --local --set seed=0,1,2 --reports reports. Agents write logs to ./wandb. "
    "If interrupted by Ctrl-C, it prints the command that resumes the sweep.",
    add_arguments=add_arguments,
    run=run,
    ends_on=("SIGTERM", "SIGHUP"),
)

if __name__ == "__main__":
    COMMAND.start()
