"""python -m wandb_tl.rank on Fashion-MNIST: what it prints and logs, and who reuses its features."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from live_server import Server, call

from wandb_tl import rank
from wandb_tl.analysis.ranking import Ranked, Ranking
from wandb_tl.sweeping import sweep_definitions
from wandb_tl.training import datasets, frozen_part, models, probe
from wandb_tl.training.process_cache import ProcessCache

MODELS = ("resnet18", "mobilenetv3_small_050", "tf_efficientnet_lite0")
# 40 px are not a multiple of the patches of test_vit. 125 validation images.
SETTINGS = {"train_limit": "256", "val_fraction": "0.002", "image_size": "40", "precision": "fp32"}
RANDOM = [
    *(part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")),
    *("--set", "pretrained=false"),
]
RUNS = """
import json, sys, wandb
runs = []
for run in wandb.Api().runs(sys.argv[1], lazy=False):
    logged = run.summary.get("rank")
    table = None
    if logged is not None:
        file = run.file(logged["path"]).download(replace=True)
        table = json.load(file)
    numbers = {k: v for k, v in run.summary.items() if isinstance(v, (int, float, str))}
    runs.append({"job_type": run.job_type, "name": run.name, "config": dict(run.config), "table": table,
                 "summary": numbers, "state": run.state})
print(json.dumps(runs))
"""


@pytest.fixture(scope="module")
def ranked(server: Server) -> str:
    """What the command prints about three models and one that does not accept the image size."""
    code, out = call(server, "wandb_tl.rank", *MODELS, "test_vit", *RANDOM, WANDB_PROJECT="rank")
    assert code == 0, out
    return out


def table_of(out: str) -> list[list[str]]:
    """The cells of the printed table."""
    lines = out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("-----")) + 1
    last = lines.index("", first)
    return [re.split(r" {2,}", line.strip()) for line in lines[first:last]]


@pytest.mark.slow
def test_it_orders_the_models_and_names_those_that_fail(ranked: str):
    rows = table_of(ranked)
    assert {row[0] for row in rows} == set(MODELS)
    accuracies = [float(row[1].partition(" ")[0]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[0] > 30
    # The first one is always on the frontier, and so is the fastest.
    fastest = min(rows, key=lambda row: float(row[3]))
    assert rows[0][-1] == fastest[-1] == "yes"
    assert "test_vit: cannot be judged: image_size: test_vit does not accept 40 px; it accepts " in ranked
    assert "Models judged: 3 of 4, in " in ranked
    assert "Models to judge: 4, by 256 training and 125 validation images of 10 classes at 40 px\n" in ranked


@pytest.mark.slow
def test_it_logs_one_run_that_no_table_takes_for_a_training(server: Server, ranked: str):
    [run] = server.run(RUNS, "rank")
    assert (run["job_type"], run["name"], run["state"]) == ("rank", "rank-fashion_mnist", "finished")
    assert run["config"]["models"] == [*MODELS, "test_vit"] and run["config"]["pretrained"] is False
    rows = [dict(zip(run["table"]["columns"], row, strict=True)) for row in run["table"]["data"]]
    printed = table_of(ranked)
    assert [row["model"] for row in rows] == [cells[0] for cells in printed]
    for row, cells in zip(rows, printed, strict=True):
        shown = f"{row['probe_accuracy']:.2f} ({row['probe_low']:.1f} to {row['probe_high']:.1f})"
        assert shown == cells[1] and row["frontier"] == (cells[-1] == "yes")
        assert row["probe_low"] < row["probe_accuracy"] < row["probe_high"]
    assert run["summary"]["best_model"] == rows[0]["model"]
    assert run["summary"]["probe_accuracy"] == pytest.approx(rows[0]["probe_accuracy"])
    assert run["summary"]["not_judged"].startswith("test_vit: image_size")
    code, out = call(server, "wandb_tl.export_table", "local/rank")
    assert code == 2 and "no finished run of wandb_tl (no runs at all)" in out


@pytest.mark.slow
def test_a_run_reuses_the_features_of_the_ranking(server: Server, ranked: str):
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    flags += ["--pretrained=False", "--model_name=resnet18", "--epochs=1", "--test_limit=64"]
    code, out = call(server, "wandb_tl.train", *flags, WANDB_PROJECT="reuse")
    assert code == 0, out
    lines = {line.split(": ")[0].rpartition(" ")[2]: line for line in out.splitlines() if " images, " in line}
    assert lines["train"].endswith(" reused") and lines["val"].endswith(" reused")
    # The ranking has not seen them.
    assert " 64 computed in " in lines["test"]


@pytest.mark.slow
def test_its_last_line_starts_a_sweep_over_the_frontier_with_the_same_images(ranked: str):
    label, command = ranked.splitlines()[-1].split(": ", 1)
    frontier = [row[0] for row in table_of(ranked) if row[-1] == "yes"]
    number = "model" if len(frontier) == 1 else f"{len(frontier)} models"
    assert label == f"To train the best {number} of the frontier"
    words = shlex.split(command)
    start = words.index("pictures")
    assert words[start - 1].endswith("run_sweep")
    definition = sweep_definitions.load("pictures", words[start + 2 :: 2])
    parameter = definition["parameters"]["model_name"]
    assert parameter.get("values", [parameter.get("value")]) == frontier
    configs = sweep_definitions.data_configs(definition)
    assert len(configs) == len(frontier)
    for config in configs:
        assert (config.dataset, config.train_limit, config.val_fraction) == ("fashion_mnist", 256, 0.002)
        assert config.image_size == 40
    assert definition["parameters"]["pretrained"] == {"value": False}


@pytest.mark.slow
def test_the_accuracies_are_those_of_the_features_by_hand(run_variables, tmp_path: Path, monkeypatch):
    for name, value in run_variables(tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    settings = rank.settings_of([f"{name}={value}" for name, value in SETTINGS.items()])
    config = rank.config_of(settings, "tf_efficientnet_lite0")
    cache, device = ProcessCache(), torch.device("cpu")
    data = datasets.load(config, cache.images)
    assert data.val is not None
    ranked = rank.judge(config, data, device, cache)

    # The stored inputs of the classifier.
    model = models.build(config, 10)
    _, inputs = frozen_part.freeze_and_cache(config, data, model, device, "fp32", cache.activations)
    stored = {name: probe.Features(part.rows.float(), part.labels) for name, part in inputs.items()}
    for hits, scores in (
        (ranked.probe, probe.fit(stored["train"], None, 10).logits(stored["val"].rows)),
        (ranked.knn, probe.knn_scores(stored["train"], stored["val"].rows, 10)),
    ):
        assert hits.tolist() == (scores.argmax(1) == data.val.labels).tolist()
        assert hits.mean() > 0.5


@pytest.mark.slow
def test_if_no_model_can_be_judged_it_fails(server: Server):
    code, out = call(server, "wandb_tl.rank", "test_vit", *RANDOM, WANDB_MODE="disabled")
    assert code == 1, out
    assert "Traceback" not in out
    last = out.splitlines()[-1]
    assert last == "error: none of the models can be judged (1 tried); the reasons are above"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "names no models; takes timm models or filters"),
        (["resnet5o"], "model_name: timm has no model 'resnet5o'; did you mean resnet50"),
        (["nothing*"], "nothing*: timm has no pretrained model of such a name"),
        (
            ["resnet18", "--set", "imagesize=32"],
            "imagesize: no such hyperparameter; did you mean image_size?",
        ),
        (["resnet18", "--set", "image_size=x"], "image_size: got 'x', takes an integer >= 8"),
        (["resnet18", "--set", "image_size=32,64"], "--set image_size=32,64: takes one value"),
        (["resnet18", "--set", "lr=0.1"], "--set lr: decides nothing about frozen features; takes dataset, "),
        (["--set", "model_name=resnet18", "x"], "--set model_name: models are arguments of this command"),
        (["resnet18", "--set", "norm=batch"], "takes source or calibrated"),
        (["resnet18", "--set", "fold=1/5", "--set", "val_fraction=0.1"], "fold: it says which images"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert rank.COMMAND.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_without_weights_and_hub_it_fails(monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # A closed port of this machine stands for a network without the hub.
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert rank.COMMAND.main(["resnet18.*"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: no model can be loaded: the hub does not answer (")
    assert error.endswith("--set pretrained=false ranks random weights\n") and error.count("\n") == 1


def test_pictures_of_a_folder_lead_to_a_sweep_that_can_run_on_them(tmp_path: Path):
    settings = rank.settings_of([f"data_dir={tmp_path}"])
    assert settings == {"data_dir": str(tmp_path), "dataset": "folder", "val_fraction": 0.2}
    config = rank.config_of(settings, "resnet18")
    options = rank.COMMAND.parser().parse_args(["resnet18", "--local", "--root", "runs"])
    ranking = Ranking([Ranked("resnet18", np.ones(5, bool), np.ones(5, bool), 1.0, 1)])
    words = shlex.split(rank.next_command(options, config, 20, ranking))
    assert words[words.index("pictures") + 1 :][:3] == ["--local", "--root", "runs"]
    # Its batches are larger than the data.
    assert words[words.index("pictures") + 4 :] == [
        *("--set", "model_name=resnet18"),
        *("--set", f"data_dir={tmp_path}"),
        *("--set", "image_size=224"),
        *("--set", "batch_size=16"),
    ]
