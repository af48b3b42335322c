"""A real SLURM on this machine: one controller and one node, with files in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from live_server import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd")
PATHS = {name: shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in PROGRAMS}
# slurmd changes to the user of a job, which only root may.
needs_slurm = pytest.mark.skipif(
    not (all(PATHS.values()) and os.geteuid() == 0) and not os.environ.get("CI"),
    reason="needs root and SLURM (apt install slurm-wlm munge)",
)

# cred_expire: how long a job that was queued again waits. Seconds from SIGTERM to SIGKILL: KillWait.
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
ReturnToService=2
MinJobAge=5
KillWait=10
OverTimeLimit=0
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=1000
PartitionName=short Nodes={host} Default=YES MaxTime=10 OverSubscribe=FORCE:4
"""


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Run the daemons. Yields the environment variables with which SLURM's commands use them."""
    # Unix sockets have short paths, which those of pytest are not.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    key = folder / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    configuration = folder / "slurm.conf"
    ports = {"controller_port": free_port(), "node_port": free_port()}
    host = socket.gethostname().partition(".")[0]
    configuration.write_text(CONFIGURATION.format(folder=folder, host=host, cores=os.cpu_count(), **ports))
    munge = ["--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    variables = {"SLURM_CONF": str(configuration)}
    with running("munged", munge, folder):
        wait_for((folder / "munge").exists)
        with (
            running("slurmctld", ["-D", "-f", str(configuration)], folder),
            running("slurmd", ["-D", "-f", str(configuration)], folder),
        ):
            wait_for(lambda: slurm(variables, "sinfo", "-h", "-o", "%T") == "idle")
            try:
                yield variables
            finally:
                # Jobs outlive slurmd.
                slurm(variables, "scancel", f"--user={os.getuid()}")
                wait_for(lambda: not slurm(variables, "squeue", "-h"))
    shutil.rmtree(folder)


@contextmanager
def running(name: str, arguments: list[str], folder: Path) -> Iterator[None]:
    """A daemon in the foreground, for as long as the block runs."""
    with (folder / f"{name}.out").open("w") as out:
        process = subprocess.Popen([PATHS[name] or name, *arguments], stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=60)


def slurm(variables: dict[str, str], *command: str) -> str:
    """What a command of SLURM prints."""
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    return done.stdout.strip()


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
