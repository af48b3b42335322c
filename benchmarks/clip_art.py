"""python benchmarks/clip_art.py DIR: a folder of about 2,000 pictures of nine classes, DIR/CLASS/NAME.png.

They are clip art of the Open Clip Art Library, from Debian's package openclipart-png (131 MB), which apt-get
fetches. Some are in two classes: they are as untidy as users' folders.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGE, PLACE = "openclipart-png", "usr/share/openclipart/png"
CLASSES = (
    "recreation",
    "people",
    "transportation",
    "food",
    "animals",
    "tools",
    "office",
    "plants",
    "buildings",
)
MOST_OF_A_CLASS = 300
# 20,990 x 29,700 pixels.
TOO_LARGE = "stop_sign_right_font_mig_.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    folder = parser.parse_args().folder
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=temporary, check=True)
        [package] = Path(temporary).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, temporary], check=True)
        for name in CLASSES:
            files = sorted(Path(temporary, PLACE, name).rglob("*.png"), key=str)
            chance.shuffle(files)
            (folder / name).mkdir(parents=True)
            for number, file in enumerate(files[:MOST_OF_A_CLASS]):
                if file.name != TOO_LARGE:
                    shutil.copy(file, folder / name / f"{number:03d}_{file.name}")


if __name__ == "__main__":
    main()
