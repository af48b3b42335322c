from pathlib import Path

import pytest

from wandb_tl.errors import InputError
from wandb_tl.training import fashion_mnist


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_damaged_file_is_named(fashion_mnist_cache, tmp_path, damage):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in fashion_mnist.FASHION_MNIST_SHA256:
        (raw / name).write_bytes((fashion_mnist_cache / "FashionMNIST" / "raw" / name).read_bytes())
    labels = bytearray((raw / "t10k-labels-idx1-ubyte").read_bytes())
    labels[-1] ^= 1
    (raw / "t10k-labels-idx1-ubyte").write_bytes(labels[:-100] if damage == "truncated" else labels)
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte: damaged"):
        fashion_mnist.load(tmp_path)


def test_no_source_of_data_says_why_and_leaves_nothing(tmp_path, monkeypatch):
    for name in ("_from_debian_folder", "_from_download", "_from_debian_package"):

        def unreachable(folder: Path) -> None:
            raise RuntimeError("no route to host")

        unreachable.__name__ = name
        monkeypatch.setattr(fashion_mnist, name, unreachable)
    with pytest.raises(InputError, match="cannot be fetched: no route to host") as refusal:
        fashion_mnist.load(tmp_path)
    assert "\n" not in str(refusal.value)
    assert not list((tmp_path / "FashionMNIST" / "raw").iterdir())
