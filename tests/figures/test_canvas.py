import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from wandb_tl.figures import canvas

NAMES = ["t-shirt/top", "Yellow-bellied marmot WWW", "i" * 30, "$5 and \\$10", "Ünïcödé"]


def render(axes) -> np.ndarray:
    axes.figure.canvas.draw()
    return np.asarray(axes.figure.canvas.buffer_rgba())[..., :3]


def luminance(colour: str) -> float:
    """Relative luminance of the Web Content Accessibility Guidelines."""
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_a_place_on_a_page_is_a_pixel_from_the_top_left_corner():
    axes = canvas.page(300, 200, "")
    canvas.bars(axes, np.array([[20, 50]]), np.array([[110, 100]]), facecolor=canvas.BLUE)
    blue = (render(axes) == np.round(255 * np.array(to_rgb(canvas.BLUE)))).all(-1)
    rows, columns = np.nonzero(blue)
    assert blue.shape == (200, 300) and (rows.min(), rows.max(), columns.min(), columns.max()) == (
        100,
        109,
        20,
        49,
    )


@pytest.mark.parametrize("width", [400, 820, 1500])
def test_titles_fit_into_their_page(width):
    title, height = canvas.wrapped(
        "tf_efficientnet_lite0-pretrainedTrue-" * 5 + "\nactual → predicted", width
    )
    axes = canvas.page(width, 400, title)
    box = axes.figure.texts[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= width and 400 - box.y0 <= height
    assert title.endswith("\nactual → predicted") and "".join(title.split("\n")[:-1]).count("lite0") == 5


@pytest.mark.parametrize("width", [80, 120, 250, 1000])
def test_fitting_letters_fit_and_are_as_large_as_they_can_be(width):
    letters = canvas.fitting_letters(NAMES, width, 14)
    needed = canvas.widest(NAMES, letters)
    if letters > canvas.SMALLEST_LETTERS:
        assert needed <= width and (letters == 14 or needed > 0.9 * width)
    else:
        assert canvas.widest(NAMES, canvas.SMALLEST_LETTERS + 1) > width


def test_texts_are_as_wide_as_they_are_drawn():
    axes = canvas.page(900, 300, "")
    for i, name in enumerate(NAMES):
        canvas.text(axes, 10, 30 + 50 * i, name, 13)
    for name, shown in zip(NAMES, axes.texts, strict=True):
        assert shown.get_text() == name
        assert abs(shown.get_window_extent().width - canvas.text_width(name, 13)) <= 1


def test_long_names_are_cut_and_short_ones_kept():
    assert canvas.shortened("a" * 30) == "a" * 30
    assert canvas.shortened("a" * 31) == "a" * 29 + "…"


@pytest.mark.parametrize("rows", [1, 2, 5, 12])
def test_rows_stand_in_two_columns_without_touching(rows):
    axes = canvas.page(900, 500, "")
    pairs = [(f"{NAMES[1]} → {NAMES[i % 5]}", f"{10 ** (i % 6)} (9%)") for i in range(rows)]
    canvas.two_columns(axes, pairs, 900, 40, 36, 14)
    boxes = [shown.get_window_extent() for shown in axes.texts]
    assert len(boxes) == 2 * rows
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert min(box.x0 for box in boxes) >= 0 and max(box.x1 for box in boxes) <= 900


def test_small_images_keep_their_pixels_and_large_ones_are_smoothed():
    board = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8)
    small = canvas.resized(board[None, None], 100)
    assert small.shape == (1, 1, 100, 100) and set(small.unique().tolist()) == {0, 255}
    large = canvas.resized(board.repeat(200, 100)[None, None], 100)
    assert large.shape == (1, 1, 200, 100) and 100 < large.float().mean() < 155
    assert large[..., 10:-10, 10:-10].float().std() < 20


def test_colours_of_shares():
    colours = canvas.coloured(torch.tensor([[[0.0, 1.0, float("nan")]]]))
    assert colours[0, :, 0].T.tolist() == [[68, 1, 84], [253, 231, 36], [255, 255, 255]]


def test_grey_letters_can_be_read_on_white():
    # The guidelines ask for a contrast of 4.5.
    assert 1.05 / (luminance(canvas.GREY) + 0.05) >= 4.5
    assert 1.05 / (luminance(canvas.BLUE) + 0.05) >= 4.5
