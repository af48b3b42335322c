"""The table and where it is written. Reading it from a server is in test_end_to_end.py."""

import pandas as pd
import pytest

from wandb_tl import export_table
from wandb_tl.config import InputError, RunConfig
from wandb_tl.results import Results


def frame(*recipes: dict) -> pd.DataFrame:
    numbers = {
        "avg_train_loss": 0.4891634,
        "avg_train_accuracy": 0.840053,
        "train_seconds": 61.5,
        "device": "a GPU",
    }
    rows = [
        RunConfig(**recipe).as_dict() | numbers | {"test_accuracy": 80.125 + i}
        for i, recipe in enumerate(recipes)
    ]
    return pd.DataFrame(rows)


def test_columns_of_the_original_table():
    table = export_table.markdown_table(
        frame({"optimizer": "Adam"}, {"optimizer": "SGD", "pretrained": False})
    )
    heading, rule, first, second = table.splitlines()
    titles = [
        "Pretrained",
        "Finetuning",
        "Optimizer",
        "Avg Train Loss",
        "Avg Train Accuracy",
        "Test Accuracy",
    ]
    assert [cell.strip() for cell in heading.split("|")[1:-1]] == titles
    assert rule.count("|") == 7
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "True",
        "False",
        "Adam",
        "0.4892",
        "0.8401",
        "80.12",
    ]
    assert [cell.strip() for cell in second.split("|")[1:3]] == ["False", "False"]


def test_other_hyperparameters_that_differ_come_first():
    table = export_table.markdown_table(frame({"seed": 0, "lr": 0.1}, {"seed": 1, "lr": 0.1}))
    assert [cell.strip() for cell in table.splitlines()[0].split("|")[1:3]] == ["seed", "Pretrained"]


def test_total_time():
    text = export_table.total_time(frame({}, {"seed": 1}))
    assert text == "Total training time of the 2 runs: 123.00 s on a GPU."
    partial = frame({})
    partial.attrs["left_out"] = {"crashed": 1, "failed": 2}
    text = "Total training time of the 1 run: 61.50 s on a GPU. Left out: 1 crashed, 2 failed."
    assert export_table.total_time(partial) == text


def test_readme_is_replaced_between_its_markers_only(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{export_table.README_BEGIN}\nold\n{export_table.README_END}\nbelow\n")
    export_table.replace_between_markers(readme, "new")
    text = f"above\n{export_table.README_BEGIN}\nnew\n{export_table.README_END}\nbelow\n"
    assert readme.read_text() == text and list(tmp_path.iterdir()) == [readme]


def test_readme_without_markers_is_left_alone(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing to replace\n")
    with pytest.raises(InputError, match="has no"):
        export_table.replace_between_markers(readme, "new")
    assert readme.read_text() == "nothing to replace\n"


def test_a_folder_that_cannot_be_is_said_before_the_runs(tmp_path):
    export_table.check_targets(tmp_path / "a" / "b", None)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder"):
        export_table.check_targets(tmp_path / "file" / "c", None)


@pytest.mark.parametrize("path", ["project", "a/b/c/d", ""])
def test_paths_that_name_no_project(path):
    with pytest.raises(InputError, match="takes ENTITY/PROJECT"):
        Results(path)
