from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from wandb_tl import figures

TITLE = "tf_efficientnet_lite0-pretrainedTrue-finetuningTrue-optimAdam-seed0"
LONG = ["Golden Retriever (female)", "Yellow-bellied marmot WWW", "American_Staffordshire_Te", "x" * 60]


def render(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def texts(figure: Figure) -> list[Text]:
    return [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def confusion(classes: int, names: list[str] = LONG) -> Figure:
    counts = torch.randint(1, 99, (classes, classes)) + 999 * torch.eye(classes, dtype=torch.int64)
    return figures.confusion_matrix(counts, [names[i % len(names)] for i in range(classes)], TITLE)


def examples(count: int, names: list[str] = LONG) -> Figure:
    images = torch.randint(0, 255, (count, 3, 224, 224), dtype=torch.uint8)
    actual = [names[i % len(names)] for i in range(count)]
    predicted = [names[i * i % len(names)] for i in range(count)]
    return figures.examples(images, actual, predicted, TITLE)


def maps(count: int) -> Figure:
    return figures.feature_maps(
        torch.zeros(3, 224, 224, dtype=torch.uint8), torch.randn(count, 112, 112), TITLE
    )


def curves(losses: list[float], title: str = TITLE) -> Figure:
    rows = [
        {"epoch": e, "train/loss": x, "train/accuracy": 0.5, "test/loss": 2 * x, "test/accuracy": 0.89995}
        for e, x in enumerate(losses, 1)
    ]
    return figures.curves(rows, title)


FIGURES = {
    **{
        f"{classes} classes": lambda classes=classes: confusion(classes)
        for classes in (1, 2, 10, 37, 100, 300)
    },
    "short names": lambda: confusion(10, ["cat", "dog"]),
    **{f"{count} examples": lambda count=count: examples(count) for count in (1, 2, 40)},
    **{f"{count} maps": lambda count=count: maps(count) for count in (1, 16, 64)},
    "one epoch": lambda: curves([0.5]),
    "diverged": lambda: curves([1.0, 1e9], f"{TITLE}-{TITLE}-{TITLE}"),
    "not a number": lambda: curves([float("nan")] * 3),
    "tiny losses": lambda: curves([0.00012, 0.00003]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(name):
    figure = FIGURES[name]()
    assert max(render(figure).shape) < 2100
    drawn = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height


@pytest.mark.parametrize("classes", [2, 10, 37, 100, 300])
def test_names_of_classes_do_not_touch(classes):
    figure = confusion(classes, LONG[:3])
    names = [text for text in texts(figure) if text.get_text() in LONG and not text.get_rotation()]
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
    assert len(boxes) == min(classes, 100) and min(text.get_fontsize() for text in names) >= 7
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


def test_confusion_matrix_shows_every_count_and_no_zero():
    figure = figures.confusion_matrix(torch.tensor([[7, 3], [0, 0]]), ["cat", "$dog$ \\x$"], "title")
    shown = words(figure)
    assert {"7", "3", "cat", "$dog$ \\x$", "title", "actual", "predicted"} <= set(shown) and "0" not in shown
    pixels = render(figure)
    dark, light = (
        pixels[pixels.shape[0] // 4, int(text.get_position()[0]) + 30]
        for text in texts(figure)
        if text.get_text() in ("7", "3")
    )
    assert dark.sum() < light.sum() < 3 * 255


def test_examples_mark_mistakes_in_colour_and_in_words():
    images = torch.randint(0, 255, (3, 1, 28, 28), dtype=torch.uint8)
    figure = figures.examples(images, ["a", "b", "c"], ["a", "c", "c"], "run")
    labels = [text for text in texts(figure) if text.get_text() != "run\nactual → predicted"]
    assert [label.get_text() for label in labels] == ["a\n→ a", "b\n→ c", "c\n→ c"]
    assert [label.get_color() for label in labels] == ["black", figures.VERMILION, "black"]


def test_labels_of_examples_do_not_touch():
    figure = examples(40)
    boxes = [text.get_window_extent() for text in texts(figure) if "→ " in text.get_text()]
    labels = [box for box in boxes if box.y1 < figure.bbox.y1 - 40]
    assert len(labels) == 40 and max(box.width for box in labels) <= 203


def test_examples_keep_the_pixels_of_their_images():
    red, green = torch.zeros(2, 3, 28, 28, dtype=torch.uint8)
    red[0, :14], green[1] = 255, 200
    pixels = render(figures.examples(torch.stack([red, green]), ["a", "b"], ["a", "b"], "run"))
    for colour, share in ((255, 0, 0), 0.5), ((0, 0, 0), 0.5), ((0, 200, 0), 1):
        shown = (pixels == colour).all(-1).sum()
        assert abs(shown - share * 199 * 199) < 500, colour


def test_feature_maps_show_the_image_and_at_most_64_maps():
    image = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    ramps = torch.arange(16.0).reshape(1, 4, 4).repeat(200, 1, 1) * torch.arange(1, 201)[:, None, None]
    pixels = render(figures.feature_maps(image, ramps, "run"))
    assert (pixels == (255, 0, 0)).all(-1).sum() == 230 * 230
    # Each map has the darkest and the brightest colour once in its 16 values, whatever its range.
    for colour in ((68, 1, 84), (253, 231, 36)):
        shown = (pixels == colour).all(-1).sum()
        assert abs(shown / (64 * 95 * 95 / 16) - 1) < 0.1, colour


def test_feature_maps_bear_constants_and_what_is_no_number():
    values = torch.full((3, 112, 112), 0.5)
    values[1], values[2, :56] = float("nan"), float("inf")
    pixels = render(figures.feature_maps(torch.zeros(1, 8, 8, dtype=torch.uint8), values, "run"))
    assert (pixels[:, 250:345] == (68, 1, 84)).all(-1).sum() == 95 * 95
    assert (pixels[40:, 354:449] == 255).all()


def test_curves_draw_the_splits_that_there_are():
    figure = curves([1, 1 / 2, 1 / 3])
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "test"]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    assert accuracy.get_ylabel() == "accuracy" and render(figure).std() > 10
