"""python -m wandb_tl.soup on real sweeps: what is averaged, that it is no worse, and that it classifies."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from live_server import Server, call
from test_predict import CLASSES, draw

from wandb_tl import soup

# Two runs that end near each other, with each of two seeds.
NEAR = {"lr": {"values": [0.0005, 0.00051]}, "seed": {"values": [0, 1]}}
# One run learns; the other moves its weights so far that the mean of both is like it. The network has no
# BatchNorms, whose statistics could be estimated anew.
FAR = {
    "model_name": {"value": "test_vit"},
    "pretrained": {"value": False},
    "lr": {"values": [0.003, 3.0]},
    "epochs": {"value": 5},
}
SMALL = {
    "model_name": "tf_efficientnet_lite0",
    "image_size": 32,
    "epochs": 2,
    "batch_size": 32,
    "precision": "fp32",
    "finetuning": True,
    "val_fraction": 0.2,
}
SWEEP = """
import json, sys, wandb
definition = {"method": "grid", "parameters": json.loads(sys.argv[1]), "program": "wandb_tl/train.py"}
definition["command"] = ["${env}", "python", "-m", "wandb_tl.train", "${args}"]
print(json.dumps(wandb.sweep(definition, project="soups")))
"""
# A soup and its ingredients as the server has them, and its validation accuracy and weights once more.
READ = """
import json, sys, torch, wandb
from safetensors.torch import load_file
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.predicting.run_network import RunNetwork
from wandb_tl.training import datasets, devices, model_folder, tracking

def val_accuracy(folder, data):
    network = RunNetwork(model_folder.load(folder), torch.device("cpu"))
    logits = torch.cat([network(images) for images in data.val.images.split(network.batch_size)])
    return 100 * int((logits.argmax(1) == data.val.labels).sum()) / len(data.val)

run = wandb.Api().run(sys.argv[1])
[model] = [artifact for artifact in run.logged_artifacts() if artifact.type == "model"]
used = {artifact.logged_by().id: artifact for artifact in run.used_artifacts()}
folders = {name: tracking.download_model(artifact) for name, artifact in used.items()}
own = tracking.download_model(model)
config = RunConfig.from_mapping({name: run.config[name] for name in FIELDS})
data = datasets.load(config, say=lambda line: None)
tensors = load_file(own / "model.safetensors")
parts = [load_file(folder / "model.safetensors") for folder in folders.values()]
weights = [name for name in tensors if "running_" not in name and "num_batches" not in name]
means = {name: torch.stack([part[name].double() for part in parts]).mean(0) for name in weights}
difference = max((tensors[name].double() - means[name]).abs().max().item() for name in weights)
norms = [name for name in tensors if "running_" in name]
print(json.dumps({
    "job_type": run.job_type, "sweep": run.sweep and run.sweep.id, "state": run.state,
    "config": {"ingredients": run.config["ingredients"], "soup_of": run.config["soup_of"]},
    "summary": {name: run.summary[name] for name in run.summary.keys() if name[0] not in "_s"},
    "used_by": {name: [one.id for one in artifact.used_by()] for name, artifact in used.items()},
    "ingredients": {name: val_accuracy(folder, data) for name, folder in folders.items()},
    "val_accuracy": val_accuracy(own, data),
    "description": model_folder.read_description(own).results,
    "names": [sorted(part) == sorted(tensors) for part in parts], "difference": difference,
    "moved": max((parts[0][name] - parts[-1][name]).abs().max().item() for name in weights),
    "norms": {name: tensors[name].isfinite().all().item() for name in norms},
}))
"""
RUNS = """
import json, sys, wandb
try:
    runs = list(wandb.Api().runs("soups", {"sweep": sys.argv[1]} if len(sys.argv) > 1 else {}))
except ValueError:
    # Before its first run, there is no such project.
    runs = []
print(json.dumps({run.id: [run.config["seed"], run.summary.get("val/accuracy")] for run in runs}))
"""


@dataclass(frozen=True)
class Soup:
    """What the command says about a sweep. path: local/soups/RUN of the model that it names."""

    sweep: str
    out: str
    path: str


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soups") / "pictures"
    draw(folder, 70)
    return folder


def sweep_of(server: Server, pictures: Path, parameters: dict[str, Any]) -> str:
    """The path of a sweep on the pictures whose runs have finished."""
    own = {"dataset": "folder", "data_dir": str(pictures)}
    fixed = {name: {"value": value} for name, value in (SMALL | own).items()}
    path = f"local/soups/{server.run(SWEEP, json.dumps(fixed | parameters))}"
    code, out = call(server, "wandb_tl.agent", path)
    assert code == 0, out
    return path


def make(server: Server, sweep: str) -> Soup:
    code, out = call(server, "wandb_tl.soup", sweep)
    assert code == 0, out
    path = re.fullmatch(
        r"Model: (\S+)\. To classify pictures with it: .* -m wandb_tl\.predict (\S+) PICTURES",
        out.splitlines()[-1],
    )
    assert path and path[1] == path[2], out
    return Soup(sweep, out, path[1])


@pytest.fixture(scope="module")
def near(server: Server, pictures: Path) -> Soup:
    return make(server, sweep_of(server, pictures, NEAR))


@pytest.fixture(scope="module")
def read(server: Server, near: Soup) -> dict[str, Any]:
    """What READ says about it."""
    return server.run(READ, near.path)


@pytest.mark.slow
def test_a_soup_is_the_mean_of_its_ingredients_and_no_worse_on_validation_images(
    server: Server, near: Soup, read: dict[str, Any]
):
    runs = server.run(RUNS, near.sweep.rpartition("/")[2])
    best = min(runs, key=lambda run: (-runs[run][1], run))
    seed = runs[best][0]
    assert read["difference"] < 1e-6 < read["moved"] and all(read["names"])
    assert read["norms"] and all(read["norms"].values())
    names = [f"local/soups/{name}" for name in read["ingredients"]]
    assert len(names) >= 2 and all(runs[name][0] == seed for name in read["ingredients"])
    # Lineage, from both ends.
    own = near.path.rpartition("/")[2]
    assert all(own in users for users in read["used_by"].values())
    assert sorted(read["config"]["ingredients"]) == sorted(names)
    assert read["config"]["soup_of"] == near.sweep
    summary = read["summary"]
    assert summary["ingredient_count"] == len(names) and summary["best_run"] in names
    # The same numbers as the model gives when it is loaded again, and the run when it was trained.
    assert summary["val_accuracy"] == read["val_accuracy"] == read["description"]["val_accuracy"]
    best_alone = read["ingredients"][summary["best_run"].rpartition("/")[2]]
    compatible = [100 * val for its_seed, val in runs.values() if its_seed == seed]
    assert summary["best_run_val_accuracy"] == best_alone == pytest.approx(max(compatible))
    assert summary["val_accuracy"] >= best_alone
    difference = summary["test_accuracy"] - summary["best_run_test_accuracy"]
    assert summary["test_difference"] == pytest.approx(difference) and summary["test_images"] > 20
    low, high = summary["test_difference_low"], summary["test_difference_high"]
    assert low < difference < high
    assert f"Left out: 2 runs with seed={1 - seed} instead of {seed} (other random weights at the" in near.out


@pytest.mark.slow
def test_a_soup_is_no_run_of_its_sweep_and_no_result_of_its_project(
    server: Server, near: Soup, read: dict[str, Any]
):
    own = near.path.rpartition("/")[2]
    assert (read["job_type"], read["sweep"], read["state"]) == ("soup", None, "finished")
    assert own in server.run(RUNS) and own not in server.run(RUNS, near.sweep.rpartition("/")[2])
    code, out = call(server, "wandb_tl.export_table", near.sweep.rpartition("/")[0])
    assert code == 0 and "of the 4 runs" in out and "Left out" not in out, out


@pytest.mark.slow
def test_a_second_soup_is_the_same_model(server: Server, near: Soup, read: dict[str, Any]):
    again = make(server, near.sweep)
    assert again.path != near.path
    second = server.run(READ, again.path)
    assert {**second, "used_by": None} == {**read, "used_by": None}
    assert all(len(users) == 2 for users in second["used_by"].values())


@pytest.mark.slow
def test_predict_classifies_with_a_soup_as_it_was_tested(
    server: Server, near: Soup, read: dict[str, Any], pictures: Path
):
    code, out = call(server, "wandb_tl.predict", near.path, str(pictures))
    assert code == 0, out
    summary = read["summary"]
    hits = round(summary["test_accuracy"] * summary["test_images"] / 100)
    share = f"{hits} of {summary['test_images']} pictures"
    assert f"Accuracy: {summary['test_accuracy']:.2f} % ({share})" in out
    assert any(label in out for label in CLASSES)


@pytest.mark.long
def test_without_a_mean_that_is_as_good_the_best_run_is_named(server: Server, pictures: Path):
    before = server.run(RUNS)
    sweep = sweep_of(server, pictures, FAR)
    found = make(server, sweep)
    runs = server.run(RUNS, sweep.rpartition("/")[2])
    best = min(runs, key=lambda run: (-runs[run][1], run))
    assert found.path == f"local/soups/{best}", found.out
    assert f"No mean is as good on the validation images as the best run alone, {found.path}." in found.out
    # Nothing is logged.
    assert server.run(RUNS).keys() == before.keys() | runs.keys()


@pytest.mark.slow
def test_sweeps_without_ingredients_are_one_line(server: Server, near: Soup):
    assert call(server, "wandb_tl.soup", "local/soups/nowhere")[0] == 2
    code, out = call(server, "wandb_tl.soup", near.sweep, WANDB_MODE="offline")
    assert code == 2 and out.startswith("error: a soup is made of the models of a W&B server"), out


@pytest.mark.parametrize("name", ["me", "me/project", "a/b/c/d", "", "https://wandb.ai/me/project"])
def test_what_is_not_the_name_of_a_sweep_is_refused(name: str, capsys: pytest.CaptureFixture[str]):
    assert soup.COMMAND.main([name]) == 2
    assert "takes ENTITY/PROJECT/SWEEP; see " in capsys.readouterr().err
