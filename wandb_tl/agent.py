"""python -m wandb_tl.agent: an agent that takes runs from a sweep, one after the other.

Unlike `wandb agent`, it asks for the next run as soon as one has ended instead of every five seconds, and its
runs start with all libraries loaded. All runs share one process, which keeps images, activations and the
GPU's state. After a run that fails or whose process dies, and with --process-per-run after each, the next run
gets a new process, forked from one that has loaded the libraries.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing import util
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import yaml

from wandb_tl import loading, signals, temporary_folder
from wandb_tl.command_line import Command, shell_command
from wandb_tl.errors import ExitCode, FailedError, InputError, one_line, printable
from wandb_tl.sweeping import agent_events, embedded_server, sweep_definitions
from wandb_tl.sweeping.agent_events import AgentEvent

if TYPE_CHECKING:
    from wandb_tl.sweeping.work_queue import AgentCommand, WorkQueue
    from wandb_tl.training.process_cache import ProcessCache

# Of the 107 bytes that the path of a Unix socket may have, multiprocessing appends 32.
LONGEST_SOCKET_FOLDER = 75
# Seconds between requests while a run works, and while there is no run.
WORKING_SECONDS = 5
IDLE_SECONDS = 2
# Seconds that a run has to end after SIGTERM before it is killed.
STOP_SECONDS = 30
# Exit codes of a run that was stopped: by W&B, and by SIGTERM.
STOPPED = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
# After this many failures in a row, the next run is unlikely to succeed.
MAX_FAILURES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", metavar="ENTITY/PROJECT/SWEEP", help="the sweep to take runs from")
    parser.add_argument(
        "--process-per-run",
        action="store_true",
        help="give each run a process of its own, whose memory is freed when the run ends (default: all runs "
        "share one, which keeps images, activations and the GPU's state)",
    )
    parser.add_argument(
        "--events",
        type=Path,
        metavar="FILE",
        help="append one JSON line per ended run: run, exit_code, reason (empty unless the run failed)",
    )
    # For run_sweep, which its agents must not outlive.
    parser.add_argument("--until-eof", action="store_true", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Do runs until the sweep has no more."""
    with loading.libraries():
        from wandb_tl.sweeping.work_queue import WorkQueue

    try:
        queue = WorkQueue(options.sweep)
        if not sweep_definitions.is_plain({"program": queue.program, "command": queue.command}):
            _become_wandb_agent(options)
        if options.until_eof:
            threading.Thread(target=_end_at_eof, daemon=True).start()
        with embedded_server.used():
            _work(queue, options.process_per_run, options.events)
    except (InputError, FailedError) as error:
        if options.events:
            code = ExitCode.BAD_INPUT if isinstance(error, InputError) else ExitCode.FAILED
            agent_events.append(options.events, AgentEvent(None, code, str(error)))
        raise
    print(f"The sweep has no more runs. Its results: {shell_command('wandb_tl.export_table', options.sweep)}")
    return ExitCode.OK


def _become_wandb_agent(options: argparse.Namespace) -> NoReturn:
    """Replace this process by W&B's own agent, which runs other programs, and does not end with its stdin."""
    if options.events:
        # run_sweep does not start it again: its run would go on beside those of another agent.
        agent_events.append(options.events, AgentEvent(None, ExitCode.OK, ""))
    # The temporary folder of this process is nobody's from now on.
    os.environ["TMPDIR"] = str(temporary_folder.outside())
    if options.until_eof:
        # The runs would inherit a pipe through which nothing comes.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execv(sys.executable, [sys.executable, "-m", "wandb", "agent", "--forward-signals", options.sweep])


def _work(queue: WorkQueue, process_per_run: bool, events: Path | None) -> None:
    failures = failed_starts = 0
    # Before the first request: loading the libraries takes longer than a server waits for a run to start.
    worker = Worker()
    try:
        while True:
            if not worker.is_ready():
                code, failed_starts = worker.end(), failed_starts + 1
                if failed_starts == MAX_FAILURES:
                    died = f"{MAX_FAILURES} workers in a row have died while they started, before any run"
                    raise FailedError(f"{died} (exit code {code}); this agent gives up; see the output above")
                worker = Worker()
                continue
            failed_starts = 0
            commands = queue.ask()
            if any(command.kind == "exit" for command in commands):
                return
            runs = [command for command in commands if command.kind in ("run", "resume")]
            if not runs:
                time.sleep(IDLE_SECONDS)
            for command in runs:
                outcome = worker.run(queue, command)
                # It may quote hyperparameters, which the server sends.
                outcome = outcome._replace(reason=printable(outcome.reason))
                if outcome.reason:
                    print(f"error: {outcome.reason}", flush=True)
                if events:
                    agent_events.append(events, AgentEvent(command.run_id, *outcome))
                ended_well = outcome.exit_code in (ExitCode.OK, *STOPPED)
                failures = 0 if ended_well else failures + 1
                if failures == MAX_FAILURES:
                    raise InputError(f"{failures} runs in a row have failed; this agent gives up")
                if outcome.exit_code != ExitCode.OK or process_per_run or not worker.alive():
                    worker.end()
                    worker = Worker()
    finally:
        worker.end()


class Outcome(NamedTuple):
    """How a run ended. exit_code: negative if a signal ended its process. reason: empty unless it failed."""

    exit_code: int
    reason: str


class Worker:
    """A process that does runs, with all libraries loaded before the first."""

    def __init__(self) -> None:
        context = _process_context()
        self._connection, other_end = context.Pipe()
        # Nothing is sent through it: it closes when this process ends, however it ends.
        worker_lifeline, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(other_end, worker_lifeline))
        self._process.start()
        # With this copy closed, the connection ends when the process does.
        other_end.close()
        worker_lifeline.close()
        self._at_work = self._is_checked = False

    def alive(self) -> bool:
        return self._process.is_alive()

    def is_ready(self) -> bool:
        """Whether the process lives and its GPU computes. FailedError if its GPU does not."""
        if not self._is_checked:
            try:
                problem = self._connection.recv()
            except (EOFError, OSError):
                return False
            if problem:
                raise FailedError(f"{problem}; this agent takes no runs")
            self._is_checked = True
        return self.alive()

    def run(self, queue: WorkQueue, command: AgentCommand) -> Outcome:
        """Do a run. If the sweep asks to stop it, terminate the process, and kill it after STOP_SECONDS."""
        flags = [f"--{name}={argument['value']}" for name, argument in command.arguments.items()]
        environment = _environment(queue, command)
        terminated_at = None
        try:
            self._connection.send((environment, flags))
            self._at_work = True
            while not self._connection.poll(WORKING_SECONDS):
                kinds = {answer.kind for answer in queue.ask(command.run_id)}
                if terminated_at is None and kinds & {"stop", "exit"}:
                    terminated_at = time.monotonic()
                    self._process.terminate()
                elif terminated_at is not None and time.monotonic() > terminated_at + STOP_SECONDS:
                    self._process.kill()
            outcome = Outcome(*self._connection.recv())
            self._at_work = False
            return outcome
        except (EOFError, OSError):
            # The process has closed its end: it has ended.
            self._process.join(STOP_SECONDS)
        if terminated_at is not None:
            return Outcome(ExitCode.TERMINATED, "")
        code = self._process.exitcode or ExitCode.FAILED
        return Outcome(code, f"run {command.run_id}: its process died (exit code {code})")

    def end(self) -> int | None:
        """End the process; returns its exit code. Its run returns to the sweep."""
        if self._at_work:
            self._process.terminate()
        self._connection.close()
        self._process.join(STOP_SECONDS)
        if self.alive():
            self._process.kill()
            self._process.join()
        self._lifeline.close()
        return self._process.exitcode


def _process_context() -> ForkServerContext | SpawnContext:
    """How processes start: forked from a server that has loaded the libraries, where that is safe."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["wandb_tl.sweeping.run_libraries"])
    _shorten_socket_paths()
    return context


def _shorten_socket_paths() -> None:
    """Let multiprocessing keep its sockets in /tmp if the temporary folder has too long a path for them."""
    if len(os.fsencode(tempfile.gettempdir())) <= LONGEST_SOCKET_FOLDER:
        return
    previous, tempfile.tempdir = tempfile.tempdir, "/tmp"
    try:
        # It creates its folder now, and keeps it.
        util.get_temp_dir()
    finally:
        tempfile.tempdir = previous


def _environment(queue: WorkQueue, command: AgentCommand) -> dict[str, str]:
    """The variables that make `wandb.init` continue the run that the sweep has handed out."""
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


def _end_at_eof() -> None:
    """Wait for the end of stdin, then end this agent as SIGTERM does."""
    # Not through sys.stdin: Python could not close it at the end while this thread reads.
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _end_with(lifeline: Connection) -> None:
    """Wait for the end of the agent, then end the run of this process."""
    with suppress(EOFError, OSError):
        lifeline.recv()
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(connection: Connection, lifeline: Connection) -> None:
    """Do the runs that arrive, in a process group of its own: Ctrl-C in a terminal is for the agent."""
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    # Imported here because the agent itself needs none of this. A forked process has it already.
    from wandb_tl.training import devices, run_lifecycle
    from wandb_tl.training.process_cache import ProcessCache

    # Windows has no process groups of this kind.
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    cache = ProcessCache()
    try:
        # The agent may be killed before this process.
        with temporary_folder.shared():
            connection.send(devices.problem())
            while True:
                environment, flags = connection.recv()
                connection.send(tuple(_run(environment, flags, cache)))
    except (EOFError, OSError):
        # The agent has closed its end, or has ended.
        return
    finally:
        # wandb does this at exit, which a process of multiprocessing skips.
        run_lifecycle.forget_environment()


def _run(environment: dict[str, str], flags: list[str], cache: ProcessCache) -> Outcome:
    """Do one run in this process."""
    from wandb_tl import train
    from wandb_tl.training import run_lifecycle

    # W&B records them as the run's own command line: that of the agent would not start it again.
    os.environ.update(environment | {"WANDB_PROGRAM": f"-m {train.__name__}"})
    sys.argv = [sys.argv[0], *flags]
    try:
        with signals.terminated_by_signals():
            run_lifecycle.forget_environment()
            return Outcome(train.run(train.COMMAND.parser().parse_args(flags), cache), "")
    except InputError as error:
        return Outcome(ExitCode.BAD_INPUT, str(error))
    except FailedError as error:
        return Outcome(ExitCode.FAILED, f"run {environment['WANDB_RUN_ID']}: {error}")
    except KeyboardInterrupt:
        return Outcome(ExitCode.INTERRUPTED, "")
    except signals.Terminated as end:
        # Its last saved epoch is on disk.
        run_lifecycle.preempt_handed_out_run(end)
        return Outcome(ExitCode.TERMINATED, "")
    except Exception as error:
        traceback.print_exc()
        return Outcome(ExitCode.FAILED, one_line(error))


COMMAND = Command(
    name="agent",
    summary="take runs from a sweep and do them, one after the other",
    description="Take runs from a sweep and do them, one after the other, like `wandb agent` but without its "
    "pauses between runs. run_sweep starts agents by itself; start another one to add a machine or a GPU.",
    epilog="Ctrl-C and SIGTERM return the current run to the sweep. The next agent resumes it from "
    "its last saved epoch.",
    add_arguments=add_arguments,
    run=run,
    ends_on=("SIGTERM", "SIGHUP"),
)

if __name__ == "__main__":
    COMMAND.start()
