"""python -m wandb_tl.sweeping.sweep_scheduler: `wandb sweep-scheduler` that ends with its stdin.

It must not outlive the process that has started it, however that one ends: two schedulers of a sweep would
not know of each other's runs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from wandb.cli.cli import cli

# How long it has to finish its step after the first interrupt, and to end after the second.
STEP_SECONDS, END_SECONDS = 10, 5


def main() -> None:
    """Run `wandb sweep-scheduler` with the arguments of this process."""
    # A process that a shell has started in the background ignores the signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_at_eof, daemon=True).start()
    cli.main(["sweep-scheduler", *sys.argv[1:]], prog_name="wandb")


def _end_at_eof() -> None:
    """Wait for the end of stdin, then interrupt the scheduler as Ctrl-C does, which leaves the sweep open."""
    # Not through sys.stdin: Python could not close it at the end while this thread reads.
    while os.read(0, 1):
        pass
    for seconds in (STEP_SECONDS, END_SECONDS):
        # Not raise_signal, which would not wake the main thread.
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(seconds)
    os._exit(1)


if __name__ == "__main__":
    main()
