"""python -m wandb_tl.agent: work on a sweep, one run after the other.

It asks for runs as `wandb agent` does, but for the next one as soon as one has ended and not at the next
multiple of five seconds; and its runs begin with all libraries loaded. Each is a process of its own, forked
from one that has them. In-process, all are runs of one process, which keeps images, activations and the
GPU's state as well. A run that fails, or takes its process with it, leaves the next one a new process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import yaml

from wandb_tl.config import InputError, Parser
from wandb_tl.work_queue import Command, WorkQueue

PROGRAM = "wandb_tl/train.py"
# Seconds: between two questions while a run works, and while there is no work; and what a run that is told
# to stop has to end before it is killed.
WORKING = 5
IDLE = 2
STOP = 30
# Exit codes of a run that was stopped: by W&B, and by SIGTERM.
STOPPED = (130, 143)
# More would hardly go better than so many in a row.
MAX_FAILURES = 10


def main(arguments: list[str] | None = None) -> int:
    """Work until the sweep has no more runs. Exit code 2 and one line for bad input, 130 if interrupted."""
    parser = Parser(
        prog="python -m wandb_tl.agent",
        description="Work on a sweep of wandb_tl, one run after the other, as `wandb agent` does but without "
        "the waits between runs. run_sweep starts these; start one by hand to help it from another terminal "
        "or machine.",
        epilog="Interrupted by Ctrl-C or SIGTERM, it gives its run back to the sweep, where it goes on from "
        "its last epoch.",
    )
    parser.add_argument("sweep", metavar="ENTITY/PROJECT/SWEEP")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="all runs in one process, which keeps images, activations and the GPU's state from run to run",
    )
    try:
        options = parser.parse_args(arguments)
        queue = WorkQueue(options.sweep)
        if not _is_ours(queue):
            _leave_to_wandb(queue, options.sweep, options.in_process)
        _work(queue, options.in_process)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


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


def _work(queue: WorkQueue, in_process: bool) -> None:
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
                code = worker.run(queue, command)
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
            context.set_forkserver_preload(["wandb_tl.train"])
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(other_end,))
        self._process.start()
        # Then the connection ends with the process.
        other_end.close()
        self._at_work = False

    def alive(self) -> bool:
        return self._process.is_alive()

    def run(self, queue: WorkQueue, command: Command) -> int:
        """Do a run, and stop it when the sweep says so. Returns its exit code, negative for a signal's."""
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
            code = self._connection.recv()
            self._at_work = False
            return code
        except (EOFError, OSError):
            # The other end is gone, and the process with it.
            self._process.join(STOP)
        if told_to_stop is not None:
            return STOPPED[-1]
        code = self._process.exitcode or 1
        print(f"error: run {command.run_id}: its process died (exit code {code})", flush=True)
        return code

    def end(self) -> None:
        """End the process; a run that is at work in it saves what it has and goes back to the sweep."""
        if self._at_work:
            self._process.terminate()
        self._connection.close()
        self._process.join(STOP)
        if self.alive():
            self._process.kill()
            self._process.join()


def _environment(queue: WorkQueue, command: Command) -> dict[str, str]:
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
    """Do the runs that come, in a process group of their own: Ctrl-C in a terminal is for the agent."""
    # Here, because the agent itself needs none of it; in this process it is loaded already.
    from wandb_tl import tracking

    os.setpgid(0, 0)
    try:
        while True:
            environment, flags = connection.recv()
            connection.send(_run(environment, flags))
    except (EOFError, OSError):
        # The agent needs it no more, or is gone.
        return
    finally:
        # What it does by itself when a process ends, it does not do in one of multiprocessing's.
        tracking.forget_environment()


def _run(environment: dict[str, str], flags: list[str]) -> int:
    from wandb_tl import tracking, train

    os.environ.update(environment)
    tracking.forget_environment()
    try:
        return train.main(flags)
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:
        traceback.print_exc()
        return 1


def _terminate(signum: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    # A closed terminal too, unless it is ignored, as under nohup.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    sys.exit(main())
