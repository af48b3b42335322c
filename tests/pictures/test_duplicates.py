import numpy as np
from PIL import Image, ImageEnhance

from wandb_tl.pictures import duplicates
from wandb_tl.pictures.framing import Framing, thumbnail


def scene(seed: int) -> Image.Image:
    """A smooth random picture."""
    small = np.random.default_rng(seed).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((300, 200), Image.Resampling.BICUBIC)


def thumbnails(pictures: list[Image.Image]) -> np.ndarray:
    frame = Framing(64, "squash", 1.0, "bilinear")
    return np.stack([thumbnail(frame(picture)) for picture in pictures])


def test_pictures_that_were_stored_again_look_alike_and_others_do_not(tmp_path):
    pictures = [scene(seed) for seed in range(150)]
    pictures[3].resize((150, 100)).save(tmp_path / "smaller.jpg", quality=70)
    again = Image.open(tmp_path / "smaller.jpg")
    brighter = ImageEnhance.Brightness(pictures[7]).enhance(1.02)
    assert duplicates.alike(thumbnails([*pictures, again, brighter])) == [(3, 150), (7, 151)]


def test_plain_pictures_do_not_count_as_alike():
    plain = [Image.new("RGB", (50, 50), (value, value, value)) for value in (10, 11, 200, 200)]
    assert duplicates.alike(thumbnails(plain)) == []


def test_pairs_across_chunks_are_found():
    pictures = [scene(seed) for seed in range(700)]
    assert duplicates.alike(thumbnails([*pictures, pictures[0], pictures[699]])) == [(0, 700), (699, 701)]


def test_of_very_many_pairs_only_the_first_ones_are_returned():
    same = thumbnails([scene(0)] * 100)
    assert duplicates.alike(same, most=10) == duplicates.alike(same)[:10]
    assert len(duplicates.alike(same)) == 100 * 99 // 2
