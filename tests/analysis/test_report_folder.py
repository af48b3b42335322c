"""The report of runs on a real server: complete, true to its runs, and the same bytes each time."""

import io
import math
import re

import pandas as pd
import pytest
from live_server import Server, call
from PIL import Image
from scipy import stats

from wandb_tl.analysis import report_folder

# Two optimizers with two seeds each. Of 100 test images Adam has 90 right, and seed 1 one more; SGD has 80.
RUNS = """
import json, os, torch, wandb
from wandb_tl.config import RunConfig
from wandb_tl.figures.run_figures import confusion_matrix
from wandb_tl.training import run_lifecycle, tracking

names = ["cat", "dog"]
actual = [names[i % 2] for i in range(100)]
ids = {}
for optimizer, right in (("Adam", 90), ("SGD", 80)):
    for seed in (0, 1):
        config = RunConfig(optimizer=optimizer, seed=seed, model_name="tiny")
        with run_lifecycle.start(config) as run:
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
# What a notebook asks for.
COMPARE = """
import json
from wandb_tl.analysis.compare import compare

answer = compare("local/folder")
print(json.dumps([answer.winner.accuracy.mean, answer.effects[0].effect.mean, answer._repr_html_()]))
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
    names = ("confusion_best", "confusion_worst", "effects", "frontier")
    figures = {f"figures/{name}.png" for name in names}
    assert set(once) == {"README.md", "report.html", "results.csv", "results.tex", "effects.csv"} | figures
    assert all(Image.open(io.BytesIO(once[name])).width > 200 for name in figures)
    assert once["figures/confusion_best.png"] != once["figures/confusion_worst.png"]


def test_the_page_begins_with_the_answer(written):
    page = written["files"][0]["README.md"].decode()
    best = written["ids"]["Adam1"]
    answer, _, rest = page.partition("## One change away from the best recipe")
    assert answer.startswith(
        "# Results of `local/folder`\n\n**Use row 1: `optimizer=Adam`.**\n\n- It classifies 90.50 % "
    )
    low, high = 100 * stats.beta.ppf(0.025, 90, 11), 100 * stats.beta.ppf(0.975, 91, 10)
    assert f"of 100 test images correctly, ± 6.35 over 2 seeds; {low:.1f} to {high:.1f} % on other" in answer
    assert (
        "Two seeds decide next to nothing" in answer
        and f"wandb_tl.predict local/folder/{best} PICTURES" in answer
    )
    # Both seeds of Adam lead by ten images: what rounding to whole images hides is all the spread there is.
    p = 2 * stats.t.sf(10 / (1 / math.sqrt(6) / math.sqrt(2)), 1)
    line, *_ = [line for line in rest.splitlines() if line.startswith("| optimizer: Adam → SGD")]
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[2:] == ["\N{MINUS SIGN}10.00 ± 0.00", "2", f"{p:.2g}", f"{p:.2g}", "settled"]
    # Several seeds of a recipe are compared by seeds, not by the images of two of their models.
    assert "McNemar" not in page


def test_the_page_says_what_was_compared(written):
    page = written["files"][0]["README.md"].decode()
    assert "4 runs of 2 recipes: `tiny` on `fashion_mnist`; 50 training and 100 test images, 224 px" in page
    assert "What differs between the recipes is `optimizer` (Adam, SGD)." in page
    rows = [
        line for line in page.splitlines() if line.startswith("|     1 |") or line.startswith("|     2 |")
    ]
    assert "90.50 ± 6.35" in rows[0] and "80.50 ± 6.35" in rows[1]
    assert "0.50" in page.partition("## Time and cost")[2]
    for name in ("effects", "frontier", "confusion_best", "confusion_worst"):
        assert f"figures/{name}.png" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_a_notebook_gets_the_same_answer(server: Server, written):
    accuracy, effect, page = server.run(COMPARE)
    assert (accuracy, effect) == (90.5, -10) and "Use row 1: <code>optimizer=Adam</code>" in page


def test_results_csv_has_every_run(written):
    runs = pd.read_csv(io.BytesIO(written["files"][0]["results.csv"]))
    assert set(runs["id"]) == set(written["ids"].values())
    assert sorted(runs["test_accuracy"]) == [80, 81, 90, 91]


def test_a_report_points_to_those_that_go_on_from_it_once(tmp_path):
    (tmp_path / "README.md").write_text("# Results of `a/b/c`\n\n**Use row 1.**\n\n- More.\n")
    for _ in range(2):
        report_folder.point_to(tmp_path, "See [the next one](next/README.md).")
    text = (tmp_path / "README.md").read_text()
    assert text == (
        "# Results of `a/b/c`\n\nSee [the next one](next/README.md).\n\n**Use row 1.**\n\n- More.\n"
    )
    page = (tmp_path / "report.html").read_text()
    assert page.index("next/README.md") < page.index("Use row 1.")
