"""python -m wandb_tl.run_sweep: a whole sweep in one command: server, sweep, agents, report."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from wandb_tl import loading, seed_rounds, sweep_agents, sweep_checks
from wandb_tl.command_line import Command, local_flags, shell_command
from wandb_tl.config import FIELDS
from wandb_tl.errors import ExitCode, InputError, UsageError
from wandb_tl.export_table import add_target_arguments
from wandb_tl.sweep_agents import LOGS
from wandb_tl.sweeping import (
    embedded_server,
    job_files,
    scheduler_process,
    slurm,
    sweep_definitions,
    watched_server,
)

if TYPE_CHECKING:
    from wandb_tl.analysis.results import Results
    from wandb_tl.sweeping.sweep_definitions import Definition


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
        "--process-per-run",
        action="store_true",
        help="give each run a process of its own, whose memory is freed when the run ends (default: the runs "
        "of an agent share one, which keeps images, activations and the GPU's state)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="after the sweep, repeat the best quarter of its recipes with up to N seeds each, choose one by "
        "their mean on validation images, and train it with fresh seeds",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE…]",
        help="fix a hyperparameter of the sweep, or list the values that the sweep tries; may be repeated "
        "(wandb_tl.train --help has the names)",
    )
    add_target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Run a sweep, or list the presets. FAILED if a run did not finish."""
    if options.sweep is None:
        print(f"Presets of run_sweep:\n\n{sweep_definitions.list_presets()}\n")
        print(f"To run one without an account: {shell_command('wandb_tl.run_sweep', 'laptop', '--local')}")
        return ExitCode.OK
    check(options)
    with contextlib.ExitStack() as stack:
        with sweep_agents.before_the_agents():
            results = prepare(options, stack)
        return print_job(results, options) if options.print_job else sweep(results, options)


def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Results:
    """Check what can be checked, start the server, and create the sweep unless it exists.

    stack: ends the server when it is closed.
    """
    resumed = sweep_definitions.is_path(options.sweep)
    definition = None if resumed else sweep_definitions.load(options.sweep, options.set)
    if definition:
        sweep_checks.check_metric(definition, has_pictures=not options.print_job)
        sweep_checks.print_equal_points(definition)
        if options.seeds:
            sweep_checks.check_repeatable(definition, has_pictures=True)
    # The job files of --print-job are for other machines, and so is their scheduler.
    if definition and scheduler_process.has_one(definition) and not options.print_job:
        scheduler_process.check(definition["scheduler"])
    make_log_folder()
    # Jobs of Kubernetes and SkyPilot have pictures of their own.
    if definition and not options.print_job:
        sweep_checks.check_pictures(definition, artifacts=False)
    if options.local and (options.slurm or options.print_job):
        os.environ.update(embedded_server.served_to_nodes(options.root))
    elif options.local:
        os.environ.update(stack.enter_context(watched_server.serving(options.root, LOGS)))
    # A sweep's command starts `python`: it must be this one, even if its environment is not active.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return created(definition, options)


def check(options: argparse.Namespace) -> None:
    """UsageError for options that cannot be used, before anything is started."""
    if options.agents is not None and options.agents < 1:
        raise UsageError(f"--agents: got {options.agents}, takes an integer >= 1")
    if options.set and sweep_definitions.is_path(options.sweep):
        raise UsageError(f"--set: {options.sweep} exists, and its hyperparameters are fixed")
    if options.seeds is not None and options.seeds < 2:
        raise UsageError(f"--seeds: got {options.seeds}, takes an integer >= 2")
    if options.slurm is not None:
        slurm.check(slurm.parse(options.slurm))
    if options.print_job is not None:
        job_files.parse(options.print_job)
        for flag in ("slurm", "seeds", "reports", "readme"):
            if getattr(options, flag) is not None:
                raise UsageError(f"--{flag}: --print-job runs nothing here; leave out one of the two")


def make_log_folder() -> None:
    """Create the folder for logs, and wandb's files, in the current folder. InputError if that fails."""
    try:
        LOGS.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {Path.cwd()}: {error.strerror}") from error


def created(definition: Definition | None, options: argparse.Namespace) -> Results:
    """Create the sweep unless it exists; InputError if its agents could not run here, or write the report."""
    # wandb reads its environment when it is imported, which has to be after the server has started.
    with loading.libraries():
        from wandb_tl.analysis.results import Results
        from wandb_tl.export_table import check_targets
        from wandb_tl.sweeping.work_queue import create_sweep, resume_sweep

    check_targets(options.reports, options.readme)
    if definition and not options.print_job:
        sweep_checks.check_pictures(definition, artifacts=True)
    path = create_sweep(definition) if definition else options.sweep
    if not definition:
        resume_sweep(path)
    results = Results(path)
    # What --print-job prints is for other machines.
    if not options.print_job:
        if scheduler_process.has_one(results.definition()):
            scheduler_process.check(results.definition()["scheduler"])
        if options.seeds and not definition:
            sweep_checks.check_repeatable(cast("Definition", results.definition()), has_pictures=False)
    return results


def sweep(results: Results, options: argparse.Namespace) -> int:
    """Run the agents of a sweep until they end, and print the table."""
    from wandb_tl.export_table import export, last_lines

    path = results.path
    command = sweep_agents.command_to_resume(path, options)
    with sweep_agents.resumable(command):
        outcome = sweep_agents.run_agents(results, options)
    print(f"{how_to_look(results, options)}\n")
    if outcome.finished:
        answer = export(results, options.reports, options.readme)
        # With more seeds, another recipe may win.
        print("", *([] if options.seeds else last_lines(answer)), sep="\n")
    if not outcome.is_complete:
        outcome.print_missing(command)
        return ExitCode.FAILED
    return seed_rounds.run(results, options, command) if options.seeds else ExitCode.OK


def how_to_look(results: Results, options: argparse.Namespace) -> str:
    """How to look at the runs."""
    page = results.url
    if options.local:
        page = shell_command("wandb_tl.local", *embedded_server.open_arguments(results.path, options.root))
    return f"The runs are kept. To look at them: {page}"


def print_job(results: Results, options: argparse.Namespace) -> int:
    """Print the file of a job that runs the agents of a sweep on other machines.

    On stdout there is nothing but the file.
    """
    from wandb_tl.sweeping.work_queue import server_address

    path = results.path
    page = sweep_agents.page_of(results, options)
    count = options.agents or job_files.DEFAULT_AGENTS
    variables = os.environ | {"WANDB_BASE_URL": server_address()}
    agents = job_files.Agents(path, count, options.process_per_run, variables)
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
    settings=tuple(FIELDS),
)

if __name__ == "__main__":
    COMMAND.start()
