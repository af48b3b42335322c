"""What signals do to a process: SIGTERM as an exception, signals that end it, and signals that it ignores.

Only a process's main thread can use these functions.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from wandb_tl.errors import ExitCode

# What a closing terminal, Ctrl-C, an agent or a cluster's scheduler sends to end a process.
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


class Terminated(SystemExit):
    """The process has received SIGTERM: its machine is being reclaimed, or an agent stops the run."""

    def __init__(self) -> None:
        super().__init__(int(ExitCode.TERMINATED))


@contextmanager
def terminated_by_sigterm() -> Iterator[None]:
    """In the block, SIGTERM raises Terminated. Afterwards it does what it did before."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def end_on(names: Iterable[str]) -> None:
    """From now on, signals with these names raise SystemExit with the code 128 + the signal's number.

    The process can then stop what it has started. An ignored signal stays ignored, as SIGHUP is under nohup.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    for number in _numbers(names):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


@contextmanager
def ignored(names: Iterable[str] = ENDING) -> Iterator[None]:
    """In the block, the process ignores the signals with these names."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in _numbers(names)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def die_of_sigint() -> None:
    """End this process by SIGINT, so that its parent sees the signal instead of an exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _numbers(names: Iterable[str]) -> list[signal.Signals]:
    """The signals with these names. Windows has no SIGHUP."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]
