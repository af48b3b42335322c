"""Recipes between which too few pictures choose."""

import numpy as np
import pytest
from sweep_frames import grid, runs_of

from wandb_tl import export_table
from wandb_tl.analysis import answer_data, conclusions, report_folder
from wandb_tl.analysis.answer import answer
from wandb_tl.sweeping import sweep_definitions

VALUES = {"finetuning": [False, True], "lr": [0.001, 0.006], "image_size": [96, 160]}
ALL_OF_9 = "All 8 recipes classify all 9 validation pictures correctly: too few to choose between them."


def sweep(validation=1.0, images=9.0, train_images=39.0):
    """validation: the share of validation pictures that are right, of all runs or of each."""
    configs = grid(VALUES, [0], model_name="tf_efficientnet_lite0", val_fraction=0.2, batch_size=32)
    frame = runs_of(configs, lambda c: 80 + 10 * c.finetuning)
    numbers = {"val/accuracy": validation, "val_images": images, "train_images": train_images}
    return frame.assign(**numbers, test_images=20.0)


def test_eight_recipes_that_have_all_of_9_pictures_right_are_not_told_apart():
    result = answer(sweep(), "a/b/c")
    page, report = answer_data.as_data(result), "\n".join(report_folder.first_screen(result))
    assert report.startswith(f"**{ALL_OF_9} The order of the hyperparameters puts row 1 first: `fine")
    assert page["sentences"][0] == conclusions.winner(result) and ALL_OF_9 in page["sentences"][0]
    lines = export_table.last_lines(result)
    assert lines[0].startswith(ALL_OF_9)
    # With fewer than 32 training pictures, no batch would be full.
    assert (
        result.next_runs.command is None and "Next, add pictures, to choose the recipe on more" in lines[-2]
    )
    for text in (report, " ".join(page["sentences"])):
        assert "More pictures would tell the recipes apart." in text
    assert not any("seeds" in text.partition("Not settled")[0] for text in (report, *lines))


def test_the_next_sweep_has_the_same_recipes_and_more_validation_pictures():
    result = answer(sweep(train_images=400.0, images=100.0), "a/b/c")
    [line] = [line for line in export_table.last_lines(result) if line.startswith("Next, ")]
    assert "Next, add pictures or hold out more of them with a larger val_fraction (8 runs): " in line
    preset, *arguments = result.next_runs.command.arguments
    parameters = sweep_definitions.load(preset, arguments[1::2])["parameters"]
    assert parameters["val_fraction"] == {"value": 0.4} and parameters["seed"] == {"value": 0}
    assert {name: parameters[name]["values"] for name in VALUES} == VALUES


def test_some_of_the_recipes_and_the_pictures_that_are_both_validation_and_test():
    right = answer(sweep([1.0] * 3 + [0.8] * 5), "a/b/c")
    assert conclusions.winner(right).startswith("3 of the 8 recipes classify all 9 validation pictures corr")
    both = sweep().drop(columns="val_images").assign(test_is_val=1.0)
    assert "all 20 validation pictures" in conclusions.winner(answer(both, "a/b/c"))
    # A run of an earlier version does not tell how many there are.
    assert "all validation pictures" in conclusions.winner(answer(sweep(images=np.nan), "a/b/c"))


def test_all_recipes_that_are_equally_wrong_are_not_told_apart_either():
    result = answer(sweep(8 / 9), "a/b/c")
    assert conclusions.winner(result).startswith(
        "All 8 recipes have the same validation accuracy on 9 pictures, which does not choose between them."
    )


@pytest.mark.parametrize("validation", [[0.9, 0.9, *[0.8] * 6], [1.0, *[0.8] * 7]])
def test_other_ties_and_a_single_winner_keep_their_sentence(validation):
    result = answer(sweep(validation), "a/b/c")
    assert result.tie is None and conclusions.winner(result).startswith("Use row 1: ")
