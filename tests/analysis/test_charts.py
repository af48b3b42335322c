"""Figures of a sweep: what they show, and that nothing of it is cut off."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import charts, effects, runs_by_recipe

LEVELS = {"optimizer": ["Adam", "SGD", "AdamW"], "lr": [0.1, 0.01, 0.001], "finetuning": [True, False]}


def drawn(figure: Figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def sweep(parameters, seeds=range(5)):
    noise = iter(0.3 * np.random.default_rng(0).normal(size=1000))
    return runs_of(
        grid(parameters, seeds, model_name="vit_base_patch16_224.augreg_in21k_ft_in1k"),
        lambda config: 70 + 9 * config.pretrained + 2 * (config.optimizer == "SGD") + next(noise),
    )


def texts(figure: Figure) -> list[str]:
    [axes] = figure.axes
    labels = [*axes.get_yticklabels(), *axes.get_xticklabels(), *axes.texts]
    return [label.get_text() for label in labels if label.get_text()]


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{"optimizer": ["Adam", "SGD"]}, GRID, LEVELS])
@pytest.mark.parametrize("seeds", [[0], range(5)])
def test_nothing_is_cut_off(parameters, seeds):
    frame = sweep(parameters, seeds)
    recipes = runs_by_recipe.recipes(frame)
    for figure in (
        charts.effects(effects.comparisons(frame)),
        charts.parallel_coordinates(recipes, runs_by_recipe.varied(frame)),
    ):
        pixels = drawn(figure)
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (border == 255).all() and pixels.std() > 5 and max(pixels.shape) < 2200


def test_effects_show_what_is_real_in_colour_and_what_is_noise_in_grey():
    frame = sweep(GRID)
    found = effects.comparisons(frame)
    figure = charts.effects(found)
    shown = texts(figure)
    assert shown[0] == "pretrained: False → True" and "lead" not in " ".join(shown)
    marks = {line.get_color() for line in figure.axes[0].lines if line.get_marker() in ("o", "D")}
    assert marks == {charts.BLUE, charts.GREY}
    effect = next(one.effect for one in found if one.kind == "main" and one.significant)
    assert f"+{effect.mean:.2f} ± {effect.half_width:.2f}" in shown


def test_parallel_coordinates_have_a_line_a_recipe_and_a_mark_a_level():
    frame = sweep(LEVELS, seeds=[0])
    recipes = runs_by_recipe.recipes(frame)
    figure = charts.parallel_coordinates(recipes, runs_by_recipe.varied(frame))
    [axes] = figure.axes
    assert len(axes.patches) == len(recipes) == 18
    assert {"Adam", "AdamW", "SGD", "0.1", "0.01", "0.001", "True", "False"} <= set(texts(figure))
    assert {"finetuning", "optimizer", "lr", "test accuracy, %"} <= set(texts(figure))
    # The best recipe's line ends highest.
    ends = [line.get_path().vertices[-1, 1] for line in axes.patches]
    widths = [line.get_linewidth() for line in axes.patches]
    assert ends[-1] == max(ends) and widths[-1] > max(widths[:-1])


def test_a_search_stands_on_a_scale():
    frame = runs_of(
        grid({"lr": [i / 1000 for i in range(1, 31)]}, seeds=[0]), lambda config: 80 + 100 * config.lr
    )
    figure = charts.parallel_coordinates(runs_by_recipe.recipes(frame), ["lr"])
    marks = [text for text in texts(figure) if text.replace(".", "").isdigit()]
    assert len(marks) < 20 and len(figure.axes[0].patches) == 30
