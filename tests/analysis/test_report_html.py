"""The HTML page of a report: its tables, folds and figures, and nothing that a name of a run could add."""

from __future__ import annotations

from wandb_tl.analysis import report_html

MARKDOWN = """# Results of `me/p & <q>`

| a | b |
|:--|--:|
| <script>alert(1)</script> | 1 |

<details><summary>2 more</summary>

![Effects](figures/effects.png)

</details>

<p align="center">
  <img src="figures/confusion_best.png" alt="Confusion matrix" width="49%">
</p>

<img src="x" onerror="alert(1)"> <details open ontoggle="alert(1)">

[bad](javascript:alert(1))
"""


def test_the_page_has_what_the_markdown_has_and_no_other_html() -> None:
    html = report_html.page(MARKDOWN).decode()
    assert "<title>Results of me/p &amp; &lt;q&gt;</title>" in html
    assert html.count("<table>") == html.count("<details>") == html.count("</details>") == 1
    assert '<img src="figures/effects.png" alt="Effects" />' in html
    assert '<img src="figures/confusion_best.png" alt="Confusion matrix" width="49%">' in html
    assert "<script>" not in html and '<img src="x"' not in html and "<details open" not in html
    assert "javascript:" not in html.replace("[bad](javascript:alert(1))", "")
    assert report_html.page("plain").decode().count("<title>Report</title>") == 1
