import pytest
import torch
from figure_reading import LONG, TITLE, is_whole, render, words

from wandb_tl.figures import canvas, suspicious_pictures
from wandb_tl.figures.suspicious_pictures import LETTERS, SIDE, Tile

PATH = "train/some/deep/folder of a class with a long name/IMG_20240311_142355_a_bird_in_a_tree.jpeg"


def tile(shade: int, name: str = PATH, channels: int = 3) -> Tile:
    image = torch.full((channels, 64, 64), shade, dtype=torch.uint8)
    return Tile(image, (name, f"labelled {LONG[shade % 4]}", "looks like cat (93%)"), important=2)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_sheets_are_whole_at_any_number_of_pictures(count: int):
    pairs = [(tile(number), tile(number + 100)) for number in range(count)]
    single = [tile(number, channels=1) for number in range(count)]
    assert is_whole(suspicious_pictures.pairs(pairs, ["alike two labels"] * count, TITLE))
    assert is_whole(suspicious_pictures.single(single, TITLE))


def test_both_pictures_of_a_pair_and_their_lines_are_drawn():
    figure = suspicious_pictures.pairs([(tile(40, "a.png"), tile(200, "b.png"))], ["leak"], "Pairs")
    pixels = render(figure)
    for shade in (40, 200):
        assert (pixels == shade).all(axis=-1).sum() >= SIDE * SIDE * 0.95
    assert {"a.png", "b.png", "leak", "Pairs"} <= set(words(figure))


def test_of_a_long_path_the_beginning_and_the_end_of_the_name_fit():
    name = suspicious_pictures.shortened(PATH, SIDE)
    file = PATH.rpartition("/")[2]
    begin, _, end = name.partition("…")
    assert file.startswith(begin) and file.endswith(end) and len(name) > 10
    assert canvas.text_width(name, LETTERS) <= SIDE
    assert suspicious_pictures.shortened("birds/a.png", SIDE) == "birds/a.png"
