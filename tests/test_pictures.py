"""From a folder of pictures, or an artifact of them, to runs: real processes and a real server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import warm_python
from PIL import Image

RECIPE = ("--model_name=mobilenetv3_small_050", "--pretrained=False", "--image_size=32", "--epochs=1")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """One folder of two classes, one darker than the other."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("oak, red", "pine")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.normal(90 + 60 * label, 30, (40, 56, 3)).clip(0, 255).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def run_sweep(server, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["-m", "wandb_tl.run_sweep", "pictures", *arguments]
    return warm_python.run(command, cwd=folder, env=server.env)


@pytest.mark.slow
def test_two_commands_take_a_folder_to_a_table_and_to_predictions(server, pictures, tmp_path):
    settings = ("image_size=32", "lr=0.001", "epochs=1", "batch_size=8", "model_name=mobilenetv3_small_050")
    more = [f"--set={setting}" for setting in (*settings, "pretrained=false", f"data_dir={pictures}")]
    done = run_sweep(server, tmp_path, *more, "--reports", "reports")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{pictures}: 40 pictures of 2 classes" in done.stdout and "oak, red" in done.stdout
    assert "2 runs finished" in done.stdout and "Val Accuracy" in done.stdout
    assert "A model that always answers the most frequent class has" in done.stdout
    assert (tmp_path / "reports" / "README.md").exists()
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("To classify pictures with the best model: ")
    assert last.endswith(f" PICTURES --local --root {server.root}")
    sweep = next(part for part in last.split() if part.startswith("local/"))
    command = ["-m", "wandb_tl.predict", sweep, str(pictures), "--local", f"--root={server.root}"]
    predicted = warm_python.run(command, cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    files = {line.split("  ")[0] for line in predicted.stdout.splitlines() if ".png" in line}
    assert {file.split("/")[0] for file in files} == {"oak, red", "pine"} and "ccuracy" in predicted.stdout


@pytest.mark.slow
def test_what_is_wrong_with_a_folder_is_said_before_there_is_a_sweep(server, pictures, tmp_path):
    (pictures / "pine" / "broken.jpg").write_bytes(b"<html>")
    missing = run_sweep(server, tmp_path, f"--set=data_dir={tmp_path}/nowhere")
    assert missing.returncode == 2 and missing.stderr.startswith("error: data_dir: there is no folder")
    broken = run_sweep(server, tmp_path, f"--set=data_dir={pictures}")
    assert broken.returncode == 2 and "pine/broken.jpg: not a picture" in broken.stderr
    assert "on_bad_image=skip" in broken.stderr
    batch = run_sweep(
        server, tmp_path, f"--set=data_dir={pictures}", "--set=on_bad_image=skip", "--set=batch_size=64"
    )
    assert batch.returncode == 2 and "batch_size: got 64, more than the training images" in batch.stderr
    for done in (missing, broken, batch):
        assert len(done.stderr.strip().splitlines()) == 1 and "Sweep local/" not in done.stdout


@pytest.mark.slow
def test_pictures_of_an_artifact_are_the_input_of_the_run(server, pictures, tmp_path):
    server.run(
        """
        import json, sys, wandb
        with wandb.init(project="leaves") as run:
            artifact = wandb.Artifact("leaves", type="dataset")
            artifact.add_dir(sys.argv[1])
            run.log_artifact(artifact)
        print(json.dumps(None))
        """,
        str(pictures),
    )
    command = ["-m", "wandb_tl.train", *RECIPE, "--batch_size=8"]
    done = warm_python.run(
        [*command, "--data_dir=artifact:local/leaves/leaves:latest"],
        cwd=tmp_path,
        env=server.env | {"WANDB_PROJECT": "leaves"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    used, table = server.run(
        """
        import json, wandb
        api = wandb.Api()
        (run,) = [run for run in api.runs("local/leaves") if "model_name" in run.config]
        used = [artifact.name for artifact in run.used_artifacts()]
        (file,) = [file for file in run.files() if "test_predictions" in file.name]
        print(json.dumps([used, json.load(file.download(root="leaves", exist_ok=True))]))
        """
    )
    assert used == ["leaves:v0"]
    assert "file" in table["columns"]
    assert {row[table["columns"].index("file")].split("/")[0] for row in table["data"]} == {
        "oak, red",
        "pine",
    }
    again = warm_python.run(
        [*command, "--data_dir=artifact:local/leaves/roots:latest"], cwd=tmp_path, env=server.env
    )
    assert again.returncode == 2 and again.stderr.splitlines()[-1].startswith(
        "error: data_dir: artifact local/leaves/roots"
    )
