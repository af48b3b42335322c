import numpy as np
import pytest
import torch
from figure_reading import LONG, TITLE, is_whole, render, texts
from matplotlib.figure import Figure

from wandb_tl.figures import canvas, contact_sheets


def examples(count: int, names: list[str] = LONG) -> Figure:
    images = torch.randint(0, 255, (count, 3, 224, 224), dtype=torch.uint8)
    actual = [names[i % len(names)] for i in range(count)]
    predicted = [names[i * i % len(names)] for i in range(count)]
    return contact_sheets.examples(images, actual, predicted, TITLE)


def maps(count: int) -> Figure:
    return contact_sheets.feature_maps(
        torch.zeros(3, 224, 224, dtype=torch.uint8), torch.randn(count, 112, 112), TITLE
    )


def grad_cam(count: int, channels: int = 3, names: list[str] = LONG) -> Figure:
    images = torch.randint(0, 255, (count, channels, 96, 96), dtype=torch.uint8)
    actual = [names[i % len(names)] for i in range(count)]
    predicted = [names[i * i % len(names)] for i in range(count)]
    return contact_sheets.grad_cam(
        images, torch.rand(count, 7, 7), actual, predicted, ["97.3 %"] * count, TITLE
    )


SHEETS = {
    **{f"{count} examples": lambda count=count: examples(count) for count in (1, 2, 40)},
    **{f"{count} maps": lambda count=count: maps(count) for count in (1, 16, 64)},
    **{f"heat in {count}": lambda count=count: grad_cam(count) for count in (1, 3, 12)},
    "heat in a grey image": lambda: grad_cam(1, 1, ["cat", "dog"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHEETS)
def test_nothing_is_cut_off(name):
    figure = SHEETS[name]()
    assert max(render(figure).shape) < 2200 and is_whole(figure)


def test_examples_mark_mistakes_in_colour_and_in_words():
    images = torch.randint(0, 255, (3, 1, 28, 28), dtype=torch.uint8)
    figure = contact_sheets.examples(images, ["a", "b", "c"], ["a", "c", "c"], "run")
    labels = [text for text in texts(figure) if text.get_text() != "run\nactual → predicted"]
    assert [label.get_text() for label in labels] == ["a\n→ a", "b\n→ c", "c\n→ c"]
    assert [label.get_color() for label in labels] == ["black", canvas.VERMILION, "black"]


def test_labels_of_examples_do_not_touch():
    figure = examples(40)
    boxes = [text.get_window_extent() for text in texts(figure) if "→ " in text.get_text()]
    labels = [box for box in boxes if box.y1 < figure.bbox.y1 - 40]
    assert len(labels) == 40 and max(box.width for box in labels) <= 203


def test_examples_keep_the_pixels_of_their_images():
    red, green = torch.zeros(2, 3, 28, 28, dtype=torch.uint8)
    red[0, :14], green[1] = 255, 200
    pixels = render(contact_sheets.examples(torch.stack([red, green]), ["a", "b"], ["a", "b"], "run"))
    for colour, share in ((255, 0, 0), 0.5), ((0, 0, 0), 0.5), ((0, 200, 0), 1):
        shown = (pixels == colour).all(-1).sum()
        assert abs(shown - share * 199 * 199) < 500, colour


def test_feature_maps_show_the_image_and_at_most_64_maps():
    image = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 8, 8)
    ramps = torch.arange(16.0).reshape(1, 4, 4).repeat(200, 1, 1) * torch.arange(1, 201)[:, None, None]
    pixels = render(contact_sheets.feature_maps(image, ramps, "run"))
    assert (pixels == (255, 0, 0)).all(-1).sum() == 230 * 230
    # Each map has the darkest and the brightest colour once in its 16 values, whatever its range.
    for colour in ((68, 1, 84), (253, 231, 36)):
        shown = (pixels == colour).all(-1).sum()
        assert abs(shown / (64 * 95 * 95 / 16) - 1) < 0.1, colour


def test_feature_maps_bear_constants_and_what_is_no_number():
    values = torch.full((3, 112, 112), 0.5)
    values[1], values[2, :56] = float("nan"), float("inf")
    pixels = render(contact_sheets.feature_maps(torch.zeros(1, 8, 8, dtype=torch.uint8), values, "run"))
    assert (pixels[:, 250:345] == (68, 1, 84)).all(-1).sum() == 95 * 95
    assert (pixels[40:, 354:449] == 255).all()


def test_grad_cam_marks_mistakes_in_colour_and_in_words():
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    figure = contact_sheets.grad_cam(
        images, torch.rand(2, 7, 7), ["a", "$b$"], ["a", "c"], ["60 %", "99 %"], "run"
    )
    labels = [text for text in texts(figure) if not text.get_text().startswith("run")]
    assert [text.get_text() for text in labels] == ["a\n→ a\nright, 60 %", "$b$\n→ c\nwrong, 99 %"]
    assert [text.get_color() for text in labels] == ["black", canvas.VERMILION]


def test_grad_cam_shows_the_image_above_its_heat():
    heat = torch.zeros(1, 4, 4)
    heat[0, 3, 3], heat[0, 0, 3] = 1, float("nan")
    image = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None].expand(1, 3, 8, 8)
    pixels = render(contact_sheets.grad_cam(image, heat, ["a"], ["a"], ["60 %"], "run")).astype(int)
    rows, columns = np.nonzero((pixels == (255, 0, 0)).all(-1))
    assert len(rows) == 199 * 199
    below, left, right = rows.max() + 1, columns.min(), columns.max()
    # 0.45 of the image in grey and 0.55 of the darkest and the brightest colour of viridis.
    for x, y, colour in (
        (left, below + 198, (68, 1, 84)),
        (right, below + 198, (253, 231, 36)),
        (right, below, (68, 1, 84)),
    ):
        expected = 0.45 * 85 + 0.55 * np.array(colour)
        assert abs(pixels[y, x] - expected).max() <= 1, (x, y)
