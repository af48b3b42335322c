"""Tables as a run logs them: with many rows, of plain cells or of images, as wandb's own would be."""

import json

import torch
import wandb

from wandb_tl.training import logged_tables


def logged(tmp_path, key: str) -> dict:
    [file] = tmp_path.glob(f"wandb/offline-run-*/files/media/table/{key}_*.table.json")
    return json.loads(file.read_text())


def test_a_long_table_has_all_rows_and_the_types_of_wandb(offline_run, tmp_path):
    columns = {"number": list(range(1000)), "actual": ["coat", "bag"] * 500, "confidence": [0.25] * 1000}
    ours = logged_tables.of_columns(columns)
    theirs = wandb.Table(
        columns=list(columns), data=[list(row) for row in zip(*columns.values(), strict=True)]
    )
    offline_run.log({"ours": ours, "theirs": theirs})
    assert logged(tmp_path, "ours") == logged(tmp_path, "theirs")
    first, second = wandb.Artifact("first", "run_table"), wandb.Artifact("second", "run_table")
    described, expected = ours.to_json(first), theirs.to_json(second)
    # Its name in the run.
    del described["path"], expected["path"]
    assert described == expected and described["nrows"] == 1000 and len(described["data"]) == 1000


def test_a_long_table_of_images_is_logged_too(offline_run, tmp_path):
    images = [torch.zeros(3, 4, 4, dtype=torch.uint8)] * 120
    offline_run.log({"doubts": logged_tables.of_columns({"image": images, "label": ["coat"] * 120})})
    assert len(logged(tmp_path, "doubts")["data"]) == 120
