"""python -m wandb_tl.predict and load_model: the models of real runs, and the pictures that they see."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import warm_python
from live_server import call
from PIL import Image
from warm_python import WarmProcess

from wandb_tl import predict
from wandb_tl.errors import InputError
from wandb_tl.predict import load_model

LITE0 = ("--model_name=tf_efficientnet_lite0", "--image_size=32", "--epochs=1", "--batch_size=8")
CLASSES = ("moss", "sand", "sky")


def draw(folder: Path, per_class: int, seed: int = 0) -> None:
    """Noisy pictures in one folder per class, whose colours overlap so that no model is always right."""
    rng = np.random.default_rng(seed)
    colours = {"moss": (110, 140, 110), "sand": (140, 130, 110), "sky": (110, 130, 140)}
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            noise = rng.normal(colours[label], 60, (9, 11, 3)).clip(0, 255).astype(np.uint8)
            picture = Image.fromarray(noise).resize((44, 36), Image.Resampling.BILINEAR)
            picture.save(folder / label / f"{number}.png")


def draw_grey(folder: Path) -> None:
    """Pictures of 12 bits of two classes, in files of 16."""
    rng = np.random.default_rng(0)
    for label, mean in (("dark", 700), ("light", 2900)):
        (folder / label).mkdir(parents=True)
        for number in range(12):
            values = rng.normal(mean, 200, (36, 36)).clip(0, 4095).astype(np.uint16)
            Image.fromarray(values).save(folder / label / f"{number}.png")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, fashion_mnist_cache) -> Iterator[SimpleNamespace]:
    """Trains offline in a folder of its own, and predicts there in this process."""
    folder = tmp_path_factory.mktemp("lab")
    draw(folder / "whole", 30)
    for split, count in (("train", 20), ("test", 20)):
        draw(folder / "split" / split, count, seed=count + len(split))
    draw_grey(folder / "grey")
    variables = {
        "WANDB_TL_CACHE": str(folder / "cache"),
        "CUDA_VISIBLE_DEVICES": "",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_SILENT": "true",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    environment |= variables

    def train(run_id: str, *options: str) -> tuple[str, Path]:
        command = ["-m", "wandb_tl.train", *LITE0, *options]
        done = warm_python.run(command, cwd=folder, env=environment | {"WANDB_RUN_ID": run_id})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1], folder / "models" / run_id

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_TL_CACHE", str(folder / "cache"))
        yield SimpleNamespace(folder=folder, environment=environment, train=train)


@pytest.fixture(scope="module")
def model(lab) -> Path:
    """The model folder of a run on `whole`, whose test pictures are held out by content."""
    # Its export computes in fp32, and would differ from a run in bf16.
    last_line, folder = lab.train("head", "--data_dir=whole", "--val_fraction=0.2", "--precision=fp32")
    command = f"{sys.executable} -m wandb_tl.predict models/head PICTURES"
    assert last_line == f"Model: models/head. To classify pictures with it: {command}"
    return folder


def predicted(capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    code = predict.COMMAND.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def accuracy_line(folder: Path, images: int) -> str:
    """What the command says if it is as often right as the run was."""
    percent = json.loads((folder / "config.json").read_text())["results"]["test_accuracy"]
    hits = round(percent * images / 100)
    assert 100 * hits / images == percent and 0 < hits < images, "the pictures are too easy or too hard"
    return f"Accuracy: {percent:.2f} % ({hits} of {images} pictures), 95 % interval "


@pytest.mark.slow
def test_the_own_data_of_a_run_give_its_test_accuracy(lab, model, capsys, monkeypatch):
    monkeypatch.chdir(lab.folder)
    description = json.loads((model / "config.json").read_text())
    assert description["format"] == 2 and description["class_names"] == list(CLASSES)
    assert 0 <= description["results"]["val_accuracy"] <= 100
    code, out, err = predicted(capsys, model, "whole")
    lines = out.splitlines()
    images = lines.index("") - 1
    assert code == 0 and f"whole: the {images} test pictures of the run are classified" in err
    assert lines[images + 2].startswith(accuracy_line(model, images))
    assert lines[images + 3].startswith("A model that always answers ")
    assert lines[images + 4].startswith("Most frequent mistakes: ")


@pytest.mark.slow
def test_an_exported_file_classifies_without_pytorch_and_without_this_package(
    lab, model, tmp_path, capsys, monkeypatch
):
    import onnxruntime

    monkeypatch.chdir(lab.folder)
    code, out, err = predicted(capsys, model, "whole", "--export", "onnx", "--format", "json")
    exported = lab.folder / "exported/head"
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and "Exported: exported/head/model.onnx (" in err
    assert f"on random images in batches of 1 and 8 and on {len(rows)} pictures.\n" in err
    command = f"{sys.executable} -m wandb_tl.predict exported/head/model.onnx PICTURES"
    assert err.rstrip().endswith(f"To classify pictures with it: {command}")
    percent = accuracy_line(model, len(rows))
    assert percent in err
    # The file knows the test pictures of its run, as the model folder does.
    code, out, _ = predicted(capsys, exported, "whole")
    assert code == 0 and percent in out
    # A Python whose only packages are those that the script needs.
    for name in ("onnxruntime", "numpy", "numpy.libs", "PIL", "pillow.libs"):
        package = Path(onnxruntime.__file__).parents[1] / name
        if package.exists():
            (tmp_path / name).symlink_to(package)
    shutil.copy(exported / "classify.py", tmp_path)
    shutil.copy(exported / "model.onnx", tmp_path)
    names = [row["picture"] for row in rows]
    script = f"import sys; sys.path += [{str(tmp_path)!r}]; import classify; classify.main({names!r})"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"{script}; assert not {{'torch', 'wandb_tl'}} & set(sys.modules)",
        ],
        cwd="whole",
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for line, row in zip(done.stdout.splitlines(), rows, strict=True):
        name, *cells = line.split("\t")
        probabilities = dict(zip(cells[::2], map(float, cells[1::2]), strict=True))
        assert name == row["picture"] and cells[0] == row["label"]
        assert probabilities == pytest.approx(row["top"], abs=1e-4)
    by_run = load_model(model)([Path("whole", name) for name in names])
    for prediction, row in zip(by_run, rows, strict=True):
        assert prediction.probabilities == pytest.approx(row["top"], abs=1e-4)


@pytest.mark.slow
def test_a_reader_that_ends_early_is_no_error(lab, model):
    command = ["-m", "wandb_tl.predict", str(model), "whole", "--format=json"]
    process = WarmProcess(command, lab.folder, lab.environment)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0 and "BrokenPipe" not in errors and "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("finetuned", ["--finetuning=True", "--lr=0.0001"]),
        ("bf16", ["--precision=bf16", "--finetuning=True", "--lr=0.0001"]),
        ("random", ["--pretrained=False", "--norm=batch"]),
        ("limited", ["--test_limit=30", "--resize=pad"]),
    ],
)
def test_a_folder_with_splits_gives_the_test_accuracy_of_the_run(name, options, lab, capsys):
    _, folder = lab.train(name, "--data_dir=split", *options)
    images = 30 if name == "limited" else 60
    # The run had the path below its own folder, and knows its pictures elsewhere.
    moved = lab.folder / f"moved {name}"
    shutil.copytree(lab.folder / "split", moved)
    for place in (lab.folder / "split", moved):
        code, out, err = predicted(capsys, folder, place)
        assert code == 0 and f"{place}: the {images} test pictures of the run are classified" in err
        assert accuracy_line(folder, images) in out
    if name == "limited":
        return
    # The folder of the test pictures alone has no splits.
    code, out, err = predicted(capsys, folder, moved / "test")
    assert code == 0 and f"{moved}/test: all 60 pictures are classified" in err
    assert accuracy_line(folder, 60) in out
    rows = [f"{file.relative_to(moved)},{file.parent.name}" for file in moved.glob("test/*/*.png")]
    (moved / "labels.csv").write_text("\n".join(["path,label", *rows]))
    code, out, _ = predicted(capsys, folder, moved / "labels.csv")
    assert code == 0 and accuracy_line(folder, 60) in out
    # Other pictures, in a folder of the same form.
    (moved / "test/sky/0.png").unlink()
    code, out, err = predicted(capsys, folder, moved)
    assert code == 0 and f"{moved}: its 59 test pictures are classified" in err
    assert " of 59 pictures)" in out


@pytest.mark.slow
def test_python_takes_paths_images_and_arrays(lab, model):
    file = lab.folder / "whole/sky/0.png"
    classifier = load_model(model)
    with Image.open(file) as image:
        pictures = [str(file), file, image, np.asarray(image), np.asarray(image.convert("RGBA"))]
        predictions = classifier(pictures)
    first = predictions[0]
    assert [one.name for one in predictions] == [str(file), str(file), "2", "3", "4"]
    for one in predictions:
        assert one.probabilities == pytest.approx(first.probabilities, abs=1e-6) and not one.problem
    assert next(iter(first.probabilities)) == first.label and set(first.probabilities) == set(CLASSES)
    assert first.probability == first.probabilities[first.label] == max(first.probabilities.values())
    assert sum(first.probabilities.values()) == pytest.approx(1)
    with pytest.raises(InputError, match="takes a list of pictures"):
        classifier(str(file))
    assert classifier([]) == []


@pytest.mark.slow
def test_what_is_no_picture_is_a_prediction_with_its_problem(lab, model):
    complex_values, film = np.zeros((4, 4), complex), np.zeros((2, 4, 4, 3), np.uint8)
    problems = [
        one.problem
        for one in load_model(model)(["nowhere.png", complex_values, film, Image.new("La", (4, 4)), 3])
    ]
    assert problems[0] == "cannot be opened: No such file or directory"
    assert problems[1].startswith("array of complex128 (4, 4): takes uint8")
    assert problems[2].startswith("array of uint8 (2, 4, 4, 3): takes uint8")
    assert problems[3] == "" and problems[4] == "int: takes a path, a PIL image or an array"


@pytest.mark.slow
def test_batches_do_not_change_the_predictions(lab, model):
    files = sorted(lab.folder.glob("whole/*/*.png"))
    by_one, together = load_model(model, batch_size=1), load_model(model)
    for one, other in zip(by_one(files[:20]), together(files[:20]), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)


@pytest.mark.slow
def test_a_folder_without_classes_is_classified_as_it_lies(lab, model, tmp_path, capsys):
    album = tmp_path / "album"
    (album / "2026/may").mkdir(parents=True)
    for number, place in enumerate(["b.png", "2026/a.PNG", "2026/may/no ending"]):
        shutil.copy(lab.folder / f"whole/sky/{number}.png", album / place)
    (album / ".hidden.png").touch()
    (album / "notes.txt").write_text("not a picture")
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    code, out, err = predicted(capsys, model, album, "--format", "json", "--top_k", "2")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and f"{album}: left out: hidden files (1), files that are not pictures (1)\n" in err
    assert [row["picture"] for row in rows] == ["2026/a.PNG", "2026/may/no ending", "b.png", "broken.jpg"]
    for row in rows[:3]:
        assert row["label"] in CLASSES and row["problem"] is None and "actual" not in row
        assert next(iter(row["top"])) == row["label"] and len(row["top"]) == 2
    assert rows[3]["label"] is None and rows[3]["problem"]
    # Only the broken one, by its name.
    code, out, _ = predicted(capsys, model, album / "broken.jpg")
    assert code == 1 and f"{album}/broken.jpg"[:60] in out and "cannot be read: " in out


@pytest.mark.slow
def test_classes_of_another_model_give_no_accuracy(lab, model, tmp_path, capsys):
    shutil.copytree(lab.folder / "whole", tmp_path / "other")
    (tmp_path / "other/sky").rename(tmp_path / "other/heaven")
    code, out, err = predicted(capsys, model, tmp_path / "other")
    assert code == 0 and "Accuracy" not in out and len(out.splitlines()) == 91
    assert "no accuracy, because these are not classes of the model: heaven" in err


@pytest.mark.slow
def test_csv_parses_back_and_scores_are_beside_it(lab, model, tmp_path, capsys):
    draw(tmp_path / "new", 3, seed=7)
    (tmp_path / 'new/sky/with, "comma.png').write_bytes(b"")
    code, out, err = predicted(capsys, model, tmp_path / "new", "--format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 10
    assert rows[-1]["picture"] == 'sky/with, "comma.png' and rows[-1]["problem"] == "empty file"
    hits = 0
    for row in rows[:-1]:
        assert {row["label"], row["label_2"], row["label_3"]} == set(CLASSES)
        assert float(row["probability"]) >= float(row["probability_2"]) >= float(row["probability_3"])
        hits += row["actual"] == row["label"]
    assert f"({hits} of 9 pictures)" in err and "Not counted, because they cannot be read: 1" in err


@pytest.mark.slow
def test_stdin_is_one_picture(lab, model):
    file = lab.folder / "whole/moss/3.png"
    command = [sys.executable, "-m", "wandb_tl.predict", str(model), "-", "--format=json"]
    done = subprocess.run(command, env=lab.environment, input=file.read_bytes(), capture_output=True)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    (expected,) = load_model(model)([file])
    assert row["picture"] == "-" and row["label"] == expected.label
    assert row["probability"] == pytest.approx(expected.probability, abs=1e-5)


@pytest.mark.slow
def test_deep_grey_pictures_are_shown_as_in_training(lab):
    _, folder = lab.train("grey", "--data_dir=grey")
    assert json.loads((folder / "config.json").read_text())["grey_levels"]["integer"] == [0.0, 4095.0]
    classifier = load_model(folder)
    file = lab.folder / "grey/dark/0.png"
    with Image.open(file) as image:
        values = np.asarray(image)
    # Alone, a dark picture would have levels of its own.
    by_hand = (values * (255 / 4095)).round().astype(np.uint8)
    probabilities = [one.probabilities for one in classifier([file, values, by_hand])]
    assert probabilities[0] == probabilities[1] == pytest.approx(probabilities[2], abs=1e-6)
    brighter = (values.astype(float) * 255 / 1023).clip(0, 255).round().astype(np.uint8)
    assert classifier([brighter])[0].probabilities != pytest.approx(probabilities[0], abs=1e-3)


@pytest.mark.slow
def test_bad_input_is_one_line(lab, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "")
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.csv").write_text("path,label\n")
    (tmp_path / "file").touch()
    for arguments, message in (
        ((model, "nowhere.png"), "nowhere.png: there is no such file or folder; see"),
        ((model, tmp_path / "empty"), "there are no pictures"),
        ((model, tmp_path / "labels.csv"), "labels.csv has no rows"),
        ((tmp_path, tmp_path), "config.json: No such file or directory"),
        ((tmp_path / "none", tmp_path), "there is no such folder; takes a model folder, ENTITY/"),
        ((tmp_path / "file", tmp_path), "there is no such folder; takes a model folder, ENTITY/"),
        (("one/two", tmp_path), "one/two: takes a model folder, ENTITY/PROJECT/RUN"),
        ((model, tmp_path, "--top_k=0"), "--top_k: got '0', takes a whole number >= 1"),
        ((model, tmp_path, "--batch_size=x"), "--batch_size: got 'x', takes a whole number >= 1"),
    ):
        code, out, err = predicted(capsys, *arguments)
        assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, err
        assert message in err


@pytest.mark.slow
def test_a_weights_file_that_was_overwritten_is_refused(lab, capsys):
    from safetensors.torch import load_file, save_file

    from wandb_tl.training import weights

    file = lab.folder / "weights.safetensors"
    tensors = {name: tensor.contiguous() for name, tensor in weights.load("tf_efficientnet_lite0").items()}
    save_file(tensors, file)
    _, folder = lab.train(
        "file", "--data_dir=split", "--weights_file=weights.safetensors", "--save_weights=trained"
    )
    picture = lab.folder / "whole/sky/0.png"
    # The name of the file is as the run had it, below its folder.
    code, _, err = predicted(capsys, folder, picture)
    assert code == 2 and "no file weights.safetensors" in err
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab.folder)
        assert predicted(capsys, folder, picture)[0] == 0
        save_file({name: tensor * 1.01 for name, tensor in load_file(file).items()}, file)
        code, _, err = predicted(capsys, folder, picture)
    assert code == 2 and err.count("\n") == 1
    assert "weights.safetensors has other weights now than when the model was trained" in err


@pytest.mark.slow
def test_a_disabled_run_leaves_its_model_too(lab, capsys, monkeypatch):
    monkeypatch.setitem(lab.environment, "WANDB_MODE", "disabled")
    _, folder = lab.train("disabled", "--data_dir=split")
    code, out, _ = predicted(capsys, folder, lab.folder / "split")
    assert code == 0 and accuracy_line(folder, 60) in out


@pytest.mark.long
def test_runs_sweeps_and_artifacts_of_a_server(server):
    folder = server.folder / "client"
    draw(folder / "split/train", 20)
    draw(folder / "split/test", 20, seed=1)
    lite0 = {"model_name": "tf_efficientnet_lite0", "image_size": 32, "epochs": 1, "batch_size": 8}
    fixed = {
        name: {"value": value} for name, value in {**lite0, "data_dir": "split", "dataset": "folder"}.items()
    }
    definition = {
        "program": "wandb_tl.train",
        "method": "grid",
        "parameters": fixed | {"lr": {"values": [0.003, 1e-7]}},
        "command": ["${interpreter}", "-m", "wandb_tl.train", "${args}"],
    }
    script = """
    import json, sys, wandb
    print(json.dumps(wandb.sweep(json.loads(sys.argv[1]), project="shapes")))
    """
    sweep = server.run(script, json.dumps(definition))
    code, out = call(server, "wandb_tl.agent", f"local/shapes/{sweep}")
    assert code == 0, out
    script = """
    import json, wandb
    runs = wandb.Api().runs("local/shapes")
    print(json.dumps({run.id: run.summary["test_accuracy"] for run in runs}))
    """
    accuracies = server.run(script)
    best = max(accuracies, key=accuracies.get)
    assert f"Model: local/shapes/{best}. To classify" in out and not (folder / "models").exists()
    names = (
        f"local/shapes/{best}",
        f"{server.url}/local/shapes/runs/{best}",
        f"local/shapes/{sweep}",
        f"local/shapes/model-{best}:latest",
    )
    for name in names:
        code, out = call(server, "wandb_tl.predict", name, "split")
        assert code == 0 and f"Accuracy: {accuracies[best]:.2f} % (" in out, out
        chosen = re.search(
            rf"The best run of local/shapes/{sweep} by test accuracy: local/shapes/(\w+) \(", out
        )
        assert bool(chosen) == (sweep in name)
        # Two runs may be equally good.
        assert not chosen or accuracies[chosen[1]] == accuracies[best]
    code, out = call(server, "wandb_tl.predict", f"local/shapes/{sweep}", "--link_model", "best-shapes")
    linked = r"Linked: local/shapes/model-\w+:v0 is local/wandb-registry-model/best-shapes:v0 now, see http"
    assert code == 0 and re.search(linked, out), out
    script = """
    import json, wandb
    print(json.dumps(wandb.Api().artifact("wandb-registry-model/best-shapes:latest").source_name))
    """
    source = server.run(script)
    assert accuracies[source.removeprefix("model-").removesuffix(":v0")] == accuracies[best]
    for name, message in (
        ("local/shapes/nothing", "there is no such run or sweep on the server"),
        (f"{server.url}/local/shapes/runs/nothing", "there is no such run on the server"),
    ):
        code, out = call(server, "wandb_tl.predict", name, "split")
        errors = [line for line in out.splitlines() if not line.startswith("wandb: ")]
        assert code == 2 and len(errors) == 1 and message in errors[0], out
