"""The answer as data: what the embedded server takes, with the sentences that the report has."""

import sys

import pytest
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import conclusions, report_folder
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.answer_data import as_data
from wandb_tl.local.sweeps import answers

FLAGS = ["--local", "--root", "/my runs"]


def frame(seeds=range(3)):
    runs = runs_of(grid(GRID, seeds), lambda c: 70 + 10 * c.pretrained + 3 * c.finetuning + 0.1 * c.seed)
    runs.attrs["left_out"] = {"crashed": 2, "finished": 1}
    return runs


@pytest.mark.parametrize("seeds", [range(1), range(3)])
def test_the_server_takes_it_and_it_says_what_the_report_says(seeds):
    result = answer(frame(seeds), "a/b/c").with_flags(FLAGS)
    data = as_data(result)
    assert answers.check(data) == data
    report = "\n".join(report_folder.first_screen(result))
    assert all(sentence in report for sentence in data["sentences"])
    assert data["sentences"][0] == conclusions.winner(result)
    assert (data["runs"], data["finished"]) == (8 * len(seeds), 8 * len(seeds) + 1)
    recipes, changes = data["tables"]
    assert recipes["rows"][0][1:4] == ["True", "True", "Adam"] and len(recipes["rows"]) == 8
    assert len(changes["rows"]) == len(result.effects)
    assert changes["caption"] == conclusions.about_effects(result)
    assert ("caption" in recipes) == (len(seeds) > 1)


def test_every_command_uses_the_same_server_in_report_and_data():
    result = answer(frame(), "a/b/c").with_flags(FLAGS)
    lines = [command["line"] for command in as_data(result)["commands"]]
    assert len(lines) == 3 and all(line.startswith(f"{sys.executable} -m wandb_tl.") for line in lines)
    assert all(line.endswith("--local --root '/my runs'") for line in lines)
    report = "\n".join(report_folder.first_screen(result))
    assert report.count("--local --root '/my runs'\n") == 3
    assert "--local" not in "\n".join(report_folder.first_screen(answer(frame(), "a/b/c")))


def test_a_table_of_many_recipes_says_how_many_there_are():
    learning_rates = [0.001 * (1 + i) for i in range(25)]
    result = answer(runs_of(grid({"lr": learning_rates}, [0]), lambda c: 80 - c.lr), "a/b/c")
    recipes = as_data(result)["tables"][0]
    assert len(recipes["rows"]) == 12 and recipes["caption"] == "The report has 13 more recipes."
