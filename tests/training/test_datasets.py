from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.pictures import decoding
from wandb_tl.training import datasets, own_data

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
    assert (len(data.train), len(data.val), len(data.test)) == (500, 589, 100)
    train = {image.numpy().tobytes() for image in data.train.images}
    assert not train & {image.numpy().tobytes() for image in data.val.images}
    again = datasets.load(RunConfig(seed=7, **options))
    assert torch.equal(data.train.images, again.train.images)


def folds_of(count: int, load_fold: Callable[[str], datasets.Dataset]) -> list[datasets.Dataset]:
    """The data of each fold, after a check that every training image is held out in exactly one of them."""
    folds = [load_fold(f"{number}/{count}") for number in range(1, count + 1)]
    contents = [{image.numpy().tobytes() for image in data.val.images} for data in folds]
    for number, data in enumerate(folds):
        train = {image.numpy().tobytes() for image in data.train.images}
        others = set().union(*contents[:number], *contents[number + 1 :])
        assert not contents[number] & others and train == others
        assert torch.equal(data.test.images, folds[0].test.images)
    return folds


def test_folds_of_a_named_data_set_are_stratified_and_limits_only_thin_the_rest(fashion_mnist_cache):
    folds = folds_of(2, lambda fold: datasets.load(RunConfig(fold=fold)))
    # The classes have 6,000 images each, with a few copies.
    for data in folds:
        assert all(2990 <= count <= 3010 for count in data.val.labels.bincount().tolist())
    limited = datasets.load(RunConfig(fold="2/2", train_limit=500, seed=3))
    assert len(limited.train) == 500 and torch.equal(limited.val.images, folds[1].val.images)
    held_out = {image.numpy().tobytes() for image in limited.val.images}
    assert not held_out & {image.numpy().tobytes() for image in limited.train.images}


def test_folds_of_own_data_are_disjoint_and_cover_everything():
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 255, (90, 8, 8, 3), dtype=np.uint8), np.arange(90) % 3
    own = own_data.read({"train": (images, labels), "test": (images[:9], labels[:9])})
    values = {"image_size": 32, "model_name": "tf_efficientnet_lite0", "batch_size": 8}
    cache = datasets.ImageCache()
    folds = folds_of(
        4, lambda fold: datasets.load(RunConfig(**values, dataset=own.name, fold=fold), cache, own=own)
    )
    assert sum(len(data.val) for data in folds) == 90
    for data in folds:
        assert all(count in (7, 8) for count in data.val.labels.bincount().tolist())
    with_val = own_data.read([(images, labels)] * 3)
    with pytest.raises(InputError, match="fold: there is a validation split, which is used; leave fold out"):
        datasets.load(RunConfig(**values, dataset=with_val.name, fold="1/4"), own=with_val)


def load(folder: Path, cache: datasets.ImageCache | None = None, **options) -> datasets.Dataset:
    values = {"dataset": "folder", "data_dir": str(folder), "image_size": 16, "batch_size": 4}
    return datasets.load(RunConfig(**values | {"model_name": "tf_efficientnet_lite0"} | options), cache)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch, fashion_mnist_cache):
    """A cache folder that holds nothing but Fashion-MNIST."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "FashionMNIST").symlink_to(fashion_mnist_cache / "FashionMNIST")
    monkeypatch.setenv("WANDB_TL_CACHE", str(cache))


def test_folder_of_images(folder, capsys):
    data = load(folder)
    assert data.train.images.shape == (16, 3, 16, 16) and len(data.test) == 8
    assert data.class_names == ["cat", "dog"]
    means = data.train.images.float().mean((1, 2, 3))
    assert means[data.train.labels == 0].max() < 100 < means[data.train.labels == 1].min()
    assert data.test.names == [f"test/{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]
    assert f"{folder}: 24 pictures of 2 classes (16 train, 8 test)" in capsys.readouterr().out


def test_bad_folders_are_refused_in_one_line(folder):
    def refusal(**options) -> str:
        with pytest.raises(InputError) as error:
            load(**{"folder": folder} | options)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "there is no folder" in refusal(folder=folder / "nowhere")
    assert "more than the training images (16)" in refusal(batch_size=17)
    (folder / "test" / "ape").mkdir()
    (folder / "test" / "ape" / "0.png").write_bytes((folder / "test" / "cat" / "0.png").read_bytes())
    assert "class ape is in test, but has no training pictures" in refusal()


def test_all_unreadable_files_are_listed_at_once_and_can_be_skipped(folder):
    (folder / "train" / "cat" / "0.png").write_bytes(b"<!DOCTYPE html>")
    (folder / "train" / "dog" / "1.png").write_bytes(b"")
    whole = (folder / "test" / "dog" / "0.png").read_bytes()
    (folder / "test" / "dog" / "0.png").write_bytes(whole[:90])
    for _ in range(2):  # the reasons are remembered
        with pytest.raises(InputError) as error:
            load(folder)
        message = str(error.value)
        assert message.startswith("3 pictures cannot be read") and "on_bad_image=skip" in message
        for name in ("train/cat/0.png", "train/dog/1.png", "test/dog/0.png"):
            assert name in message
    data = load(folder, on_bad_image="skip")
    assert (len(data.train), len(data.test), data.skipped) == (14, 7, 3)
    assert "test/dog/0.png" not in data.test.names
    (folder / "test" / "dog" / "0.png").write_bytes(whole)
    assert load(folder, on_bad_image="skip").skipped == 2


@pytest.fixture
def decoded(monkeypatch) -> list[Path | BinaryIO]:
    """The files that are decoded from now on."""
    files = []
    open_picture = decoding.open_picture

    def counting(file: Path | BinaryIO) -> Image.Image:
        files.append(file)
        return open_picture(file)

    monkeypatch.setattr(decoding, "open_picture", counting)
    return files


def test_only_changed_and_new_files_are_decoded(folder, decoded):
    first = load(folder)
    assert len(decoded) == 24
    decoded.clear()
    second = load(folder)
    assert torch.equal(second.train.images, first.train.images) and decoded == []
    Image.new("RGB", (30, 30), "white").save(folder / "train" / "cat" / "0.png")
    Image.new("RGB", (30, 30), "blue").save(folder / "train" / "dog" / "new.png")
    (folder / "train" / "dog" / "7.png").unlink()
    third = load(folder)
    assert len(third.train) == 16 and len(decoded) == 2
    assert (third.train.images[third.train.names.index("train/cat/0.png")] == 255).all()
    for name in set(first.train.names) & set(third.train.names) - {"train/cat/0.png"}:
        before = first.train.images[first.train.names.index(name)]
        assert torch.equal(third.train.images[third.train.names.index(name)], before)
    # A smaller part of the pictures is taken from those that are decoded.
    limited = load(folder, train_limit=6)
    assert len(decoded) == 2
    same = [third.train.names.index(name) for name in limited.train.names]
    assert len(limited.train) == 6 and torch.equal(limited.train.images, third.train.images[same])


def test_without_space_on_the_disk_pictures_are_decoded_into_memory(folder, monkeypatch):
    stored = load(folder)
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0")
    monkeypatch.setenv("WANDB_TL_CACHE", str(folder / "another"))
    data = load(folder)
    assert torch.equal(data.train.images, stored.train.images)
    assert not list((folder / "another" / "tensors").iterdir())


def test_a_process_keeps_the_images_of_its_latest_run(folder):
    cache = datasets.ImageCache()
    first = load(folder, cache)
    assert load(folder, cache) is first
    assert load(folder, cache, val_fraction=0.3) is not first


def test_one_folder_of_classes_is_split_and_its_test_images_stay(folder):
    (folder / "test").rename(folder.parent / "elsewhere")
    data = load(folder / "train", val_fraction=0.3)
    assert len(data.train) + len(data.val) + len(data.test) == 16
    for split in (data.val, data.test):
        assert set(split.labels.tolist()) == {0, 1}
    Image.new("RGB", (30, 30), "blue").save(folder / "train" / "dog" / "new.png")
    again = load(folder / "train", val_fraction=0.3)
    assert set(again.test.names) - {"dog/new.png"} == set(data.test.names)


def test_folds_of_a_folder_keep_its_test_images(folder):
    folds = folds_of(4, lambda fold: load(folder, fold=fold))
    assert [data.val.labels.bincount().tolist() for data in folds] == [[2, 2]] * 4
    names = sorted(name for data in folds for name in data.val.names)
    assert names == sorted(load(folder).train.names)


def test_without_test_images_the_validation_images_are_tested(folder):
    (folder / "test").rename(folder / "VALID")
    data = load(folder)
    assert data.test_is_val and data.val.names == data.test.names and len(data.test) == 8
    assert data.majority == ("cat", 0.5)


def cut_off(folder: Path, count: int) -> None:
    """Damage the pixels of the first training pictures of each class, but not their headers."""
    for name in ("cat", "dog"):
        for number in range(count):
            file = folder / "train" / name / f"{number}.png"
            file.write_bytes(file.read_bytes()[:-90])


def test_no_damaged_picture_is_trained_on(folder, monkeypatch):
    """Wherever the cache is, and whichever part of the pictures is used."""
    cut_off(folder, 4)
    for limit in (0, 6):
        data = load(folder, on_bad_image="skip", train_limit=limit)
        assert len(data.train) == (limit or 8) and (data.train.images.flatten(1).amax(1) > 0).all()
    (folder / "file").write_text("")
    monkeypatch.setenv("WANDB_TL_CACHE", str(folder / "file"))
    data = load(folder, on_bad_image="skip")
    assert (len(data.train), data.skipped) == (8, 8)
    with pytest.raises(InputError, match="8 pictures cannot be read"):
        load(folder)


def test_a_file_that_changes_while_it_is_read_spoils_no_cache(folder, monkeypatch):
    file = folder / "train" / "cat" / "0.png"
    before, after = file.read_bytes(), (folder / "train" / "dog" / "1.png").read_bytes()
    survey = datasets.survey

    def survey_before_the_change(*arguments):
        result = survey(*arguments)
        file.write_bytes(after)
        return result

    monkeypatch.setattr(datasets, "survey", survey_before_the_change)
    with pytest.raises(InputError, match="a picture changes while it is read; run again"):
        load(folder)
    monkeypatch.undo()
    file.write_bytes(before)
    data = load(folder)
    assert data.train.images[data.train.names.index("train/cat/0.png")].float().mean() < 100


def test_one_deep_grey_picture_more_decodes_only_itself(folder, decoded):
    load(folder)
    decoded.clear()
    for number, value in enumerate((700, 60_000)):
        grey = Image.fromarray(np.full((20, 20), value, np.uint16))
        grey.save(folder / "train" / "dog" / f"grey{number}.png")
        data = load(folder)
    assert len(decoded) <= 6  # each is decoded once for its values, and again with the levels of the data set
    bright = data.train.images[data.train.names.index("train/dog/grey1.png")]
    dark = data.train.images[data.train.names.index("train/dog/grey0.png")]
    assert bright.float().mean() > 200 and dark.float().mean() < 10
