"""Figures of a sweep: what they show, and that nothing of it is cut off."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import charts
from wandb_tl.analysis.answer import answer

LEVELS = {"optimizer": ["Adam", "SGD", "AdamW"], "lr": [0.1, 0.01, 0.001], "finetuning": [True, False]}


def drawn(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def sweep(parameters, seeds=range(5)):
    random = np.random.default_rng(0)
    frame = runs_of(
        grid(parameters, seeds, model_name="vit_base_patch16_224.augreg_in21k_ft_in1k"),
        lambda config: 70 + 9 * config.pretrained + 2 * (config.optimizer == "SGD") + 0.3 * random.normal(),
    )
    frame["train_seconds"] = np.where(frame["finetuning"], 300.0, 2.0) + random.random(len(frame))
    return answer(frame, "a/b/c")


def texts(figure: Figure) -> list[str]:
    [axes] = figure.axes
    labels = [*axes.get_yticklabels(), *axes.get_xticklabels(), *axes.texts]
    return [label.get_text() for label in labels if label.get_text()]


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{"optimizer": ["Adam", "SGD"]}, GRID, LEVELS])
@pytest.mark.parametrize("seeds", [[0], range(5)])
def test_nothing_is_cut_off(parameters, seeds):
    result = sweep(parameters, seeds)
    for figure in (charts.effects(result.effects), charts.frontier(result)):
        pixels = drawn(figure)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border == 255).all() and pixels.std() > 5 and max(pixels.shape) < 2200


def test_settled_changes_are_filled_and_others_are_hollow():
    result = sweep(GRID)
    figure = charts.effects(result.effects)
    assert texts(figure)[:3] == [
        "pretrained: True → False",
        "optimizer: SGD → Adam",
        "finetuning: True → False",
    ]
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    filled = [line.get_markerfacecolor() == charts.BLUE for line in marks]
    assert filled == [one.settled for one in result.effects] == [True, True, False]
    largest = result.effects[0].effect
    assert f"\N{MINUS SIGN}{-largest.mean:.2f} ± {largest.half_width:.2f}" in texts(figure)


def test_every_recipe_is_a_point_and_the_frontier_is_named():
    result = sweep(GRID)
    figure = charts.frontier(result)
    [axes] = figure.axes
    places = {tuple(place) for collection in axes.collections for place in collection.get_offsets()}
    assert places == {(one.price.seconds, one.accuracy.mean) for one in result.recipes}
    assert axes.get_xscale() == "log" and "row 1" in texts(figure)
    [line] = axes.lines
    assert line.get_xdata().tolist() == sorted(
        result.recipes[row - 1].price.seconds for row in result.frontier
    )
    heights = line.get_ydata().tolist()
    assert heights == sorted(heights) and heights[-1] == max(one.accuracy.mean for one in result.recipes)
