"""Tables as Markdown, LaTeX and CSV."""

import io
import re
from html import unescape

import pandas as pd
from markdown_it import MarkdownIt

from wandb_tl.analysis import table_texts


def test_markdown_aligns_numbers_and_escapes_bars():
    text = table_texts.markdown(pd.DataFrame({"name": ["a|b<i>*"], "value": ["81.00 ± 2.48"]}))
    heading, rule, row = text.splitlines()
    assert (
        "a\\|b&lt;i&gt;\\*" in row and rule.startswith("|:--") and rule.endswith("-:|") and "value" in heading
    )


def test_no_cell_is_an_image_a_link_or_a_formula():
    cells = pd.DataFrame({"[x](a)": ["![p](http://a)", "<!-- end -->\\", "`|`"]})
    html = MarkdownIt("commonmark").enable("table").render(table_texts.markdown(cells))
    assert not re.search("<(a|img|code|!--)", html)
    texts = [unescape(cell) for cell in re.findall("<t[hd][^>]*>(.*)</t[hd]>", html)]
    assert texts == ["[x](a)", *cells["[x](a)"]]
    numbers = [-1.5, 2.0, float("nan"), float("inf")]
    frame = pd.DataFrame({"=cmd|' /C calc'!A0": ["=1", "'=1", "'", "a=1"], "-b": numbers})
    file = table_texts.csv(frame)
    assert file.decode().splitlines() == [
        "'=cmd|' /C calc'!A0,'-b",
        *["'=1,-1.5", "''=1,2.0", "',", "a=1,inf"],
    ]
    pd.testing.assert_frame_equal(table_texts.without_apostrophes(pd.read_csv(io.BytesIO(file))), frame)


def test_latex_escapes_what_it_would_obey():
    text = table_texts.latex(pd.DataFrame({"a_b": ["50 % & more"], "n": ["1.0 ± 0.1"]}), "A $ caption")
    assert r"a\_b & n \\" in text and r"50 \% \& more & 1.0 $\pm$ 0.1 \\" in text
    assert r"\caption{A \$ caption}" in text and r"\begin{tabular}{lr}" in text and r"\toprule" in text
