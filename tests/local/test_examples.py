"""What W&B's public examples and documentation do, written anew, and whether it can be read back."""

from __future__ import annotations

import subprocess
import textwrap
from typing import Any

import pytest
from live_server import Server

QUICKSTART = """
import random, wandb
wandb.login()
epochs, lr = 10, 0.01
run = wandb.init(project="my-awesome-project", config={"learning_rate": lr, "epochs": epochs})
offset = random.random() / 5
for epoch in range(2, epochs):
    acc = 1 - 2**-epoch - random.random() / epoch - offset
    loss = 2**-epoch + random.random() / epoch + offset
    run.log({"accuracy": acc, "loss": loss})
run.finish()
"""

PYTORCH = """
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F, wandb
torch.manual_seed(0)
torch.set_num_threads(1)
config = dict(epochs=2, classes=10, kernels=[4, 8], batch_size=16, learning_rate=0.005, dataset="MNIST",
              architecture="CNN")

class ConvNet(nn.Module):
    def __init__(self, kernels, classes=10):
        super().__init__()
        first, second = kernels
        self.layer1 = nn.Sequential(nn.Conv2d(1, first, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        self.layer2 = nn.Sequential(nn.Conv2d(first, second, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(7 * 7 * kernels[-1], classes)
    def forward(self, x):
        out = self.layer2(self.layer1(x))
        return self.fc(out.reshape(out.size(0), -1))

with wandb.init(project="pytorch-demo", config=config, id="demo") as run:
    config = run.config
    model = ConvNet(config.kernels, config.classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    run.watch(model, nn.CrossEntropyLoss(), log="all", log_freq=2)
    images, labels = torch.rand(64, 1, 28, 28), torch.randint(0, 10, (64,))
    example_ct = 0
    for epoch in range(config.epochs):
        for start in range(0, 64, config.batch_size):
            batch = slice(start, start + config.batch_size)
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            example_ct += config.batch_size
            run.log({"epoch": epoch, "loss": loss}, step=example_ct)
    model.eval()
    with torch.no_grad():
        probabilities = model(images).softmax(1).numpy()
    truth, predicted = labels.numpy(), probabilities.argmax(1)
    table = wandb.Table(columns=["id", "image", "guess", "truth"] + [f"score_{i}" for i in range(10)])
    for i in range(8):
        table.add_data(i, wandb.Image(images[i]), predicted[i], truth[i], *probabilities[i])
    names = [str(i) for i in range(10)]
    xy = wandb.Table(data=[[x, x * x] for x in range(10)], columns=["x", "y"])
    run.log({
        "test_accuracy": float((truth == predicted).mean()),
        "predictions": table,
        "examples": [wandb.Image(np.full((8, 8), i, np.uint8), caption=f"Pred: {predicted[i]}")
                     for i in range(3)],
        "masked": wandb.Image(np.zeros((8, 8), np.uint8), masks={"prediction": {
            "mask_data": np.ones((8, 8), np.uint8), "class_labels": {1: "one"}}}),
        "boxes": wandb.Image(np.zeros((8, 8), np.uint8), boxes={"prediction": {"class_labels": {1: "one"},
            "box_data": [{"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": 1}]}}),
        "logits": wandb.Histogram(probabilities), "html": wandb.Html("<b>bold</b>"),
        "conf_mat": wandb.plot.confusion_matrix(preds=predicted, y_true=truth, class_names=names),
        "pr": wandb.plot.pr_curve(truth, probabilities, labels=names),
        "roc": wandb.plot.roc_curve(truth, probabilities, labels=names),
        "line": wandb.plot.line(xy, "x", "y", title="Line"), "scatter": wandb.plot.scatter(xy, "x", "y"),
        "bar": wandb.plot.bar(xy, "x", "y", title="Bar"), "histogram": wandb.plot.histogram(xy, "y"),
        "series": wandb.plot.line_series(xs=[0, 1], ys=[[1, 2], [3, 4]], keys=["a", "b"], title="S"),
    })
    torch.save(model.state_dict(), "model.pt")
    run.save("model.pt")
    run.log_model("model.pt", name="cnn", aliases=["candidate"])
    run.summary["best"] = 1
"""

ARTIFACTS = """
import json, os, random, wandb
os.makedirs("raw", exist_ok=True)
for name in ("train", "test"):
    with open(f"raw/{name}.csv", "w") as file:
        file.write("\\n".join(str(random.random()) for _ in range(100)))
with wandb.init(project="artifacts-quickstart", job_type="load-data") as run:
    raw = wandb.Artifact("mnist-raw", type="dataset", description="Raw split", metadata={"sizes": [100, 100]})
    raw.add_dir("raw")
    with raw.new_file("note.json") as file:
        json.dump({"a": 1}, file)
    run.log_artifact(raw)
with wandb.init(project="artifacts-quickstart", job_type="preprocess-data") as run:
    folder = run.use_artifact("mnist-raw:latest").download()
    processed = wandb.Artifact("mnist-processed", type="dataset")
    processed.add_file(os.path.join(folder, "train.csv"), name="training.csv")
    processed.add(wandb.Table(columns=["a"], data=[[1], [2]]), "preview")
    run.log_artifact(processed, aliases=["clean"])
with wandb.init(project="artifacts-quickstart", job_type="train") as run:
    data = run.use_artifact("mnist-processed:clean")
    assert data.get("preview").data == [[1], [2]]
    with open("weights.bin", "wb") as file:
        file.write(b"w" * 1000)
    run.log_model(path="weights.bin", name="trained-model")
with wandb.init(project="artifacts-quickstart", job_type="evaluate") as run:
    assert open(run.use_model("trained-model:latest"), "rb").read() == b"w" * 1000
"""

SWEEP = """
import wandb
import wandb.agents.pyagent
wandb.agents.pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.2
def objective(config):
    return config.x**3 + config.y
def main():
    with wandb.init(project="my-first-sweep") as run:
        run.log({"score": objective(run.config)})
sweep_configuration = {
    "method": "random", "metric": {"goal": "minimize", "name": "score"},
    "parameters": {"x": {"max": 0.1, "min": 0.01}, "y": {"values": [1, 3, 7]}},
}
sweep_id = wandb.sweep(sweep=sweep_configuration, project="my-first-sweep")
wandb.agent(sweep_id, function=main, count=2)
"""

NESTED = """
program: train_nested.py
method: grid
metric: {name: loss, goal: minimize}
parameters:
  epochs: {value: 2}
  optimizer:
    parameters:
      name: {values: [sgd]}
      nested: {parameters: {momentum: {value: 0.9}}}
command: ["${env}", "${interpreter}", "${program}", "--config", "${args_json}"]
"""

TRAIN_NESTED = """
import argparse, json, wandb
parser = argparse.ArgumentParser()
parser.add_argument("--config", type=json.loads)
config = parser.parse_args().config
with wandb.init(config={"batch_size": 8}) as run:
    assert dict(run.config)["optimizer"] == config["optimizer"], (run.config, config)
    for epoch in range(run.config["epochs"]):
        run.log({"loss": 1 / (epoch + 1), "name": config["optimizer"]["name"]})
"""

READ = """
import json, wandb
api, answer = wandb.Api(), {}
[run] = api.runs("my-awesome-project")
answer["quickstart"] = [run.config, len(run.history(pandas=False)), sorted(run.history().columns)]
run = api.run("pytorch-demo/demo")
table = api.artifact("pytorch-demo/run-demo-predictions:latest")
model = api.artifact("pytorch-demo/cnn:candidate")
media = ("examples", "masked", "boxes", "logits", "html", "predictions")
starts = ("model.pt", "media/images/examples", "media/images/mask/", "media/metadata/boxes2D", "media/html")
row = run.summary
answer["pytorch"] = {
    "config": run.config["kernels"], "loss": [r["_step"] for r in run.scan_history(keys=["loss", "_step"])],
    "watched": sorted(key for key in run.history_keys["keys"] if "/" in key)[:4],
    "histogram": row["gradients/fc.bias"]["_type"], "table": [len(table.get("predictions").data), table.type],
    "types": {key: row[key]["_type"] for key in media},
    "plots": sorted(key for key in row.keys() if key.endswith("_table")),
    "panels": sorted(json.loads(run.json_config)["_wandb"]["value"]["visualize"]),
    "files": [sum(file.name.startswith(start) for file in run.files()) for start in starts],
    "model": [model.type, sorted(model.aliases), list(model.manifest.entries)],
    "confusion": len(api.artifact("pytorch-demo/run-demo-conf_mat_table:latest").get("conf_mat_table").data),
}
model = api.artifact("artifacts-quickstart/trained-model:latest")
trainer = model.logged_by()
[processed] = trainer.used_artifacts()
[raw] = processed.logged_by().used_artifacts()
answer["lineage"] = [trainer.job_type, processed.name, sorted(processed.aliases), raw.name, raw.metadata,
                     raw.description, sorted(raw.manifest.entries), [run.job_type for run in model.used_by()]]
[sweep] = api.project("my-first-sweep").sweeps()
answer["sweep"] = [len(sweep.runs), sweep.best_run().summary["score"] ==
                   min(run.summary["score"] for run in sweep.runs)]
[sweep] = api.project("nested").sweeps()
rows = [[run.state, run.config["optimizer"]["name"], run.summary["name"],
         run.config["optimizer"]["nested"]["momentum"], run.config["batch_size"]] for run in sweep.runs]
answer["nested"] = [sweep.state, sorted(rows)]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answer(server: Server) -> Any:
    client = server.folder / "client"
    (client / "train_nested.py").write_text(textwrap.dedent(TRAIN_NESTED))
    (client / "sweep.yaml").write_text(NESTED)
    made = subprocess.run(
        ["wandb", "sweep", "--project", "nested", "sweep.yaml"],
        cwd=client, env=server.env | {"WANDB_SILENT": "false"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    sweep = made.stderr.rpartition("wandb agent ")[2].split()[0]
    # Polls every 5 s, so it runs beside the others.
    agent = subprocess.Popen(
        ["wandb", "agent", sweep],
        cwd=client,
        env=server.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    others = [server.spawn(script) for script in (PYTORCH, QUICKSTART + ARTIFACTS + SWEEP)]
    for script in others:
        out, err = script.communicate(timeout=240)
        assert script.returncode == 0, out + err
    assert agent.wait(timeout=120) == 0, agent.stderr.read()
    agent.stderr.close()
    return server.run(READ)


@pytest.mark.slow
def test_quickstart(answer: Any) -> None:
    config, rows, columns = answer["quickstart"]
    assert config == {"learning_rate": 0.01, "epochs": 10} and rows == 8
    assert {"accuracy", "loss", "_step"} <= set(columns)


def test_pytorch_with_watch_media_and_plots(answer: Any) -> None:
    found = answer["pytorch"]
    assert found["config"] == [4, 8] and found["loss"] == list(range(16, 129, 16))
    assert found["histogram"] == "histogram" and found["watched"][0].startswith("gradients/fc")
    assert found["table"] == [8, "run_table"] and found["confusion"] == 100
    assert found["types"] == {
        "examples": "images/separated",
        "masked": "image-file",
        "boxes": "image-file",
        "logits": "histogram",
        "html": "html-file",
        "predictions": "table-file",
    }
    plots = ["bar", "conf_mat", "histogram", "line", "pr", "roc", "scatter", "series"]
    assert found["plots"] == [f"{name}_table" for name in plots] and found["panels"] == plots
    assert found["files"] == [1, 3, 1, 1, 1]
    assert found["model"] == ["model", ["candidate", "latest"], ["model.pt"]]


def test_artifacts_quickstart(answer: Any) -> None:
    assert answer["lineage"] == [
        "train", "mnist-processed:v0", ["clean", "latest"], "mnist-raw:v0", {"sizes": [100, 100]},
        "Raw split", ["note.json", "test.csv", "train.csv"], ["evaluate"],
    ]  # fmt: skip


def test_sweeps_quickstart(answer: Any) -> None:
    assert answer["sweep"] == [2, True]


def test_nested_sweep_with_a_command_of_its_own(answer: Any) -> None:
    state, runs = answer["nested"]
    assert state == "FINISHED"
    assert runs == [["finished", "sgd", "sgd", 0.9, 8]]
