"""python benchmarks/decode_pictures.py: what the first and the later starts on a folder of photographs cost.

It makes a folder of JPEG files (500 x 500 pixels by default) and loads it in processes of their own: with
nothing in the cache, once more, and after one file was added. Plain code decodes the same files for
comparison, as torchvision's ImageFolder and a pool of threads do it. Prints seconds and peak memory.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import report
from numpy.typing import NDArray
from PIL import Image
from whole_process import REPOSITORY

# Scenes that the pictures show, each shifted by another number of pixels.
SCENES = 100
OURS = """
import json, resource, sys, time
began = time.perf_counter()
from wandb_tl.config import RunConfig
from wandb_tl.training import datasets
imported = time.perf_counter()
folder, size = sys.argv[1:]
config = RunConfig(
    dataset="folder", data_dir=folder, image_size=int(size), model_name="tf_efficientnet_lite0"
)
data = datasets.load(config)
seconds = time.perf_counter() - imported
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"seconds": seconds, "imports": imported - began, "peak_gb": peak}))
"""
PLAIN = """
import json, resource, sys, time
from concurrent.futures import ThreadPoolExecutor
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize
folder, size = sys.argv[1], int(sys.argv[2])
began = time.perf_counter()
files = ImageFolder(folder)
images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
def decode(number):
    # The crop fraction and the interpolation of EfficientNet-Lite0, as above.
    resized = resize(files[number][0], [int(size / 0.875)], InterpolationMode.BICUBIC)
    images[number] = pil_to_tensor(center_crop(resized, [size]))
with ThreadPoolExecutor() as pool:
    list(pool.map(decode, range(len(files))))
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps({"seconds": seconds, "peak_gb": peak}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=500, help="width and height of the files (default: 500)")
    parser.add_argument("--image_size", type=int, default=224)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name, "pictures"), Path(name, "cache")
        make(folder, options.pictures, options.side)
        arguments = [str(folder), str(options.image_size)]
        figures = {"plain": measure(PLAIN, arguments, cache)}
        for start in ("first", "second"):
            figures[start] = measure(OURS, arguments, cache)
        picture(options.pictures, options.side).save(folder / "class0" / "added.jpg")
        figures["one file added"] = measure(OURS, arguments, cache)
    line = "; ".join(
        f"{start}: {row['seconds']:.1f} s, peak {row['peak_gb']:.2f} GB" for start, row in figures.items()
    )
    report.report("decode_pictures", f"{options.pictures:,} JPEG files: {line}", figures)


def make(folder: Path, count: int, side: int) -> None:
    """`count` JPEG files in ten classes."""
    for label in range(10):
        (folder / f"class{label}").mkdir(parents=True)

    def write(number: int) -> None:
        picture(number, side).save(folder / f"class{number % 10}" / f"{number}.jpg", quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(count)))


def picture(number: int, side: int) -> Image.Image:
    """A random picture, another one for each number."""
    return Image.fromarray(np.roll(scene(number % SCENES, side), number, axis=1))


@functools.cache
def scene(seed: int, side: int) -> NDArray[np.uint8]:
    """Pixels with structure at several scales, so that they compress like a photograph."""
    random = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize(
                (side, side), Image.Resampling.BICUBIC
            ),
            dtype=np.float32,
        )
        for cells in (4, 32, 128)
    ]
    return (0.5 * layers[0] + 0.3 * layers[1] + 0.2 * layers[2]).astype(np.uint8)


def measure(code: str, arguments: list[str], cache: Path) -> dict[str, float]:
    """The figures that a process prints on its last line."""
    environment = os.environ | {"WANDB_TL_CACHE": str(cache), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
