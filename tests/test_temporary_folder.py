"""Temporary folders of commands, in real processes that end or are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wandb_tl import temporary_folder

USE = """
import os, subprocess, sys, tempfile
from pathlib import Path
from wandb_tl import temporary_folder
temporary_folder.use_own()
from multiprocessing import util
util.get_temp_dir()
Path(tempfile.mkdtemp(), "table.json").write_text("{}")
command = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == tempfile.gettempdir()
print("ready", flush=True)
sys.stdin.readline()
"""
# Of a person, of nobody, and of another machine.
OTHERS = ("of-somebody", "results", "of-node-2")
SHARE = """
import sys
from wandb_tl import temporary_folder
with temporary_folder.shared():
    print("ready", flush=True)
    sys.stdin.readline()
"""


def start(script: str, temporary: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_command_removes_its_folder_and_those_of_killed_ones_but_no_other(tmp_path):
    others = [tmp_path / name for name in ("tmpabc", *(temporary_folder.PREFIX + name for name in OTHERS))]
    for other in others:
        other.mkdir()
        for name in (temporary_folder.LOCK, "model.pt"):
            (other / name).touch()
    # On a file system of several machines.
    (others[-1] / temporary_folder.MARKER).write_text("node-2 7\n")
    killed, working = (start(USE, tmp_path) for _ in range(2))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == len(others) + 2
    last = start(USE, tmp_path)
    left = {path for path in tmp_path.iterdir() if path not in others}
    assert len(left) == 2 and all(list(path.glob("*/table.json")) for path in left)
    for process in (last, working):
        process.communicate("\n")
    assert sorted(tmp_path.iterdir()) == sorted(others)
    assert all((other / "model.pt").exists() for other in others)


def test_a_temporary_folder_whose_name_is_like_that_of_a_command_is_not_left(tmp_path):
    theirs, results = (tmp_path / f"{temporary_folder.PREFIX}{name}" for name in ("scratch", "results"))
    for folder in (theirs, results):
        folder.mkdir()
        (folder / temporary_folder.LOCK).touch()
    process = start(USE, theirs)
    [own] = theirs.glob(f"{temporary_folder.PREFIX}*")
    assert (own / temporary_folder.MARKER).exists()
    process.communicate("\n")
    assert sorted(tmp_path.iterdir()) == [results, theirs]
    assert all([path.name for path in folder.iterdir()] == ["lock"] for folder in (theirs, results))


def test_compiled_code_is_not_where_another_user_can_put_some(tmp_path):
    script = "import os; from wandb_tl import temporary_folder as t; t.use_own()\n"
    script += "print(os.environ['TORCHINDUCTOR_CACHE_DIR'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    environment |= {"TMPDIR": str(tmp_path), "WANDB_TL_CACHE": str(tmp_path / "mine")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'mine' / 'torchinductor'}\n"


def test_a_removal_that_was_cut_short_is_finished(tmp_path):
    killed = start(USE, tmp_path)
    [folder] = tmp_path.iterdir()
    killed.kill()
    killed.communicate()
    (folder / temporary_folder.LOCK).unlink()
    start(USE, tmp_path).communicate("\n")
    assert not list(tmp_path.iterdir())


def test_on_a_file_system_without_locks_a_command_has_no_folder_of_its_own(tmp_path):
    # No file system here lacks them: the system call answers as those that do.
    script = """
import errno, fcntl, os, sys, tempfile
def flock(*_):
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
fcntl.flock = flock
from wandb_tl import train
try:
    train.COMMAND.start(["--help"])
finally:
    print(tempfile.gettempdir(), os.environ["TMPDIR"], os.listdir(tempfile.gettempdir()))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.startswith("usage: ") and done.stdout.endswith(f"\n{tmp_path} {tmp_path} []\n")


def test_a_folder_stays_while_a_child_of_its_killed_process_uses_it(tmp_path):
    parent = start(USE, tmp_path)
    [folder] = tmp_path.iterdir()
    child = start(SHARE, folder)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    start(USE, tmp_path).communicate("\n")
    assert list(tmp_path.iterdir()) == [folder]
    child.communicate("\n")
    start(USE, tmp_path).communicate("\n")
    assert not list(tmp_path.iterdir())


def test_commands_inside_of_commands_have_folders_beside_each_other(tmp_path):
    parent = start(USE, tmp_path)
    [folder] = tmp_path.iterdir()
    child = start(USE, folder)
    assert len(list(tmp_path.iterdir())) == 2
    for process in (child, parent):
        process.communicate("\n")
    assert not list(tmp_path.iterdir())


def test_a_temporary_folder_that_cannot_be_written_is_one_line():
    # procfs takes no files, not even from the superuser.
    script = """
import tempfile
from wandb_tl import train
tempfile.tempdir = "/proc/self"
train.COMMAND.start([])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: the temporary folder /proc/self cannot be used: ")


@pytest.mark.parametrize("module", ["train", "run_sweep"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_while_it_starts_prints_no_traceback(module, number, tmp_path):
    # What happens to a command whose modules are not loaded yet.
    slow = f"""
import signal, sys, time
sys.argv[0], sys.orig_argv = "-m", ["python", "-W", "ignore", "-m", "wandb_tl.{module}"]
import wandb_tl
print("ready", flush=True)
time.sleep(100)
import wandb_tl.{module}"""
    process = subprocess.Popen(
        [sys.executable, "-c", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=100)
    # A shell calls this 130 and 143.
    assert process.returncode == -number and not err


@pytest.mark.parametrize("package", ["exper", "wandb_tlx"])
def test_another_program_that_imports_the_package_keeps_its_ctrl_c(package, tmp_path):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("import wandb_tl\n")
    (tmp_path / package / "run.py").write_text(
        "import signal\nprint(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    for words in ([], ["-m", "wandb_tl.train"]):
        command = [sys.executable, "-m", f"{package}.run", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.stdout == "True\n", done.stderr


def test_ctrl_c_in_a_command_of_the_server_ends_it_without_a_traceback(tmp_path):
    # Its stdin never ends.
    command = ["wandb_tl.local", "answer", "a/b/c", "-", "--root", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", *command],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "wandb_tl.local.answer" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in err, err
