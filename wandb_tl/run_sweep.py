"""python -m wandb_tl.run_sweep: a whole sweep in one command: server, sweep, agents, report."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_tl import loading, signals, sweep_checks
from wandb_tl.command_line import Command, local_flags, shell_command
from wandb_tl.errors import ExitCode, InputError, UsageError
from wandb_tl.export_table import add_target_arguments
from wandb_tl.sweeping import (
    agent_processes,
    embedded_server,
    job_files,
    scheduler_process,
    slurm,
    sweep_definitions,
)
from wandb_tl.sweeping.agent_processes import AgentProcess
from wandb_tl.sweeping.scheduler_process import SchedulerProcess
from wandb_tl.sweeping.slurm import AgentArray

if TYPE_CHECKING:
    from wandb_tl.sweeping.sweep_definitions import Definition

Agents = list[AgentProcess] | list[AgentArray]

LOGS = Path("wandb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweep",
        nargs="?",
        metavar="SWEEP",
        help="a preset, a sweep YAML file, or ENTITY/PROJECT/SWEEP to resume a sweep; without it, the "
        "presets are listed",
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="use the embedded W&B-compatible server on this machine, which needs no account and no network; "
        "it is started if it is not running",
    )
    parser.add_argument(
        "--root",
        help="folder in which the embedded server keeps the runs (default: see wandb_tl.local --help)",
    )
    parser.add_argument(
        "--agents", type=int, help="number of runs at a time (default: one per GPU, or two on a CPU)"
    )
    parser.add_argument(
        "--slurm",
        metavar="KEY=VALUE[,KEY=VALUE…]",
        help="submit the agents as an array of --agents jobs to SLURM (default: two); the keys are options "
        "of sbatch, such as partition=gpu,time=120,gres=gpu:1",
    )
    parser.add_argument(
        "--print-job",
        metavar="{kubernetes,skypilot}[,KEY=VALUE…]",
        help="create the sweep, print the job file of --agents agents (default: two) for Kubernetes or "
        "SkyPilot, and end; the keys of kubernetes are image (required), gpus, cpus, memory, secret and "
        "claim, those of skypilot image, accelerators, cpus and memory",
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="do all runs of an agent in one process, which keeps images, activations and the GPU's state",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE…]",
        help="fix a hyperparameter of the sweep, or list the values that the sweep tries; may be repeated",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run a sweep, or list the presets. FAILED if a run did not finish."""
    if options.sweep is None:
        print(f"Presets of run_sweep:\n\n{sweep_definitions.list_presets()}\n")
        print(f"To run one without an account: {shell_command('wandb_tl.run_sweep', 'laptop', '--local')}")
        return ExitCode.OK
    check(options)
    resumed = sweep_definitions.is_path(options.sweep)
    definition = None if resumed else sweep_definitions.load(options.sweep, options.set)
    if definition:
        sweep_checks.check_metric(definition, has_pictures=not options.print_job)
        sweep_checks.print_equal_points(definition)
    # The job files of --print-job are for other machines, and so is their scheduler.
    if definition and scheduler_process.has_one(definition) and not options.print_job:
        scheduler_process.check(definition["scheduler"])
    make_log_folder()
    # Jobs of Kubernetes and SkyPilot have pictures of their own.
    if definition and not options.print_job:
        sweep_checks.check_pictures(definition, artifacts=False)
    with contextlib.ExitStack() as stack:
        if options.local and (options.slurm or options.print_job):
            os.environ.update(embedded_server.served_to_nodes(options.root))
        elif options.local:
            os.environ.update(stack.enter_context(embedded_server.serving(options.root, LOGS)))
        # A sweep's command starts `python`: it must be this one, even if its environment is not active.
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return print_job(definition, options) if options.print_job else sweep(definition, options)


def check(options: argparse.Namespace) -> None:
    """UsageError for options that cannot be used, before anything is started."""
    if options.agents is not None and options.agents < 1:
        raise UsageError(f"--agents: got {options.agents}, takes an integer >= 1")
    if options.set and sweep_definitions.is_path(options.sweep):
        raise UsageError(f"--set: {options.sweep} exists, and its hyperparameters are fixed")
    if options.slurm is not None:
        slurm.check(slurm.parse(options.slurm))
    if options.print_job is not None:
        job_files.parse(options.print_job)
        for flag in ("slurm", "reports", "readme"):
            if getattr(options, flag) is not None:
                raise UsageError(f"--{flag}: --print-job runs nothing here; leave out one of the two")


def make_log_folder() -> None:
    """Create the folder for logs, and wandb's files, in the current folder. InputError if that fails."""
    try:
        LOGS.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {Path.cwd()}: {error.strerror}") from error


def sweep(definition: Definition | None, options: argparse.Namespace) -> int:
    """Create the sweep unless it exists, run its agents until they end, and print the table."""
    # wandb reads its environment when it is imported, which has to be after the server has started.
    with loading.libraries():
        from wandb_tl.analysis.results import Results
        from wandb_tl.export_table import check_targets, export, last_lines
        from wandb_tl.sweeping.watching import print_unfinished, watch
        from wandb_tl.sweeping.work_queue import create_sweep, resume_sweep

    check_targets(options.reports, options.readme)
    if definition:
        sweep_checks.check_pictures(definition, artifacts=True)
    start = time.monotonic()
    path = create_sweep(definition) if definition else options.sweep
    if not definition:
        resume_sweep(path)
    results = Results(path)
    total = results.expected_runs()
    is_scheduled = scheduler_process.has_one(results.definition())
    if is_scheduled:
        scheduler_process.check(results.definition()["scheduler"])
    # Before the agents start: from then on, a failure has to stop them.
    page = embedded_server.page_link(path, options.root) if options.local else results.url
    agents = start_agents(path, options)
    logs = ", ".join(str(agent.log) for agent in agents)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopped_on_failure(agents, path, options))
        scheduler = stack.enter_context(started_scheduler(path, agents, options)) if is_scheduled else None
        also = f", its scheduler to {scheduler.log}" if scheduler else ""
        print(f"Sweep {path}; its agents write to {logs}{also}\nFollow it at {page}", flush=True)
        statuses = watch(agents, scheduler, results, total)
    finished = sum(status.finished for status in statuses.values())
    stopped = sum(status.stopped for status in statuses.values()) if results.ends_early() else 0
    early = f", {stopped} stopped early" if stopped else ""
    runs = "run" if finished == 1 else "runs"
    print(f"{finished} {runs} finished{early}, after {time.monotonic() - start:,.0f} s\n")
    print(f"{how_to_look(path, page, options)}\n")
    if finished:
        answer = export(results, options.reports, options.readme)
        print("", *last_lines(answer), sep="\n")
    # Runs that a scheduler has queued and no agent has claimed end with the sweep. It may end before run_cap.
    begun = {run_id: one for run_id, one in statuses.items() if not (is_scheduled and one.pending)}
    unfinished = {
        run_id: one
        for run_id, one in begun.items()
        if not one.finished and not (results.ends_early() and one.stopped)
    }
    missing = len(unfinished) if is_scheduled else max(total or 0, len(begun)) - finished - stopped
    is_cut = scheduler is not None and scheduler.was_cut
    if missing or is_cut:
        print_unfinished(missing, unfinished, agents)
        print(f"To resume the sweep: {command_to_resume(path, options)}", file=sys.stderr)
        runs = "1 run" if missing == 1 else f"{missing} runs"
        what = f"{runs} did not finish" if missing else "the agents ended before the scheduler"
        print(f"error: {what}; see {logs}", file=sys.stderr)
    return ExitCode.FAILED if missing or is_cut else ExitCode.OK


def start_agents(path: str, options: argparse.Namespace) -> Agents:
    """Start the agents of a sweep on this machine, or as jobs of SLURM."""
    if options.slurm is None:
        return agent_processes.start(path, options.agents, options.in_process, LOGS)
    return slurm.start(path, options.agents, options.in_process, LOGS, slurm.parse(options.slurm))


@contextlib.contextmanager
def started_scheduler(path: str, agents: Agents, options: argparse.Namespace) -> Iterator[SchedulerProcess]:
    """Start the scheduler of a sweep; after the block, end it: what it has queued stays in the sweep."""
    # An array of SLURM has several agents.
    count = len(agents) if options.slurm is None else options.agents or slurm.DEFAULT_AGENTS
    scheduler = scheduler_process.start(path, count, LOGS)
    try:
        yield scheduler
    except BaseException:
        with signals.ignored():
            scheduler.stop()
        raise
    scheduler.stop(scheduler_process.NOTICE_SECONDS)


def how_to_look(path: str, page: str, options: argparse.Namespace) -> str:
    """How to look at the runs."""
    if options.local:
        page = shell_command("wandb_tl.local", *embedded_server.open_arguments(path, options.root))
    return f"The runs are kept. To look at them: {page}"


@contextlib.contextmanager
def stopped_on_failure(agents: Agents, path: str, options: argparse.Namespace) -> Iterator[None]:
    """Stop the agents if the block fails or is interrupted, and print the command that resumes the sweep.

    Only Ctrl-C stops jobs of SLURM.
    """
    try:
        yield
    except BaseException as error:
        # A closing terminal may send several signals: they must not interrupt this.
        with signals.ignored():
            stop_agents(agents, isinstance(error, KeyboardInterrupt))
        command = command_to_resume(path, options)
        print(f"\nThe sweep keeps its runs. To resume it: {command}", file=sys.stderr)
        raise


def stop_agents(agents: Agents, interrupted: bool) -> None:
    """End agents on this machine; cancel jobs of SLURM if the user has interrupted this command."""
    agent_processes.stop(agent for agent in agents if isinstance(agent, AgentProcess))
    if interrupted:
        slurm.stop(agent for agent in agents if isinstance(agent, AgentArray))


def command_to_resume(path: str, options: argparse.Namespace) -> str:
    """The command that resumes an interrupted sweep with the same options."""
    flags = [flag for flag in ("--local", "--in-process") if getattr(options, flag[2:].replace("-", "_"))]
    for name in ("root", "agents", "slurm", "reports", "readme"):
        if (value := getattr(options, name)) is not None:
            flags += [f"--{name}", str(value)]
    return shell_command("wandb_tl.run_sweep", path, *flags)


def print_job(definition: Definition | None, options: argparse.Namespace) -> int:
    """Create the sweep unless it exists, and print the file of a job that runs its agents on other machines.

    On stdout there is nothing but the file.
    """
    with loading.libraries():
        from wandb_tl.analysis.results import Results
        from wandb_tl.sweeping.work_queue import create_sweep, resume_sweep, server_address

    path = create_sweep(definition) if definition else options.sweep
    if not definition:
        resume_sweep(path)
    results = Results(path)
    page = embedded_server.page_link(path, options.root) if options.local else results.url
    count = options.agents or job_files.DEFAULT_AGENTS
    variables = os.environ | {"WANDB_BASE_URL": server_address()}
    agents = job_files.Agents(path, count, options.in_process, variables)
    print(job_files.parse(options.print_job).text(agents), end="", flush=True)
    table = shell_command("wandb_tl.export_table", path, *local_flags(options))
    print(f"Sweep {path}\nFollow it at {page}\nIts results: {table}", file=sys.stderr)
    if scheduler_process.has_one(results.definition()):
        print(f"Its scheduler, to be started once: wandb sweep-scheduler {path}", file=sys.stderr)
    return ExitCode.OK


COMMAND = Command(
    name="run_sweep",
    summary="run a whole sweep on this machine: server, agents, report",
    description="Create a W&B sweep, run its agents on this machine or a SLURM cluster, and print the table "
    "of its results.",
    epilog="Example: laptop --local --set seed=0,1,2 --reports reports. Agents write logs to ./wandb. "
    "If interrupted by Ctrl-C, it prints the command that resumes the sweep.",
    add_arguments=add_arguments,
    run=run,
    ends_on=("SIGTERM", "SIGHUP"),
)

if __name__ == "__main__":
    COMMAND.start()
