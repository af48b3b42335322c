"""Signals, sent to real processes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

# A process that says what happens in it. It waits in pauses, because a signal may come before a longer one.
BEGINNING = """
import signal, sys, time
from wandb_tl import signals

def say(line):
    print(line, flush=True)

def wait():
    say("waiting")
    for _ in range(6000):
        time.sleep(0.01)
"""
Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process that runs BEGINNING and then a script."""
    with ExitStack() as stack:

        def start_one(script: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", BEGINNING + script]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start_one


def outcome(process: subprocess.Popen[str], *numbers: signal.Signals) -> tuple[int, list[str]]:
    """Send a signal each time that the process waits. Returns its exit code and the lines that it prints."""
    lines = []
    for number in numbers:
        while (line := process.stdout.readline().strip()) != "waiting":
            assert line, process.stderr.read()
            lines.append(line)
        process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err
    return process.returncode, lines + out.split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_sighup_are_an_exception_that_ends_the_process_with_its_code(start, number):
    script = """
try:
    with signals.terminated_by_signals():
        wait()
except signals.Terminated:
    say("terminated")
    say("restored" if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else "left")
    raise
"""
    assert outcome(start(script), number) == (143, ["terminated", "restored"])


def test_after_the_block_sigterm_does_what_it_did_before(start):
    script = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with signals.terminated_by_signals():
    pass
wait()
"""
    assert outcome(start(script), signal.SIGTERM) == (7, [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_that_end_a_process_let_it_stop_what_it_has_started(start, number, code):
    script = """
signals.end_on(("SIGTERM", "SIGHUP", "SIGNONE"))
try:
    wait()
finally:
    say("stopped")
"""
    assert outcome(start(script), number) == (code, ["stopped"])


def test_an_ignored_signal_stays_ignored_as_under_nohup(start):
    script = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signals.end_on(["SIGTERM", "SIGHUP"])
wait()
"""
    process = start(script)
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGHUP)
    # Were SIGHUP not ignored, it would end the process first.
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=240)
    assert process.returncode == 143


def test_signals_are_ignored_in_the_block_and_have_their_effect_after_it(start):
    script = """
signals.end_on(["SIGTERM", "SIGHUP"])
signal.signal(signal.SIGINT, signal.default_int_handler)
with signals.ignored():
    say("waiting")
    say(sys.stdin.readline().strip())
wait()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGINNING + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "waiting\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        process.stdin.write("ignored\n")
        process.stdin.flush()
        assert outcome(process, signal.SIGTERM) == (143, ["ignored"])


def test_deferred_signals_have_their_effect_when_the_block_ends_or_lets_them(start):
    script = """
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with signals.deferred():
        wait_for = sys.stdin.readline
        say("waiting")
        wait_for()
        say("loaded")
except KeyboardInterrupt:
    say("interrupted")
try:
    with signals.terminated_by_signals(), signals.deferred(["SIGTERM"]) as deliver:
        say("waiting")
        sys.stdin.readline()
        try:
            deliver()
            say("never")
        except signals.Terminated:
            say("terminated inside")
            raise
finally:
    say("restored" if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else "left")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGINNING + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    with process:
        for number in (signal.SIGINT, signal.SIGTERM):
            while (line := process.stdout.readline().strip()) != "waiting":
                lines.append(line)
            process.send_signal(number)
            process.stdin.write("\n")
            process.stdin.flush()
        out, err = process.communicate(timeout=240)
    assert process.returncode == 143 and not err, err
    assert lines == ["loaded", "interrupted"]
    assert out.splitlines() == ["terminated inside", "restored"]


def test_a_process_that_dies_of_sigint_has_no_exit_code(start):
    process = start("signals.die_of_sigint()\nwait()")
    assert outcome(process) == (-signal.SIGINT, [])


def test_a_block_ends_after_its_seconds_though_it_swallows_exceptions(start):
    script = """
def swallow():
    try:
        wait()
    except Exception:
        pass
    say("never")

with signals.at_most(0.2):
    swallow()
say("left")
with signals.at_most(100):
    say("in time")
say("restored" if signal.getsignal(signal.SIGALRM) is signal.SIG_DFL else "kept")
say(signal.getitimer(signal.ITIMER_REAL)[0])
"""
    assert outcome(start(script)) == (0, ["waiting", "left", "in", "time", "restored", "0.0"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_fatal_signal_ends_the_process_at_once(start, number):
    script = """
signals.end_on(("SIGTERM", "SIGHUP"))
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with signals.fatal():
        wait()
finally:
    say("never")
"""
    assert outcome(start(script), number) == (-number, [])
