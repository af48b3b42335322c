"""The report of runs on a real server: complete, true to its runs, and the same bytes each time."""

import io
import math
import re

import pandas as pd
import pytest
from live_server import Server, call
from PIL import Image
from scipy import stats

# Two optimizers with two seeds each. Of 100 test images Adam has 90 right, and seed 1 one more; SGD has 80.
RUNS = """
import json, os, torch, wandb
from wandb_tl.config import RunConfig
from wandb_tl.figures.run_figures import confusion_matrix
from wandb_tl.training import tracking

names = ["cat", "dog"]
actual = [names[i % 2] for i in range(100)]
ids = {}
for optimizer, right in (("Adam", 90), ("SGD", 80)):
    for seed in (0, 1):
        config = RunConfig(optimizer=optimizer, seed=seed, model_name="tiny")
        with tracking.start(config) as run:
            hits = right + seed
            # SGD's mistakes are the first images, Adam's the last.
            wrong = range(100 - hits) if optimizer == "SGD" else range(hits, 100)
            predicted = [names[(i + (i in wrong)) % 2] for i in range(100)]
            counts = torch.tensor([[sum(a == x and p == y for a, p in zip(actual, predicted))
                                    for y in names] for x in names])
            tracking.log_media(run, 1, {"confusion_matrix": confusion_matrix(counts, names, run.id)})
            columns = {"number": list(range(100)), "actual": actual, "predicted": predicted}
            tracking.log_tables(run, 1, {"test_predictions": columns})
            run.summary.update({"test_accuracy": hits, "train_seconds": 2, "device": "CPU",
                                "images_per_second": 10, "avg_train_loss": 1 / hits, "train_images": 50,
                                "avg_train_accuracy": hits / 100, "test_images": 100,
                                "peak_memory_mb": 7, "energy_wh": 0.5})
            ids[f"{optimizer}{seed}"] = run.id
print(json.dumps(ids))
"""


@pytest.fixture(scope="module")
def written(server: Server) -> dict:
    """The runs' ids, and the files of their report, written twice."""
    ids = server.run(RUNS, WANDB_PROJECT="folder")
    for folder in ("once", "twice"):
        code, out = call(server, "wandb_tl.export_table", "local/folder", "--reports", folder)
        assert code == 0, out
    files = [
        {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}
        for folder in (server.folder / "client" / "once", server.folder / "client" / "twice")
    ]
    return {"ids": ids, "files": files}


@pytest.mark.slow
def test_the_same_runs_give_the_same_bytes(written):
    once, twice = written["files"]
    assert once == twice
    figures = {f"figures/{name}.png" for name in ("confusion_best", "confusion_worst", "effects", "recipes")}
    assert set(once) == {"README.md", "results.csv", "results.tex", "effects.csv"} | figures
    assert all(Image.open(io.BytesIO(once[name])).width > 200 for name in figures)
    assert once["figures/confusion_best.png"] != once["figures/confusion_worst.png"]


def test_the_page_says_what_was_compared_and_what_came_of_it(written):
    page = written["files"][0]["README.md"].decode()
    assert page.startswith("# Results of `local/folder`\n\n4 runs of 2 recipes: `tiny` on `fashion_mnist`")
    assert "50 training and 100 test images, 224 px, 10 epochs, 2 seeds (0, 1)." in page
    assert "What differs between the recipes is `optimizer` (Adam, SGD)." in page
    # Both seeds of Adam lead by ten images: what rounding to whole images hides is all the spread there is.
    p = 2 * stats.t.sf(10 / (1 / math.sqrt(6) / math.sqrt(2)), 1)
    told = f"lowers test accuracy by 10.00 ± 0.00 points (n = 2 seeds, 2 pairs, p = {p:.3g}; "
    assert f"`optimizer=SGD` instead of `Adam` {told}row 2 against 1)" in page
    # 91 and 81 right: the mistakes of the best runs are at opposite ends, so none is shared.
    assert "of 100 test images, 19 are right in the first alone and 9 in the second alone" in page
    rows = [
        line for line in page.splitlines() if line.startswith("|     1 |") or line.startswith("|     2 |")
    ]
    assert "90.50 ± 6.35" in rows[0] and "80.50 ± 6.35" in rows[1]
    assert "0.50" in page.partition("## Time and cost")[2]
    for name in ("effects", "recipes", "confusion_best", "confusion_worst"):
        assert f"figures/{name}.png" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_results_csv_has_every_run(written):
    runs = pd.read_csv(io.BytesIO(written["files"][0]["results.csv"]))
    assert set(runs["id"]) == set(written["ids"].values())
    assert sorted(runs["test_accuracy"]) == [80, 81, 90, 91]
