import io

import numpy as np
import torch
from PIL import Image

from wandb_tl import figures


def render(figure) -> np.ndarray:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))


def texts(figure) -> list[str]:
    return [
        text.get_text() for axes in figure.axes for text in [*axes.texts, axes.title, *axes.get_yticklabels()]
    ]


def test_confusion_matrix_shows_every_count_and_no_zero():
    figure = figures.confusion_matrix(torch.tensor([[7, 3], [0, 0]]), ["cat", "dog"], "title")
    assert {"7", "3", "cat", "dog", "title"} <= set(texts(figure)) and "0" not in texts(figure)
    assert render(figure).std() > 10


def test_confusion_matrix_of_a_hundred_classes_stays_an_image():
    figure = figures.confusion_matrix(
        torch.eye(100, dtype=torch.int64), [f"class {i}" for i in range(100)], ""
    )
    assert max(render(figure).shape) < 4000


def test_examples_mark_mistakes_in_colour_and_in_words():
    images = torch.randint(0, 255, (3, 1, 28, 28), dtype=torch.uint8)
    figure = figures.examples(images, ["a", "b", "c"], ["a", "c", "c"], "run")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:3] == ["a\n→ a", "b\n→ c", "c\n→ c"]
    assert figure.axes[1]._left_title.get_color() == figures.VERMILION


def test_feature_maps_show_the_image_and_at_most_64_maps():
    figure = figures.feature_maps(torch.zeros(3, 8, 8, dtype=torch.uint8), torch.randn(200, 4, 4), "run")
    image, *maps = [axes for part in figure.subfigs for axes in part.axes if axes.images]
    assert image.images[0].get_array().shape == (8, 8, 3) and len(maps) == 64


def test_curves_draw_the_splits_that_there_are():
    rows = [
        {"epoch": e, "train/loss": 1 / e, "train/accuracy": 0.5, "test/loss": 1.0, "test/accuracy": 0.4}
        for e in (1, 2, 3)
    ]
    figure = figures.curves(rows, "run")
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "test"]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    assert accuracy.get_ylabel() == "accuracy"
