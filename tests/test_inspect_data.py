"""python -m wandb_tl.inspect_data on real pictures: the files of a folder, and the labels of a run."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from live_server import Server, call
from PIL import Image

from wandb_tl import inspect_data
from wandb_tl.training import fashion_mnist

# Each of the Fashion-MNIST classes that hardly anybody confuses.
CLASSES = ("trouser", "bag", "ankle boot", "dress")
TRAIN = ("--model_name", "tf_efficientnet_lite0", "--image_size", "64", "--epochs", "1")
RUNS = """
import json, sys, wandb
runs = {}
for run in wandb.Api().runs(sys.argv[1]):
    runs[run.id] = {
        "job_type": run.job_type,
        "config": dict(run.config),
        "inputs": [artifact.name for artifact in run.used_artifacts()],
        "media": {k: v["_type"] for k, v in run.summary.items() if hasattr(v, "get") and "_type" in v},
    }
print(json.dumps(runs))
"""


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of four smooth pictures each, without splits."""
    rng = np.random.default_rng(0)
    for label in ("oak", "pine"):
        (tmp_path / "trees" / label).mkdir(parents=True)
        for number in range(4):
            small = Image.fromarray(rng.integers(0, 255, (5, 7, 3), dtype=np.uint8))
            picture = small.resize((120, 80 + number), Image.Resampling.BICUBIC)
            picture.save(tmp_path / "trees" / label / f"{number}.png")
    return tmp_path / "trees"


@pytest.mark.usefixtures("own_cache")
def test_good_files_lead_to_a_sweep(pictures: Path, capsys: pytest.CaptureFixture[str]):
    assert inspect_data.COMMAND.main([str(pictures), "--val_fraction", "0.3"]) == 0
    out = capsys.readouterr().out
    assert f"{pictures}: 8 pictures of 2 classes" in out
    assert "There is no val split" in out
    assert "Nothing is wrong with the files." in out
    assert out.endswith(f"run_sweep pictures --local --set data_dir={pictures} --set val_fraction=0.3\n")


@pytest.mark.usefixtures("own_cache")
def test_a_fold_is_held_out_as_a_run_does_it(pictures: Path, capsys: pytest.CaptureFixture[str]):
    assert inspect_data.COMMAND.main([str(pictures), "--fold", "2/2"]) == 0
    out = capsys.readouterr().out
    assert "There is no val split: part 2 of 2 of each class, chosen by content, is held out (" in out
    assert out.endswith(f"run_sweep pictures --local --set data_dir={pictures} --set fold=2/2\n")


@pytest.mark.usefixtures("own_cache")
def test_bad_files_are_listed_written_and_drawn(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    content = (pictures / "oak/0.png").read_bytes()
    (pictures / "oak/half.png").write_bytes(content[: len(content) // 2])
    shutil.copy(pictures / "oak/1.png", pictures / "pine/wrong.png")
    table, sheet = tmp_path / "findings.csv", tmp_path / "pairs.png"
    assert inspect_data.COMMAND.main([str(pictures), "--csv", str(table), "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    # The header of the first one is fine: only decoding its pixels shows what is wrong.
    assert "Unreadable (1)" in out and "oak/half.png: " in out
    assert "oak/1.png | pine/wrong.png: " in out
    assert out.splitlines()[-1].startswith("Correct the files, and look again: ")
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    assert {"unreadable", "two labels"} <= {row["kind"] for row in rows}
    with Image.open(sheet) as image:
        assert image.width >= 400 and image.height >= 200


@pytest.mark.usefixtures("own_cache")
def test_a_sheet_without_pairs_is_not_written(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert inspect_data.COMMAND.main([str(pictures), "--sheet", str(tmp_path / "pairs.png")]) == 0
    assert "is not written" in capsys.readouterr().out
    assert not (tmp_path / "pairs.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{folder}/nowhere"], "there is no folder"),
        (["{folder}", "--sheet", "{folder}/a.jpg"], "does not end with .png"),
        (["{folder}", "--csv", "{folder}/none/a.csv"], "cannot write"),
        (["{folder}", "--data_dir", "x"], "--data_dir is for a run"),
        (["{folder}", "--test_fraction", "1"], "test_fraction: got '1', takes a number > 0 and < 1"),
        (["me/project/run", "--val_fraction", "0.1"], "are for a PATH"),
        (["me/project/run", "--fold", "1/3"], "are for a PATH"),
        (["{folder}", "--local"], "is a path, which needs no server"),
        (["{folder}", "--fold", "4/3"], "fold: got 4/3, takes K/N with K from 1 to N, such as 2/5"),
        (["{folder}", "--fold", "1/3", "--val_fraction", "0.2"], "leave val_fraction out"),
        (["https://wandb.ai/me/project"], "takes ENTITY/PROJECT/RUN_ID"),
    ],
)
@pytest.mark.usefixtures("own_cache")
def test_bad_input_is_one_line(
    arguments: list[str], message: str, pictures: Path, capsys: pytest.CaptureFixture[str]
):
    filled = [argument.format(folder=pictures) for argument in arguments]
    assert inspect_data.COMMAND.main(filled) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_names_a_run_and_what_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my/pictures/here/oak").mkdir(parents=True)
    # wandb makes such a folder when it reads a run.
    (tmp_path / "me/project/abc").mkdir(parents=True)
    runs = ("me/project/abc", "me/project/other", "https://wandb.ai/me/project/runs/abc")
    paths = ("my/pictures/here", "./me/project/abc", "/me/project/abc", "~/my/pictures", "pictures", "a.csv")
    assert [inspect_data.is_run(target) for target in runs] == [True] * 3
    assert [inspect_data.is_run(target) for target in (*paths, "artifact:me/project/a:v0")] == [False] * 7


def test_cleanlab_is_asked_for_where_it_is_absent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in [name for name in sys.modules if name.partition(".")[0] == "cleanlab"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.delitem(sys.modules, "wandb_tl.analysis.label_errors", raising=False)
    monkeypatch.delattr("wandb_tl.analysis.label_errors", raising=False)
    assert inspect_data.COMMAND.main(["me/project/abc"]) == 2
    assert capsys.readouterr().err == (
        'error: label errors of a run need the package cleanlab: pip install "wandb-tl[inspect]", '
        "or uv run --extra inspect python -m wandb_tl.inspect_data\n"
    )


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory: pytest.TempPathFactory, fashion_mnist_cache: Path) -> tuple[Path, set[str]]:
    """400 pictures of four classes as files, and the names of the 20 whose class is wrong."""
    folder = tmp_path_factory.mktemp("clothes")
    (images, labels), _, names = fashion_mnist.load(fashion_mnist_cache)
    numbers = [names.index(name) for name in CLASSES]
    chosen = torch.isin(labels, torch.tensor(numbers)).nonzero().flatten()[:400].tolist()
    rng = np.random.default_rng(0)
    wrong = set(rng.choice(chosen, 20, replace=False).tolist())
    files = set()
    for number in chosen:
        label = numbers.index(labels[number])
        if number in wrong:
            label = (label + int(rng.integers(1, 4))) % 4
            files.add(f"{CLASSES[label]}/{number}.png")
        file = folder / CLASSES[label] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(images[number, 0].numpy()).save(file)
    return folder, files


@pytest.fixture(scope="module")
def trained(server: Server, mislabelled: tuple[Path, set[str]]) -> str:
    """The path of a run that was trained on the mislabelled pictures."""
    data = ("--data_dir", str(mislabelled[0]))
    code, out = call(server, "wandb_tl.train", *TRAIN, *data, WANDB_PROJECT="labels")
    assert code == 0, out
    [run_id] = server.run(RUNS, "labels")
    return f"local/labels/{run_id}"


def inspect(server: Server, *arguments: Any, **variables: str) -> tuple[int, str]:
    return call(server, "wandb_tl.inspect_data", *map(str, arguments), **variables)


@pytest.mark.slow
def test_wrong_labels_of_a_run_are_found_and_logged(
    server: Server, trained: str, mislabelled: tuple[Path, set[str]], tmp_path: Path
):
    table, sheet = tmp_path / "doubts.csv", tmp_path / "doubts.png"
    code, out = inspect(server, trained, "--csv", table, "--sheet", sheet)
    assert code == 0, out
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    doubted = [row["file"] for row in rows if row["kind"] == "label error"]
    hits = mislabelled[1] & set(doubted)
    # Recall and precision.
    assert len(hits) >= 0.6 * len(mislabelled[1]) and len(hits) >= 0.7 * len(doubted)
    assert doubted[0] in out
    with Image.open(sheet) as image:
        assert image.width > 1000

    runs = server.run(RUNS, "labels")
    run_id = trained.rpartition("/")[2]
    [logged] = [run for run in runs.values() if run["job_type"] == "inspect_data"]
    assert logged["inputs"] == [f"model-{run_id}:v0"]
    assert logged["config"]["inspected_run"] == trained
    assert logged["media"]["label_errors"] == "table-file"
    assert logged["media"]["suspicious_pictures"] == "image-file"

    # The table of the project does not count it as a run whose results are missing.
    code, out = call(server, "wandb_tl.export_table", "local/labels")
    assert code == 0 and "Left out" not in out, out


@pytest.mark.slow
def test_pictures_that_have_moved_and_changed(
    server: Server, trained: str, mislabelled: tuple[Path, set[str]], tmp_path: Path
):
    moved = tmp_path / "moved"
    shutil.copytree(mislabelled[0], moved)
    shutil.rmtree(moved / "dress")
    code, out = inspect(server, trained, "--data_dir", moved, WANDB_MODE="disabled")
    assert code == 0, out
    assert "The data has changed: train_images was " in out
    assert "The classes have changed: new none; gone dress." in out
    assert "Not logged: WANDB_MODE is not online." in out

    code, out = inspect(server, trained, "--data_dir", tmp_path / "elsewhere")
    assert code == 2
    assert f"data_dir: {tmp_path / 'elsewhere'} of the run is not here" in out


@pytest.mark.slow
def test_runs_that_cannot_be_inspected(server: Server, trained: str):
    elsewhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "", "WANDB_TL_ROOT": ""}
    code, out = inspect(server, "local/labels/none", "--local", "--root", server.root, **elsewhere)
    assert (code, out) == (
        2,
        "error: local/labels/none: there is no such run on the server; wandb sync uploads an offline run\n",
    )
    script = """
        import json, wandb
        with wandb.init(project="labels", config={"lr": 1}) as run:
            print(json.dumps(run.id))
    """
    other = f"local/labels/{server.run(script)}"
    assert inspect(server, other) == (2, f"error: {other}: is not a run of wandb_tl.train\n")


@pytest.mark.slow
def test_images_that_are_not_files_have_numbers(server: Server, tmp_path: Path):
    limits = ("--train_limit", "128", "--test_limit", "40")
    code, out = call(server, "wandb_tl.train", *TRAIN, *limits, WANDB_PROJECT="numbers")
    assert code == 0, out
    [run_id] = server.run(RUNS, "numbers")
    table = tmp_path / "doubts.csv"
    code, out = inspect(server, f"local/numbers/{run_id}", "--csv", table, WANDB_MODE="disabled")
    assert code == 0, out
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    assert rows and all(row["file"].startswith(f"{row['split']} ") for row in rows)
