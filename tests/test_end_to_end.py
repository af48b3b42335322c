"""The commands of the wandb client, typed by hand, with real agents against a real embedded server."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from live_server import call, sqlite, start, wait_for

ROOT = Path(__file__).parents[1]
READ = """
import json, sys, wandb
api = wandb.Api()
runs = {}
for run in api.runs(sys.argv[1], {"sweep": sys.argv[2]} if len(sys.argv) > 2 else {}):
    runs[run.id] = {
        "state": run.state,
        "name": run.name,
        "config": dict(run.config),
        "summary": {k: v for k, v in run.summary.items() if isinstance(v, (int, float, str))},
        "history": list(run.scan_history()),
        "files": [file.name for file in run.files()],
        "artifacts": [artifact.type for artifact in run.logged_artifacts()],
    }
print(json.dumps(runs))
"""


@pytest.mark.slow
def test_sweep_agents_and_table_across_a_killed_server(server, tmp_path):
    definition = yaml.safe_load((ROOT / "sweep.yaml").read_text())
    overrides = {"model_name": "tf_efficientnet_lite0", "epochs": 2, "image_size": 32}
    overrides |= {"train_limit": 512, "test_limit": 200, "finetuning": True}
    definition["parameters"] |= {name: {"value": value} for name, value in overrides.items()}
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(definition))

    code, out = call(server, "wandb", "sweep", str(file))
    assert code == 0, out
    path = next(line.split()[-1] for line in out.splitlines() if "wandb agent" in line)
    entity_project, sweep = path.rsplit("/", 1)
    agents = [start(server, "wandb", "agent", path) for _ in range(2)]
    rows = "SELECT count(*) FROM stream_line WHERE stream = 'wandb-history.jsonl'"
    wait_for(lambda: sqlite(server, rows) >= 3)
    server.stop(signal.SIGKILL)
    server.start()
    for agent in agents:
        out, _ = agent.communicate(timeout=400)
        assert agent.returncode == 0, out

    runs = server.run(READ, entity_project, sweep)
    recipes = {(run["config"]["pretrained"], run["config"]["optimizer"]) for run in runs.values()}
    assert len(runs) == len(recipes) == 4
    for run in runs.values():
        config, summary = run["config"], run["summary"]
        assert run["state"] == "finished" and config["epochs"] == 2 and config["lr"] == 0.001
        assert run["name"] == (
            f"tf_efficientnet_lite0-pretrained{config['pretrained']}-finetuningTrue"
            f"-optim{config['optimizer']}-seed0"
        )
        # Each epoch once, whatever the server did meanwhile; then the media.
        scalars = [row for row in run["history"] if "test/accuracy" in row]
        assert [row["epoch"] for row in scalars] == [1, 2]
        assert summary["test_accuracy"] == pytest.approx(100 * scalars[-1]["test/accuracy"])
        mean = sum(row["train/loss"] for row in scalars) / 2
        assert summary["avg_train_loss"] == pytest.approx(mean)
        media = {key for row in run["history"] for key in row}
        figures = {"confusion_matrix", "examples", "class_report", "reliability", "curves", "grad_cam"}
        # At 32 pixels the last stage's maps are of one pixel, and not shown.
        layers = {f"feature_maps/{layer}" for layer in ("first_conv", *(f"stage_{i}" for i in range(1, 5)))}
        tables = {"predictions", "test_predictions", "confusion_counts", "class_report_table"}
        assert media >= figures | layers | tables
        assert sum(name.endswith(".png") for name in run["files"]) == len(figures | layers)
        assert sum(name.endswith(".table.json") for name in run["files"]) == len(tables)
        assert "model" in run["artifacts"] and "run_table" in run["artifacts"]

    code, out = call(
        server,
        "wandb_tl.export_table",
        f"{server.url}/{entity_project}/sweeps/{sweep}",
        "--reports",
        "reports",
    )
    assert code == 0, out
    table = [line for line in out.splitlines() if line.startswith("| ")][1:]
    accuracies = [float(row.split("|")[-2]) for row in table]
    assert len(accuracies) == 4 and accuracies == sorted(accuracies, reverse=True)
    reported = {f"{run['summary']['test_accuracy']:.2f}" for run in runs.values()}
    assert {f"{accuracy:.2f}" for accuracy in accuracies} == reported
    assert (server.folder / "client" / "reports" / "figures" / "confusion_best.png").stat().st_size > 10_000


RECIPE = (
    "--model_name=tf_efficientnet_lite0",
    "--finetuning=True",
    "--optimizer=SGD",
    "--image_size=32",
    "--train_limit=1024",
    "--test_limit=200",
    "--epochs=12",
    "--precision=fp32",
)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(server):
    def train(run_id: str) -> subprocess.Popen:
        return start(server, "wandb_tl.train", *RECIPE, WANDB_RUN_ID=run_id, WANDB_PROJECT="killed")

    def epochs_of(run_id: str) -> int:
        count = "SELECT count(*) FROM stream_line JOIN run ON run.id = run_id"
        return sqlite(server, f"{count} WHERE stream = 'wandb-history.jsonl' AND name = '{run_id}'")

    undisturbed = train("undisturbed")
    for number, run_id, code in ((signal.SIGKILL, "killed", -9), (signal.SIGTERM, "terminated", 143)):
        process = train(run_id)
        wait_for(lambda run_id=run_id: epochs_of(run_id) >= 2)
        process.send_signal(number)
        assert process.wait(timeout=240) == code
        assert 2 <= epochs_of(run_id) < 12
        if number == signal.SIGTERM:
            assert sqlite(server, "SELECT state FROM run WHERE name = 'terminated'") == "preempted"
        resumed = train(run_id)
        assert resumed.wait(timeout=400) == 0, resumed.stdout.read()

    assert undisturbed.wait(timeout=400) == 0, undisturbed.stdout.read()
    runs = server.run(READ, "local/killed")
    expected = runs["undisturbed"]
    drawn = [(row["epoch"], "train/lr" in row) for row in expected["history"] if "grad_cam" in row]
    assert drawn == [(5, True), (10, True), (12, False)]
    for run_id in ("killed", "terminated"):
        run = runs[run_id]
        assert run["state"] == "finished"
        assert [row["epoch"] for row in run["history"] if "train/loss" in row] == list(range(1, 13))
        # No row but the epochs', and at the end one of figures and one of tables.
        assert len(run["history"]) == 14
        for name in ("avg_train_loss", "avg_train_accuracy", "test_accuracy", "test/ece"):
            assert run["summary"][name] == expected["summary"][name], (run_id, name)


@pytest.mark.slow
def test_an_id_is_not_given_to_another_recipe(server):
    make = """
    import wandb
    from wandb_tl.config import RunConfig
    # As a sweep's file may have them: a number of stages as a number, a number as text.
    config = RunConfig(model_name="tf_efficientnet_lite0").as_dict() | {"unfreeze": 2, "lr": "1e-3"}
    for name in ("done", "begun"):
        run = wandb.init(project="ids", id=name, config=config)
        run.finish(exit_code=int(name == "begun"))
    print(1)
    """
    server.run(make)
    lite0 = ("wandb_tl.train", "--model_name=tf_efficientnet_lite0", "--train_limit=64", "--unfreeze=2")
    messages = {"done": "has finished", "begun": "has train_limit 0, not 64"}
    tries = {name: start(server, *lite0, WANDB_RUN_ID=name, WANDB_PROJECT="ids") for name in messages}
    for name, process in tries.items():
        out, _ = process.communicate(timeout=240)
        error = f"error: WANDB_RUN_ID: the run ids/{name} {messages[name]}; use another id\n"
        assert process.returncode == 2 and out.endswith(error) and "Traceback" not in out, out


@pytest.mark.slow
def test_the_model_artifact_survives_an_outage_and_gives_the_model_back(server, few_images):
    process = start(
        server,
        "wandb_tl.train",
        *("--model_name=tf_efficientnet_lite0", "--finetuning=True", "--image_size=32", "--epochs=1"),
        *("--train_limit=256", "--test_limit=128", "--precision=fp32"),
        WANDB_RUN_ID="artifact",
        WANDB_PROJECT="models",
    )
    # The client checks its login before a run's first artifact, and gives that up after 20 seconds.
    wait_for((server.folder / "cache" / "checkpoints" / "local,models,artifact.pt").exists)
    server.stop(signal.SIGKILL)
    time.sleep(25)
    server.start()
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0 and "Traceback" not in out, out
    script = """
    import json, torch, wandb
    from pathlib import Path
    from wandb_tl.training import datasets, model_folder, models
    folder = wandb.Api().artifact("local/models/model-artifact:latest").download()
    loaded = model_folder.load(Path(folder))
    test = datasets.load(loaded.config).test
    preprocess = models.preprocess(loaded.network, loaded.config.image_size, torch.device("cpu"))
    with torch.no_grad():
        predicted = loaded.network(preprocess(test.images)).argmax(1)
    print(json.dumps([100 * (predicted == test.labels).double().mean().item(), loaded.class_names]))
    """
    accuracy, class_names = server.run(script)
    assert accuracy == pytest.approx(server.run(READ, "local/models")["artifact"]["summary"]["test_accuracy"])
    assert class_names == few_images.class_names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "message"),
    [("local/nowhere", "nowhere"), ("local/wandb_tl/nosweep1", "nosweep1")],
)
def test_results_that_are_not_there_are_one_line(server, path, message):
    code, out = call(server, "wandb_tl.export_table", path)
    errors = [line for line in out.splitlines() if not line.startswith("wandb: ")]
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0], out


def test_wrong_key_is_one_line(server):
    code, out = call(server, "wandb_tl.export_table", "local/wandb_tl", WANDB_API_KEY="a" * 40)
    errors = [line for line in out.splitlines() if not line.startswith("wandb: ")]
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: "), out
