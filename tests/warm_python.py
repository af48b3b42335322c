"""Python processes that have PyTorch and wandb already: forks of one process that has imported them.

To import them takes six seconds of processor time, which most tests of a command would spend on little else.
What is forked has run nothing of this package or of wandb. It has its own environment, folder, arguments and
streams, and ends with its own exit code or signal, as `python -m MODULE` and `python -c SCRIPT` do. Tests of
how a command starts, of its imports or of its name among the processes start Python itself.
"""

from __future__ import annotations

import functools
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
# Modules that other modules import; one that is started as a command would be there twice.
PRELOADED = (
    "wandb",
    "wandb.apis.public",
    "wandb.cli.cli",
    "wandb_tl.figures.media",
    "wandb_tl.training.loop",
    "wandb_tl.training.run_lifecycle",
    "wandb_tl.training.tracking",
)
LONGEST_REQUEST = 1 << 20


class WarmProcess:
    """What subprocess.Popen gives for `python ARGUMENTS…`, as far as tests use it. Output is text."""

    def __init__(
        self,
        arguments: Sequence[str],
        cwd: str | Path | None = None,
        env: dict[str, str] | None = None,
        stderr: int = subprocess.PIPE,
    ) -> None:
        """arguments: "-m", a module and its arguments, or "-c", a script and its arguments."""
        self.args, self.returncode = list(arguments), None
        out, theirs_out = os.pipe()
        err, theirs_err = (None, theirs_out) if stderr == subprocess.STDOUT else os.pipe()
        self._status, status = os.pipe()
        self.stdout = os.fdopen(out, encoding="utf-8")
        self.stderr = None if err is None else os.fdopen(err, encoding="utf-8")
        request = {
            "arguments": self.args,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
        }
        self.pid = _forker().start(request, [theirs_out, theirs_err, status])
        for descriptor in {theirs_out, theirs_err, status}:
            os.close(descriptor)

    def poll(self) -> int | None:
        return self.wait(0) if self.returncode is not None or self._ended(0) else None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not self._ended(timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(os.read(self._status, 100) or b"-9")
            os.close(self._status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        streams = [stream for stream in (self.stdout, self.stderr) if stream is not None]
        read: dict[Any, str] = {}
        threads = [
            threading.Thread(target=lambda stream=stream: read.update({stream: stream.read()}), daemon=True)
            for stream in streams
            if not stream.closed
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout)
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(timeout)
        for stream in streams:
            stream.close()
        return read.get(self.stdout, ""), read.get(self.stderr, "")

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> bool:
        return bool(select.select([self._status], [], [], timeout)[0])


def run(arguments: Sequence[str], timeout: float = 400, **options: Any) -> subprocess.CompletedProcess[str]:
    """The ended process of `python ARGUMENTS…`."""
    process = WarmProcess(arguments, **options)
    try:
        out, err = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class _Forker:
    """The process that has imported everything; it ends when this one does."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.socket, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * LONGEST_REQUEST)
        # What these libraries read as they are imported.
        variables = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "WANDB_ERROR_REPORTING": "false"}
        with theirs:
            subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                cwd=REPOSITORY,
                env={name: value for name, value in os.environ.items() if name[:6] != "WANDB_"} | variables,
                pass_fds=[theirs.fileno()],
            )

    def start(self, request: dict[str, Any], descriptors: list[int]) -> int:
        """The number of a new process with these descriptors for its output, its errors and its status."""
        socket.send_fds(self.socket, [json.dumps(request).encode()], descriptors)
        return int(self.socket.recv(100))


@functools.cache
def _forker() -> _Forker:
    return _Forker()


# ---- the process that forks ------------------------------------------------------------------------------


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork a process for each request; returns the request in that process."""
    statuses: dict[int, tuple[int, int]] = {}
    while True:
        for ready in select.select([requests, *statuses], [], [])[0]:
            if ready is requests:
                content, descriptors, _, _ = socket.recv_fds(requests, LONGEST_REQUEST, 3)
                if not content:
                    sys.exit()
                out, err, status = descriptors
                if not (pid := os.fork()):
                    for number, descriptor in ((1, out), (2, err)):
                        os.dup2(descriptor, number)
                    requests.close()
                    for descriptor in {*descriptors, *statuses, *(kept for _, kept in statuses.values())}:
                        os.close(descriptor)
                    request: dict[str, Any] = json.loads(content)
                    return request
                os.close(out)
                os.close(err)
                statuses[os.pidfd_open(pid)] = pid, status
                requests.send(str(pid).encode())
            else:
                pid, status = statuses.pop(ready)
                os.close(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                os.write(status, str(code).encode())
                os.close(status)


def become(request: dict[str, Any]) -> None:
    """Do what a new `python ARGUMENTS…` does."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    kind, what, *arguments = request["arguments"]
    # The folder of this file, which Python put there.
    sys.path[0] = request["cwd"] if kind == "-m" else ""
    if "PYTHONUNBUFFERED" in os.environ:
        for stream in (sys.stdout, sys.stderr):
            assert isinstance(stream, io.TextIOWrapper)
            stream.reconfigure(write_through=True)
    # wandb makes a folder for media as it is imported, and deletes it when the process ends.
    tempfile.tempdir = None
    MEDIA_TMP._finalizer.detach()
    MEDIA_TMP.__init__(suffix="wandb-media")
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        main = types.ModuleType("__main__")
        sys.modules["__main__"] = main
        exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    sys.path.insert(1, str(REPOSITORY))
    for name in PRELOADED:
        __import__(name)
    assert threading.active_count() == 1, "a thread would be missing in the forks"
    from wandb.sdk.data_types._private import MEDIA_TMP

    become(serve(socket.socket(fileno=int(sys.argv[1]))))
