"""A run that is preempted on one machine resumes on another, which has only the copy on the server."""

import json
from pathlib import Path

import pytest
from live_server import REPOSITORY, Server, call, sqlite

SETTINGS = {"train_limit": 64, "test_limit": 64, "epochs": 4, "batch_size": 32, "image_size": 32}
SETTINGS |= {"model_name": "test_resnet", "pretrained": False, "finetuning": False, "optimizer": "Adam"}
FLAGS = [f"--{name}={value}" for name, value in SETTINGS.items()]
COPY = "SELECT count(*) FROM file WHERE name = 'checkpoint.pt'"


def state(server: Server, run: str) -> object:
    return sqlite(server, f"SELECT state FROM run WHERE name = '{run}'")


def summary(server: Server, run: str) -> dict[str, float]:
    values = json.loads(str(sqlite(server, f"SELECT summary FROM run WHERE name = '{run}'")))
    return {name: values[name] for name in ("avg_train_loss", "avg_train_accuracy", "test_accuracy")}


@pytest.mark.long
def test_a_preempted_run_resumes_on_another_machine(server, run_variables, tmp_path):
    script = (REPOSITORY / "tests" / "terminated_run.py").read_text(encoding="utf-8")
    first = server.spawn(script, *FLAGS, WANDB_RUN_ID="moved")
    out, err = first.communicate(timeout=240)
    assert state(server, "moved") == "preempted" and sqlite(server, COPY) == 1, out + err
    # A cache without its checkpoint.
    other = run_variables(tmp_path / "cache") | {"WANDB_RUN_ID": "moved"}
    code, out = call(server, "wandb_tl.train", *FLAGS, **other)
    assert code == 0 and "resuming after epoch 2" in out, out
    assert state(server, "moved") == "finished" and sqlite(server, COPY) == 0
    assert not list(Path(other["WANDB_TL_CACHE"]).glob("checkpoints/*.pt"))
    # Each epoch once, then a row of figures and one of Tables.
    rows = sqlite(server, "SELECT count(*) FROM stream_line WHERE stream = 'wandb-history.jsonl'")
    assert rows == SETTINGS["epochs"] + 2
    code, out = call(server, "wandb_tl.train", *FLAGS, WANDB_RUN_ID="undisturbed")
    assert code == 0 and summary(server, "undisturbed") == summary(server, "moved"), out


def test_a_finished_run_ends_well_when_the_process_of_wandb_is_dead(server):
    script = """
    import json, psutil, wandb
    from wandb_tl.training.checkpoint_copy import CheckpointCopy

    with wandb.init(id="dead", project="copies") as run:
        copy = CheckpointCopy(run)
    copy._exists = True
    [process] = [child for child in psutil.Process().children() if "core" in child.name()]
    process.kill()
    copy.discard()
    print(json.dumps(copy._file is not None))
    """
    assert server.run(script) is True


TIMED = """
import json, os, pathlib, time, torch, wandb
from wandb_tl.training import checkpoint_copy
from wandb_tl.training.checkpoint_copy import CheckpointCopy
from wandb_tl.training.checkpoints import Checkpoint, Progress

def checkpoint(run, cache):
    os.environ["WANDB_TL_CACHE"] = str(cache)
    return Checkpoint(("copies", "timed"), {}, CheckpointCopy(run), layer=torch.nn.Linear(2, 2))

def uploaded():
    files = {file.name: file.size for file in wandb.Api().run("local/copies/timed").files()}
    return files.get("checkpoint.pt")

def save(epochs):
    first.save(Progress(rows=[{"epoch": 1}] * epochs))

with wandb.init(id="timed", project="copies") as run:
    first = checkpoint(run, "first")
    first.load()
    save(1)
    checkpoint_copy.PAUSE_SECONDS, checkpoint_copy.BYTES_PER_SECOND = 1, 10**9
    time.sleep(1)
    save(2)
    size = first.path.stat().st_size
    # During the run.
    for _ in range(2000):
        if uploaded():
            break
        time.sleep(0.1)
    checkpoint_copy.PAUSE_SECONDS = 300
    save(3)
    answer = {"size": uploaded() == size}
with wandb.init(id="timed", project="copies", resume="must") as run:
    answer["elsewhere"] = len(checkpoint(run, "second").load().rows)
    pathlib.Path("file").touch()
    nowhere = checkpoint(run, "file")
    answer["nowhere"] = len(nowhere.load().rows)
    nowhere.discard()
print(json.dumps(answer))
"""


def test_a_long_run_uploads_its_checkpoint_now_and_then(server):
    # After the second epoch, but not already again after the third.
    assert server.run(TIMED) == {"size": True, "elsewhere": 2, "nowhere": 0}


def test_a_damaged_copy_is_not_used_and_the_run_says_so(server):
    script = """
    import contextlib, io, json, os, pathlib, torch, wandb
    from wandb_tl.training.checkpoint_copy import CheckpointCopy
    from wandb_tl.training.checkpoints import Checkpoint

    os.environ["WANDB_TL_CACHE"] = os.path.abspath("cache")
    with wandb.init(id="damaged", project="copies") as run:
        pathlib.Path(run.dir, "checkpoint.pt").write_bytes(b"PK half a file")
        run.save(os.path.join(run.dir, "checkpoint.pt"), base_path=run.dir, policy="now")
    said = io.StringIO()
    with wandb.init(id="damaged", project="copies", resume="must") as run:
        checkpoint = Checkpoint(("copies", "damaged"), {}, CheckpointCopy(run), layer=torch.nn.Linear(2, 2))
        with contextlib.redirect_stdout(said):
            rows = checkpoint.load().rows
    print(json.dumps([said.getvalue(), rows]))
    """
    said, rows = server.run(script)
    assert (
        said.startswith("the checkpoint of the server is not used: ") and "checkpoint.pt: ends early" in said
    )
    assert said.count("\n") == 1 and rows == []
