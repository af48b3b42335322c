"""What signals do to a process: those that terminate a run, those that end it, and those that it ignores.

Only a process's main thread can set what signals do. In another thread, as W&B starts a sweep's function in,
`terminated_by_signals` and `ignored` change nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import NoReturn

from wandb_tl.errors import ExitCode

# What a closing terminal, Ctrl-C, an agent or a cluster's scheduler sends to end a process.
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
# Those of them after which a run is to be resumed.
TERMINATING = ("SIGTERM", "SIGHUP")


Handler = Callable[[int, FrameType | None], object] | signal.Handlers


class Terminated(SystemExit):
    """The machine of the process is being reclaimed, its terminal has closed, or an agent stops the run.

    reported: whether the run's server knows it.
    """

    def __init__(self) -> None:
        super().__init__(int(ExitCode.TERMINATED))
        self.reported = False


@contextmanager
def terminated_by_signals() -> Iterator[None]:
    """In the block, SIGTERM and SIGHUP raise Terminated. Afterwards they do what they did before.

    An ignored signal stays ignored, as SIGHUP is under nohup.
    """

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise Terminated

    numbers = [number for number in _numbers(TERMINATING) if signal.getsignal(number) is not signal.SIG_IGN]
    with _handled(numbers if _in_main_thread() else [], terminate):
        yield


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
    with _handled(_numbers(names) if _in_main_thread() else [], signal.SIG_IGN):
        yield


@contextmanager
def fatal(names: Iterable[str] = ENDING) -> Iterator[None]:
    """In the block, signals with these names end the process at once. An ignored signal stays ignored."""
    numbers = [number for number in _numbers(names) if signal.getsignal(number) is not signal.SIG_IGN]
    with _handled(numbers if _in_main_thread() else [], signal.SIG_DFL):
        yield


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Leave the block after this many seconds, if it has not ended. On Windows there is no limit."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise _OutOfTime

    numbers = _numbers(["SIGALRM"] if _in_main_thread() else [])
    with _handled(numbers, leave), suppress(_OutOfTime):
        if numbers:
            signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            if numbers:
                signal.setitimer(signal.ITIMER_REAL, 0)


class _OutOfTime(BaseException):
    """What leaves a block of `at_most`. No library catches it, as many do a TimeoutError."""


@contextmanager
def deferred(names: Iterable[str] = ENDING) -> Iterator[Callable[[], None]]:
    """In the block, signals with these names wait; they have their effect after it, or after a call of the
    function that the block gets.

    For code that swallows exceptions or is left half done by them, as the import of a library. An ignored
    signal stays ignored.
    """
    received: list[int] = []
    numbers = [number for number in _numbers(names) if signal.getsignal(number) is not signal.SIG_IGN]
    with ExitStack() as stack:

        def release() -> None:
            stack.close()
            while received:
                # On Windows, os.kill would end this process at once.
                signal.raise_signal(received.pop())

        handled = numbers if _in_main_thread() else []
        stack.enter_context(_handled(handled, lambda number, frame: received.append(number)))
        try:
            yield release
        finally:
            release()


@contextmanager
def _handled(numbers: Iterable[signal.Signals], handler: Handler) -> Iterator[None]:
    """In the block, the signals do what the handler does."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def raise_on_interrupt() -> None:
    """From now on, SIGINT raises KeyboardInterrupt, unless it is ignored. See wandb_tl/__init__.py."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def die_of_sigint() -> None:
    """End this process by SIGINT, so that its parent sees the signal instead of an exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _numbers(names: Iterable[str]) -> list[signal.Signals]:
    """The signals with these names. Windows has no SIGHUP."""
    return [signal.Signals[name] for name in names if name in signal.Signals.__members__]
