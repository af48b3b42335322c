"""python -m wandb_tl.agent: work on a sweep, one run after the other.

It asks for runs as `wandb agent` does, but for the next one as soon as one has ended and not at the next
multiple of five seconds; and its runs begin with all libraries loaded. Each is a process of its own, forked
from one that has them. In-process, all are runs of one process, which keeps images, activations and the
GPU's state as well. A run that fails, or takes its process with it, leaves the next one a new process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import yaml

from wandb_tl.command_line import Command, ExitCode
from wandb_tl.errors import InputError, one_line

if TYPE_CHECKING:
    from wandb_tl.sweeping.work_queue import AgentCommand, WorkQueue


PROGRAM = "wandb_tl/train.py"
# Seconds between two questions while a run works, and while there is no work; and what a run that is asked to
# stop has to end before it is killed.
WORKING = 5
IDLE = 2
STOP = 30
# Exit codes of a run that was stopped: by W&B, and by SIGTERM.
STOPPED = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
# After so many failures in a row, the next run will hardly succeed.
MAX_FAILURES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="ENTITY/PROJECT/SWEEP", help="the sweep to take runs from")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="do all runs in one process, which keeps images, activations and the GPU's state between runs",
    )
    parser.add_argument(
        "--events",
        type=Path,
        metavar="FILE",
        help="append one JSON line per ended run: run, exit_code, reason (empty unless the run failed)",
    )


def run(options: argparse.Namespace) -> int:
    """Work until the sweep has no more runs."""
    from wandb_tl.sweeping.work_queue import WorkQueue

    events = Events(options.events)
    try:
        queue = WorkQueue(options.sweep)
        if not _is_ours(queue):
            _leave_to_wandb(queue, options.sweep, options.in_process)
        _work(queue, options.in_process, events)
    except InputError as error:
        events.write(None, ExitCode.BAD_INPUT, str(error))
        raise
    return ExitCode.OK


class Events:
    """The file of JSON lines in which an agent says how its runs ended. path: None writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, run_id: str | None, exit_code: int, reason: str) -> None:
        """run_id: None for the agent itself."""
        if self._path is not None:
            line = json.dumps({"run": run_id, "exit_code": exit_code, "reason": reason})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")


def _is_ours(queue: WorkQueue) -> bool:
    """Whether the sweep's runs are those of this package, by a command that does nothing else."""
    plain = not queue.command or queue.command[-3:] == ["-m", "wandb_tl.train", "${args}"]
    # Before these at most ${env} and Python.
    return queue.program == PROGRAM and plain and len(queue.command) <= 5


def _leave_to_wandb(queue: WorkQueue, path: str, in_process: bool) -> NoReturn:
    """Become W&B's own agent, which knows how to run programs that are not this package's."""
    if in_process:
        what = " ".join(queue.command) or queue.program
        raise InputError(f"--in-process: the runs of {path} are not this package's alone, but {what!r}")
    os.execv(sys.executable, [sys.executable, "-m", "wandb", "agent", "--forward-signals", path])


def _work(queue: WorkQueue, in_process: bool, events: Events) -> None:
    failures = 0
    # Before a run is asked for: loading the libraries takes longer than a server waits for one to begin.
    worker = Worker()
    try:
        while True:
            commands = queue.ask()
            if any(command.kind == "exit" for command in commands):
                return
            runs = [command for command in commands if command.kind in ("run", "resume")]
            if not runs:
                time.sleep(IDLE)
            for command in runs:
                code, reason = worker.run(queue, command)
                if reason:
                    print(f"error: {reason}", flush=True)
                events.write(command.run_id, code, reason)
                failures = 0 if code == 0 or code in STOPPED else failures + 1
                if failures == MAX_FAILURES:
                    raise InputError(f"{failures} runs in a row have failed; this agent gives up")
                if code != 0 or not in_process or not worker.alive():
                    worker.end()
                    worker = Worker()
    finally:
        worker.end()


class Worker:
    """A process in which runs are done, with all libraries loaded before it begins."""

    def __init__(self) -> None:
        # Elsewhere a process that has loaded as much is not safe to fork.
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        if sys.platform == "linux":
            context.set_forkserver_preload(["wandb_tl.training.loop"])
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end,))
        self._process.start()
        # Then the connection ends with the process.
        other_end.close()
        self._at_work = False

    def alive(self) -> bool:
        return self._process.is_alive()

    def run(self, queue: WorkQueue, command: AgentCommand) -> tuple[int, str]:
        """Do a run, and stop it when the sweep asks for that.

        Returns its exit code, negative if a signal ended its process, and the reason of a failure.
        """
        flags = [f"--{name}={given['value']}" for name, given in command.arguments.items()]
        environment = _environment(queue, command)
        told_to_stop = None
        try:
            self._connection.send((environment, flags))
            self._at_work = True
            while not self._connection.poll(WORKING):
                stops = [found.kind for found in queue.ask(command.run_id) if found.kind in ("stop", "exit")]
                if stops and told_to_stop is None:
                    told_to_stop = time.monotonic()
                    self._process.terminate()
                elif told_to_stop is not None and time.monotonic() > told_to_stop + STOP:
                    self._process.kill()
            result = self._connection.recv()
            self._at_work = False
            return result
        except (EOFError, OSError):
            # The other end is gone, and the process with it.
            self._process.join(STOP)
        if told_to_stop is not None:
            return ExitCode.TERMINATED, ""
        code = self._process.exitcode or ExitCode.FAILED
        return code, f"run {command.run_id}: its process died (exit code {code})"

    def end(self) -> None:
        """End the process; a run that is at work in it saves what it has and goes back to the sweep."""
        if self._at_work:
            self._process.terminate()
        self._connection.close()
        self._process.join(STOP)
        if self.alive():
            self._process.kill()
            self._process.join()


def _environment(queue: WorkQueue, command: AgentCommand) -> dict[str, str]:
    """The variables that make `wandb.init` take up the run that the sweep has handed out."""
    folder = Path(os.environ.get("WANDB_DIR") or Path.cwd())
    parameters = folder / "wandb" / f"sweep-{queue.sweep}" / f"config-{command.run_id}.yaml"
    parameters.parent.mkdir(parents=True, exist_ok=True)
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, **command.arguments}), encoding="utf-8")
    return {
        "WANDB_ENTITY": queue.entity,
        "WANDB_PROJECT": queue.project,
        "WANDB_SWEEP_ID": queue.sweep,
        "WANDB_RUN_ID": command.run_id,
        "WANDB_SWEEP_PARAM_PATH": str(parameters),
        "WANDB_DIR": str(folder),
    }


def _serve(connection: Connection) -> None:
    """Do the runs that arrive, in a process group of their own: Ctrl-C in a terminal is for the agent."""
    # Loaded here, because the agent itself needs none of it. A forked process has it already.
    from wandb_tl.training import tracking

    os.setpgid(0, 0)
    try:
        while True:
            environment, flags = connection.recv()
            connection.send(_run(environment, flags))
    except (EOFError, OSError):
        # The agent does not need this process any more, or is gone.
        return
    finally:
        # wandb does this when a process exits, but not in a process of multiprocessing.
        tracking.forget_environment()


def _run(environment: dict[str, str], flags: list[str]) -> tuple[int, str]:
    """Do one run. Returns its exit code and the reason of a failure."""
    from wandb_tl import train
    from wandb_tl.training import tracking

    os.environ.update(environment)
    tracking.forget_environment()
    try:
        return train.run(train.COMMAND.parser().parse_args(flags)), ""
    except InputError as error:
        return ExitCode.BAD_INPUT, str(error)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED, ""
    except SystemExit as ended:
        return int(ended.code or 0), ""
    except Exception as error:
        traceback.print_exc()
        return ExitCode.FAILED, one_line(error)


COMMAND = Command(
    name="agent",
    summary="take runs from a sweep and do them, one after the other",
    description="Take runs from a sweep of wandb_tl and do them, one after the other, as `wandb agent` does "
    "but without its pauses between runs. run_sweep starts such agents; start one by hand to help a sweep "
    "from another terminal or machine.",
    epilog="If interrupted by Ctrl-C or SIGTERM, it returns its run to the sweep, which hands it out again; "
    "the run then resumes from its last epoch.",
    add_arguments=add_arguments,
    run=run,
    ends_on=("SIGTERM", "SIGHUP"),
)

if __name__ == "__main__":
    COMMAND.start()
