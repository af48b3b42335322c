"""The commands of the wandb client, typed by hand, with real agents against a real embedded server."""

from __future__ import annotations

import html
import re
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


@pytest.mark.long
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
            f"-optim{config['optimizer']}-seed0-epochs2-size32-train512-test_limit200"
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
    report = server.folder / "client" / "reports"
    assert (report / "figures" / "confusion_best.png").stat().st_size > 10_000
    # The sweep's page shows the same answer, and the commands of both use this server.
    winner = re.search(r"\*\*(Use row 1: .+)\*\*", (report / "README.md").read_text())[1]
    status, page = server.request(f"/{entity_project}/sweeps/{sweep}")
    text = html.unescape(re.sub(r"</?code>", "`", page.decode()))
    assert status == 200 and f'<p class="winner">{winner}</p>' in text
    assert "Computed from 4 runs" in text and "finished since" not in text
    for content in (text, (report / "README.md").read_text()):
        assert f" PICTURES --local --root {server.root}" in content
    for summary in (run["summary"] for run in runs.values()):
        assert 0 <= summary["frozen_seconds"] <= summary["preparation_seconds"] < summary["train_seconds"]


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


@pytest.mark.long
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


KILLED_AFTER = """
import math, os, signal, sys
from wandb_tl import train
from wandb_tl.training import checkpoints, tracking
# However short its epochs are, each is saved.
checkpoints.SAVING_SHARE = math.inf

def then_kill(owner, name, when=lambda *_: True):
    original = getattr(owner, name)
    def replaced(*arguments):
        original(*arguments)
        if when(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, replaced)

if sys.argv[1] == "fifth checkpoint":
    then_kill(checkpoints.Checkpoint, "save", lambda _, progress: len(progress.rows) == 5)
if sys.argv[1] == "last figures":
    then_kill(tracking, "log_media")
if sys.argv[1] == "tables":
    then_kill(tracking, "log_tables")
train.COMMAND.start(sys.argv[2:])
"""


@pytest.mark.long
def test_a_run_that_is_killed_again_and_again_logs_everything_once(server):
    tiny = (
        "--model_name=test_resnet",
        "--pretrained=False",
        "--finetuning=True",
        "--image_size=32",
        "--epochs=6",
        "--test_limit=64",
    )
    variables = {"WANDB_RUN_ID": "often", "WANDB_PROJECT": "often"}
    for moment in ("fifth checkpoint", "last figures", "tables", "end"):
        process = server.spawn(KILLED_AFTER, moment, *tiny, "--train_limit=64", **variables)
        out, err = process.communicate(timeout=240)
        assert process.returncode == (0 if moment == "end" else -9), out + err
        # wandb's own process goes on for a moment, and sends what was logged.
        wait_for(lambda: sqlite(server, "SELECT count(*) FROM run WHERE name = 'often'") == 1)
    [run] = server.run(READ, "local/often").values()
    rows = [(row["epoch"], "train/loss" in row, "grad_cam" in row) for row in run["history"]]
    assert rows == [(epoch, True, epoch == 5) for epoch in range(1, 7)] + [
        (6, False, True),
        (6, False, False),
    ]
    assert run["state"] == "finished" and run["artifacts"].count("model") == 1
    assert {"predictions", "class_report_table"} <= set(run["history"][-1])


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


@pytest.mark.long
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
    test = datasets.load(loaded.description.config).test
    preprocess = models.preprocess(loaded.network, loaded.description.config.image_size, torch.device("cpu"))
    with torch.no_grad():
        predicted = loaded.network(preprocess(test.images)).argmax(1)
    accuracy = 100 * (predicted == test.labels).double().mean().item()
    print(json.dumps([accuracy, loaded.description.class_names]))
    """
    accuracy, class_names = server.run(script)
    assert accuracy == pytest.approx(server.run(READ, "local/models")["artifact"]["summary"]["test_accuracy"])
    assert class_names == few_images.class_names


@pytest.mark.slow
def test_a_run_continues_from_the_model_artifact_of_another_and_names_it_as_its_input(server):
    recipe = ("--model_name=test_convnext", "--image_size=32", "--epochs=1", "--train_limit=128")
    for run_id, more in (
        ("head", ("--pretrained=False",)),
        ("more", ("--finetuning=True", "--weights_file=local/lineage/model-head:latest")),
    ):
        code, out = call(
            server,
            "wandb_tl.train",
            *(*recipe, *more, "--test_limit=64"),
            WANDB_RUN_ID=run_id,
            WANDB_PROJECT="lineage",
        )
        assert code == 0, out
    assert "tensors of test_convnext from local/lineage/model-head:latest; its classifier is kept" in out
    script = """
    import json, wandb
    print(json.dumps([artifact.name for artifact in wandb.Api().run("local/lineage/more").used_artifacts()]))
    """
    assert server.run(script) == ["model-head:v0"]
    code, out = call(server, "wandb_tl.train", *recipe, "--weights_file=artifact:local/lineage/none:latest")
    assert code == 2 and "error: weights_file: artifact local/lineage/none:latest cannot be downloaded" in out


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
