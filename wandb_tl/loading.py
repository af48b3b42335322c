"""How a process loads libraries and exits in little time: most of a short command's time is spent on that."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from wandb_tl import signals

# Not gc.get_freeze_count(), which counts the objects one by one.
_has_exempted = False


@contextmanager
def libraries() -> Iterator[None]:
    """For a block of imports: signals wait until its end, and Python does not look for garbage in it.

    The half million objects of these libraries are no garbage. Looking through them again and again takes a
    quarter of the imports' time; once they are loaded, the first block of a process exempts them.
    """
    global _has_exempted
    was_enabled = gc.isenabled()
    with signals.deferred():
        gc.disable()
        try:
            yield
        finally:
            if not _has_exempted:
                _has_exempted = True
                gc.freeze()
                # A library that counts its objects at the exit would print that they have leaked.
                atexit.register(gc.unfreeze)
            if was_enabled:
                gc.enable()


def exit_at_once(code: int) -> NoReturn:
    """Exit without taking the libraries' objects apart one by one, which takes a second after these imports.

    What is registered with atexit runs, as with sys.exit, which does the rest if a thread is still at work or
    the output cannot be written. Signals do not interrupt it: a second Ctrl-C would print a traceback, and
    leave the temporary files behind.
    """
    others = (thread for thread in threading.enumerate() if thread is not threading.current_thread())
    if all(thread.daemon for thread in others):
        with signals.ignored():
            atexit._run_exitfuncs()
            with suppress(OSError, ValueError):
                for stream in (sys.stdout, sys.stderr):
                    # None if it was closed when the process started, or if there is no console.
                    if stream is not None:
                        stream.flush()
                os._exit(code)
    sys.exit(code)
