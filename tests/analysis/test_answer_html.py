"""The answer in a notebook: one piece of HTML in which everything is escaped."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis.answer import answer


class Reader(HTMLParser):
    """Collects tags and their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page() -> Reader:
    random = np.random.default_rng(0)
    configs = grid(GRID | {"lr": [0.1, 0.01]}, data_dir="/<script>alert(1)</script>", dataset="folder")
    return Reader(
        answer(runs_of(configs, lambda c: 80 + 5 * c.pretrained + random.normal()), "a/b/c")._repr_html_()
    )


def test_it_has_sentences_tables_and_the_next_command(page):
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == 2 and tags.count("img") == 2 and "script" not in tags
    assert "Use row 1: pretrained=True" in page.text and "6 more recipes." in page.text
    assert "<script>alert(1)</script>" in page.text and "python -m wandb_tl.run_sweep seeds" in page.text


def test_figures_are_inside(page):
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    for source in sources:
        content = re.fullmatch(r"data:image/png;base64,(.*)", source)[1]
        assert Image.open(io.BytesIO(base64.b64decode(content))).width > 500
    assert not [
        value for _, attributes in page.tags for value in attributes.values() if "http" in (value or "")
    ]
