"""Agents of a sweep as an array of SLURM jobs, which queue themselves again at their time limit.

submitit writes the script and calls sbatch. SLURM itself passes the environment to the jobs. The script and
submitit's files do not contain it, so the API key is in no file that other users can read.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import psutil

from wandb_tl.errors import ExitCode, InputError, UsageError, one_line
from wandb_tl.sweeping import agent_events, key_values
from wandb_tl.sweeping.agent_events import AgentEvent
from wandb_tl.sweeping.key_values import Options, Reader, positive

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

DEFAULT_AGENTS = 2
# How long before the time limit an agent has to return its run to the sweep: this, or less for short limits.
# SLURM may send the signal up to a minute earlier.
SIGNAL_SECONDS = 120
SIGNAL_SECONDS_PER_MINUTE = 15
# A job may reach its time limit any number of times: the sweep decides when there are no more runs.
MAX_TIMEOUTS = 10**9
# What submitit has SLURM send to a job before its time limit, and what `stop` sends to it.
WARNING, CANCEL = "SIGUSR2", "SIGUSR1"
# How long jobs have to end after that.
STOP_SECONDS = 60
# How long a job waits for SLURM to end it after SLURM has ended its agent.
PREEMPTED_SECONDS = 600
POLL_SECONDS = 1
# The states, as squeue prints them, of jobs that do not run again.
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
}


def minutes(text: str) -> int:
    """Minutes of a time limit: MINUTES, H:MM:SS or D-H:MM:SS, rounded up. ValueError for others."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    parts = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text)
    if not parts:
        raise ValueError("takes minutes or H:MM:SS")
    days, hours, minute, seconds = (int(part or 0) for part in parts.groups())
    return max(1, math.ceil(((days * 24 + hours) * 60 + minute) + seconds / 60))


# The options of sbatch that --slurm takes, with underscores as in submitit.
KEYS: dict[str, Reader] = {
    "time": minutes,
    "partition": str,
    "account": str,
    "qos": str,
    "cpus_per_task": positive,
    "mem": str,
    "mem_per_cpu": str,
    "gres": str,
    "gpus_per_node": str,
    "constraint": str,
    "exclude": str,
    "signal_delay_s": positive,
    # Those that submitit has no parameter for.
    "gpus": str,
    "nodelist": str,
    "reservation": str,
}
SBATCH_ONLY = ("gpus", "nodelist", "reservation")
SYNONYMS = {
    "cpus": "cpus_per_task",
    "memory": "mem",
    "queue": "partition",
    "nodes": "nodelist",
    "timeout": "time",
}


def parse(text: str) -> Options:
    """The options in KEY=VALUE[,KEY=VALUE…]. UsageError for those that cannot be used."""
    options = key_values.parse("--slurm", text, KEYS, SYNONYMS, "partition=gpu,time=60")
    if "time" not in options:
        raise UsageError("--slurm: add time=MINUTES, after which a job queues itself again")
    limit = int(options["time"])
    warning = options.setdefault("signal_delay_s", min(SIGNAL_SECONDS, SIGNAL_SECONDS_PER_MINUTE * limit))
    if int(warning) >= limit * 60:
        raise UsageError(f"--slurm: signal_delay_s={warning} leaves no time to work within {limit} min")
    return options


def check(options: Options) -> None:
    """InputError if jobs cannot be submitted here, or SLURM refuses these options."""
    if not shutil.which("sbatch"):
        raise InputError("--slurm: no sbatch in PATH; run this command on a login node of a SLURM cluster")
    if not importlib.util.find_spec("submitit"):
        raise InputError("--slurm: submitit is missing; install this package with its extra 'slurm'")
    flags = [
        f"--{key.replace('_', '-')}={value}" for key, value in options.items() if key != "signal_delay_s"
    ]
    command = ["sbatch", "--test-only", *flags, "--wrap=true"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"--slurm: {done.stderr.strip().splitlines()[-1]}")


@dataclass(frozen=True)
class AgentArray:
    """A job array whose tasks are agents.

    id: of the array. name: of its jobs. log: the files of its tasks' output, as a pattern. events: the folder
    of their files of events (agent_events). submitted: whether this process has submitted it.
    """

    id: str
    name: str
    log: Path
    events: Path
    submitted: bool

    @property
    def working(self) -> bool:
        try:
            return self.id in _queue(self.name)
        except InputError:
            # SLURM's controller may be restarting. The jobs go on meanwhile.
            return True

    def failures(self) -> list[AgentEvent]:
        """The runs of these agents that failed, and failures of the agents themselves."""
        files = [self.events / f"{self.id}.jsonl", *sorted(self.events.glob(f"{self.id}_*.jsonl"))]
        return [event for file in files for event in agent_events.read(file) if event.reason]


def start(
    path: str, count: int | None, process_per_run: bool, folder: Path, options: Options
) -> list[AgentArray]:
    """Submit an array of agents of the sweep ENTITY/PROJECT/SWEEP, unless jobs of it are queued or running.

    Those are returned then. Files of the jobs are in a folder of the sweep, in the given folder. InputError
    if SLURM refuses the jobs.
    """
    name, files = f"wandb_tl-{path.split('/')[-1]}", folder / f"slurm-{path.split('/')[-1]}"
    if arrays := _arrays_that_stay(name):
        print(
            f"Jobs {' '.join(sorted(arrays))} of this sweep are queued or running; no others are submitted."
        )
        return [_array(id_, name, files, False) for id_ in sorted(arrays)]
    job = _submit(
        AgentJob(path, process_per_run, files.resolve()), name, count or DEFAULT_AGENTS, files, options
    )
    return [_array(job.partition("_")[0], name, files, True)]


def stop(arrays: Iterable[AgentArray]) -> None:
    """Cancel the jobs that this process has submitted. Their agents return their runs to the sweep."""
    for array in arrays:
        if not array.submitted:
            print(f"\nJob {array.id} goes on. To cancel it: scancel {array.id}", file=sys.stderr)
            continue
        _scancel("--state=PENDING", array.id)
        # Plain scancel ends all processes of a job at once, also the one through which a run returns itself.
        _scancel(f"--signal={CANCEL}", array.id)
        deadline = time.monotonic() + STOP_SECONDS
        while array.working and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        _scancel(array.id)


def _scancel(*arguments: str) -> None:
    # It complains about jobs that have ended or do not run yet.
    subprocess.run(["scancel", *arguments], capture_output=True)


def _array(id_: str, name: str, files: Path, submitted: bool) -> AgentArray:
    # submitit names the output of a job, or of a task of an array, JOB_0_log.out or JOB_TASK_0_log.out.
    return AgentArray(id_, name, files / f"{id_}_*log.out", files, submitted)


def _submit(job: AgentJob, name: str, count: int, files: Path, options: Options) -> str:
    """Submit an array, or one job if count is 1; returns the id of its first job."""
    import submitit

    extra = {key: options[key] for key in SBATCH_ONLY if key in options}
    parameters = {key: value for key, value in options.items() if key not in extra}
    # Since SLURM 22.05, srun does not take this one from the job.
    cpus = options.get("cpus_per_task")
    executor = submitit.SlurmExecutor(files, max_num_timeout=MAX_TIMEOUTS)
    try:
        executor.update_parameters(
            job_name=name,
            array_parallelism=count,
            stderr_to_stdout=True,
            srun_args=[f"--cpus-per-task={cpus}"] if cpus else None,
            additional_parameters={"requeue": True, **extra},
            **parameters,
        )
        with executor.batch():
            jobs = [executor.submit(job) for _ in range(count)]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise InputError(f"{job.path}: {one_line(error)}") from error
    return jobs[0].job_id


def _queue(name: str) -> dict[str, set[str]]:
    """The states of the jobs with this name that have not ended, by the id of their array.

    InputError if SLURM does not answer.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", "--me", f"--name={name}", "--format=%F %T"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"squeue: {done.stderr.strip()}")
    arrays: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        id_, state = line.split()
        if state not in ENDED:
            arrays.setdefault(id_, set()).add(state)
    return arrays


def _arrays_that_stay(name: str) -> list[str]:
    """The arrays with this name that are queued or running.

    A completing job may have been cancelled or be about to be queued again: this waits until that is clear.
    """
    while True:
        arrays = _queue(name)
        staying = [id_ for id_, states in arrays.items() if states != {"COMPLETING"}]
        if staying or not arrays:
            return staying
        time.sleep(POLL_SECONDS)


class AgentJob:
    """What a job does: it runs an agent. On the node, submitit calls it, and before the limit `checkpoint`.

    path: ENTITY/PROJECT/SWEEP. files: the folder of the agent's events.
    """

    def __init__(self, path: str, process_per_run: bool, files: Path) -> None:
        self.path, self.process_per_run, self.files = path, process_per_run, files
        self._agent: psutil.Process | None = None
        self._ending = False

    def __call__(self) -> None:
        import submitit

        events = self.files / f"{submitit.JobEnvironment().job_id}.jsonl"
        command = [sys.executable, "-m", "wandb_tl.agent", self.path, "--events", str(events)]
        # W&B's own agent, which runs other programs, would otherwise give up after three failed runs.
        environment = {"WANDB_AGENT_DISABLE_FLAPPING": "true", **os.environ}
        # The service of the process that submitted this job, which need not exist any more, nor on this node.
        environment.pop("WANDB_SERVICE", None)
        if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
            environment.setdefault("OMP_NUM_THREADS", cpus)
        signal.signal(signal.SIGTERM, self._note_end)
        signal.signal(signal.Signals[CANCEL], self._cancel)
        process = subprocess.Popen(
            [*command, *(["--process-per-run"] if self.process_per_run else [])],
            env=environment,
            stdin=subprocess.DEVNULL,
            preexec_fn=_ignore_signals_to_job,
        )
        self._agent = psutil.Process(process.pid)
        code = process.wait()
        if self._ending:
            # SLURM does not queue a preempted job again that ends by itself.
            time.sleep(PREEMPTED_SECONDS)
        if code:
            raise SystemExit(code)

    def checkpoint(self) -> DelayedSubmission | None:
        """End the agent, and say what the job does when it runs again; None if SLURM is ending the job."""
        from submitit.core.utils import DelayedSubmission

        if self._ending:
            return None
        self._end_agent()
        return DelayedSubmission(AgentJob(self.path, self.process_per_run, self.files))

    def _end_agent(self) -> None:
        """End the agent, which returns its run to the sweep. SLURM limits how long that may take."""
        if self._agent and self._agent.is_running():
            self._agent.terminate()
            # Not by Popen, whose lock the interrupted __call__ holds.
            self._agent.wait()

    def _note_end(self, number: int, frame: FrameType | None) -> None:
        """SLURM cancels or preempts the job, and has sent SIGTERM to its agent too."""
        self._ending = True

    def _cancel(self, number: int, frame: FrameType | None) -> NoReturn:
        self._end_agent()
        raise SystemExit(ExitCode.TERMINATED)


def _ignore_signals_to_job() -> None:
    """Let an agent and its runs ignore what SLURM sends to all processes of a job for AgentJob alone."""
    for name in (WARNING, CANCEL):
        signal.signal(signal.Signals[name], signal.SIG_IGN)
