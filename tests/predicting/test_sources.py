"""What the name of a model stands for, before any server is asked. test_predict.py asks real ones."""

from types import SimpleNamespace

import pandas as pd
import pytest
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis.answer import answer
from wandb_tl.errors import InputError
from wandb_tl.predicting.sources import DESCRIPTION, EXPORTED_FILES, Kind, Source, best_run, parse
from wandb_tl.training import model_folder


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("me/flowers/abc123", Kind.RUN_OR_SWEEP, "me/flowers/abc123"),
        ("https://wandb.ai/me/flowers/runs/abc123", Kind.RUN, "me/flowers/abc123"),
        ("https://wandb.ai/me/flowers/runs/abc123?nw=me", Kind.RUN, "me/flowers/abc123"),
        ("http://127.0.0.1:8080/me/flowers/sweeps/abc123/", Kind.SWEEP, "me/flowers/abc123"),
        ("me/flowers/model-abc123:v0", Kind.ARTIFACT, "me/flowers/model-abc123:v0"),
        ("artifact:me/flowers/model:best", Kind.ARTIFACT, "me/flowers/model:best"),
    ],
)
def test_names_on_a_server(name, kind, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # wandb leaves such a folder behind when it reads a run.
    (tmp_path / "me/flowers/abc123").mkdir(parents=True)
    assert parse(name) == Source(kind, path)


@pytest.mark.parametrize("name", ["me/flowers/model", "./me/flowers/model"])
def test_a_folder_that_is_here_comes_first(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me/flowers/model/files").mkdir(parents=True)
    assert parse(name) == Source(Kind.FOLDER, "me/flowers/model")


@pytest.mark.parametrize(
    "name", ["model", "a/b", "a/b/c/d", "./a/b/c", "~/a/b", "/a/b/c", "https://wandb.ai/a/b"]
)
def test_what_names_no_model_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="takes a model folder, ENTITY/PROJECT/RUN, "):
        parse(name)


def test_the_best_run_is_the_one_that_the_report_names():
    frame = runs_of(grid(GRID, range(2)), lambda config: 70 + 10 * config.pretrained + config.seed)
    # More accurate, but on other test images, as in a trial run.
    other = runs_of(grid(GRID, [0], test_limit=100), lambda config: 99).assign(test_images=100.0)
    other["id"] = "b" + other["id"]
    both = pd.concat([other, frame], ignore_index=True)
    lines: list[str] = []
    run = best_run(SimpleNamespace(path="a/b/c", frame=lambda: both), lines.append)
    best = answer(both, "a/b/c").winner.best_run
    assert run == f"a/b/{best}" and not best.startswith("b")
    assert lines[0].startswith(f"The best run of a/b/c by test accuracy: a/b/{best} (")


def test_the_files_of_a_model_folder_have_one_name_each():
    assert (EXPORTED_FILES["safetensors"], DESCRIPTION) == (model_folder.TENSORS, model_folder.DESCRIPTION)
