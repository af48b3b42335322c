"""Shared by the tests of pictures: a folder of real pictures with one subfolder per class."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from real_pictures import PicturesNotFetchedError, fetch

from wandb_tl.cache_folder import cache_dir


@pytest.fixture(scope="session")
def real_pictures() -> Path:
    """252 real pictures of six classes, CLASS/NAME.png, fetched once. Tests read them and write elsewhere."""
    try:
        return fetch(cache_dir() / "test_pictures")
    except PicturesNotFetchedError as error:
        # A machine without apt-get or a network runs the other tests; the check of this project runs all.
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no real pictures: {error}")
