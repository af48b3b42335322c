"""How a process loads libraries and exits. Each script is a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(script: str) -> tuple[int, str]:
    """The exit code of a script, and what it has printed."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_signals_wait_and_no_garbage_is_looked_for_while_libraries_load():
    script = """
import gc, os, signal
from wandb_tl import loading

signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
with loading.libraries():
    os.kill(os.getpid(), signal.SIGINT)
    print(gc.isenabled(), gc.get_freeze_count())
print(gc.isenabled(), gc.get_freeze_count() > 1000)
frozen, new = gc.get_freeze_count(), [[]]
gc.disable()
with loading.libraries():
    pass
print(gc.isenabled(), gc.get_freeze_count() == frozen)
"""
    assert run(script) == (0, "False 0\ninterrupted\nTrue True\nFalse True\n")


def test_a_process_that_exits_as_always_takes_all_objects_apart():
    script = """
from wandb_tl import loading

class A:
    def __del__(self):
        print("deleted")

a = A()
a.itself = a
with loading.libraries():
    pass
del a
"""
    assert run(script) == (0, "deleted\n")


# What a process still does that exits at once: each line is one more statement before it exits.
END = """
import atexit, sys, threading, time
from wandb_tl import loading

atexit.register(print, "registered")
print("unflushed", end=" ")
{statement}
loading.exit_at_once(3)
"""


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("", (3, "unflushed registered\n")),
        # Its objects are not taken apart.
        ("class A:\n    def __del__(self): print('deleted')\na = A()", (3, "unflushed registered\n")),
        # A thread is waited for, as always.
        (
            "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()",
            (3, "unflushed thread\nregistered\n"),
        ),
    ],
)
def test_a_process_exits_at_once_but_for_what_is_left_to_do(statement: str, expected: tuple[int, str]):
    assert run(END.format(statement=statement)) == expected


def test_signals_do_not_interrupt_what_runs_at_exit():
    script = """
import atexit, os, signal
from wandb_tl import loading, signals

def interrupt():
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    print("tidied up")

signals.end_on(["SIGTERM"])
atexit.register(interrupt)
loading.exit_at_once(130)
"""
    assert run(script) == (130, "tidied up\n")


def test_a_process_without_output_exits_with_its_code():
    # As `python >&-` and pythonw.exe start one.
    script = END.format(statement="sys.stdout = sys.stderr = None")
    assert run(script)[0] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_output_that_cannot_be_written_is_an_error_as_always():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", END.format(statement="")]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, text=True)
    assert done.returncode == 120 and "No space left" in done.stderr
