import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import datasets

CLASSES = ["t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder data set: two classes, 8 training and 4 test images each, of different sizes and modes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 4)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(100 * label, 100 * label + 100, (20 + number, 30, 3), dtype=np.uint8)
                picture = Image.fromarray(pixels).convert("L" if number % 2 else "RGB")
                picture.save(tmp_path / part / name / f"{number}.png")
    return tmp_path


def test_fashion_mnist_is_whole(fashion_mnist_cache):
    data = datasets.load(RunConfig())
    assert data.train.images.shape == (60000, 1, 28, 28) and data.train.images.dtype == torch.uint8
    assert data.test.images.shape == (10000, 1, 28, 28) and data.val is None
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.class_names == [*CLASSES, "ankle boot"]


def test_limits_and_held_out_images_do_not_overlap_and_do_not_depend_on_the_seed(fashion_mnist_cache):
    options = {"train_limit": 500, "test_limit": 100, "val_fraction": 0.01}
    data = datasets.load(RunConfig(seed=0, **options))
    assert (len(data.train), len(data.val), len(data.test)) == (500, 600, 100)
    train = {image.numpy().tobytes() for image in data.train.images}
    assert not train & {image.numpy().tobytes() for image in data.val.images}
    again = datasets.load(RunConfig(seed=7, **options))
    assert torch.equal(data.train.images, again.train.images)


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_damaged_file_is_named(fashion_mnist_cache, tmp_path, damage):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in datasets.FASHION_MNIST_SHA256:
        (raw / name).write_bytes((fashion_mnist_cache / "FashionMNIST" / "raw" / name).read_bytes())
    labels = bytearray((raw / "t10k-labels-idx1-ubyte").read_bytes())
    labels[-1] ^= 1
    (raw / "t10k-labels-idx1-ubyte").write_bytes(labels[:-100] if damage == "truncated" else labels)
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte: damaged"):
        datasets.load(RunConfig(data_dir=str(tmp_path)))


def test_no_source_of_data_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    for name in ("_from_debian_folder", "_from_download", "_from_debian_package"):

        def unreachable(folder: Path) -> None:
            raise RuntimeError("no route to host")

        unreachable.__name__ = name
        monkeypatch.setattr(datasets, name, unreachable)
    with pytest.raises(InputError, match="cannot be fetched: no route to host") as refusal:
        datasets.load(RunConfig(data_dir=str(tmp_path)))
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "FashionMNIST" / "raw").iterdir())


def test_preprocess_repeats_grey_scales_and_normalises():
    images = torch.full((2, 1, 28, 28), 255, dtype=torch.uint8)
    images[1] = 0
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.4, 0.2)
    pixels = datasets.Preprocess(64, mean, std, torch.device("cpu"))(images)
    assert pixels.shape == (2, 3, 64, 64)
    white = torch.tensor([(1 - m) / s for m, s in zip(mean, std, strict=True)])
    black = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)])
    torch.testing.assert_close(pixels[0, :, 5, 7], white)
    torch.testing.assert_close(pixels[1, :, 60, 1], black)


def test_augmentation_flips_and_shifts_each_image_on_its_own():
    torch.manual_seed(0)
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    image[0, 4, 2] = 200
    images = image.repeat(200, 1, 1, 1)
    assert datasets.augment(images, "none") is images
    flipped = datasets.augment(images, "flip")
    columns = flipped.amax(dim=(1, 2)).argmax(1)
    assert set(columns.tolist()) == {2, 5}
    shifted = datasets.augment(images, "flip_crop")
    places = {divmod(int(i), 8) for i in shifted.flatten(1).argmax(1)}
    assert places == {(row, column) for row in (3, 4, 5) for column in (1, 2, 3, 4, 5, 6)}


def test_folder_of_images(folder):
    data = datasets.load(RunConfig(dataset="folder", data_dir=str(folder), image_size=16, batch_size=4))
    assert data.train.images.shape == (16, 3, 16, 16) and len(data.test) == 8
    assert data.class_names == ["cat", "dog"]
    means = data.train.images.float().mean((1, 2, 3))
    assert means[data.train.labels == 0].max() < 100 < means[data.train.labels == 1].min()


def test_bad_folders_are_refused_in_one_line(folder):
    def refusal(**options) -> str:
        with pytest.raises(InputError) as error:
            datasets.load(RunConfig(dataset="folder", image_size=16, **{"batch_size": 4} | options))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "takes a folder with train/CLASS" in refusal(data_dir="")
    assert "takes a folder with train/CLASS" in refusal(data_dir=str(folder / "train"))
    assert "more than the training images (16)" in refusal(data_dir=str(folder), batch_size=17)
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    assert "0.png: not a readable image" in refusal(data_dir=str(folder))
    (folder / "train" / "ape").mkdir()
    assert "ape" in refusal(data_dir=str(folder))


def test_a_process_reads_images_again_only_if_they_have_changed(folder):
    cache = datasets.ImageCache()

    def load(image_size: int = 16, **options) -> datasets.Dataset:
        config = {"dataset": "folder", "data_dir": str(folder), "image_size": image_size, "batch_size": 4}
        return datasets.load(RunConfig(**config | options), cache)

    first = load()
    (folder / "train" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0\.png: not a readable image"):
        load()
    Image.new("RGB", (30, 30), "white").save(folder / "train" / "cat" / "0.png")
    second = load()
    assert (second.train.images != first.train.images).any()
    # A file that looks unchanged is not read.
    unreadable = folder / "test" / "dog" / "0.png"
    changed = unreadable.stat().st_mtime_ns
    unreadable.write_bytes(b"no image")
    os.utime(unreadable, ns=(changed, changed))
    again = load(val_fraction=0.25)
    assert torch.equal(again.test.images, second.test.images) and len(again.val) == 4
    with pytest.raises(InputError, match=r"0\.png: not a readable image"):
        load(image_size=17)
