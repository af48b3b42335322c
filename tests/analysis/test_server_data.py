"""What servers say about runs, in odd types; real runs with such values, and a report of them."""

import math
import re

import pandas as pd
import pytest
from live_server import Server, call
from markdown_it import MarkdownIt

from wandb_tl.analysis import server_data
from wandb_tl.errors import InputError

# Two good runs and two odd ones, whose owner writes for terminals, Markdown and spreadsheets.
RUNS = r"""
import json, wandb
from wandb_tl.config import RunConfig

ESCAPE, LINK = "\x1b]0;yours\x07", "[x](http://evil) ![y](http://evil/p.png) <!-- results:end --> | z"
for number, (accuracy, summary, config) in enumerate([
    (90.0, {"device": LINK, "equal_to": ["a"], "energy_wh": {"a": 1}, "test/loss": "much"}, {}),
    (80.0, {"device": ESCAPE}, {"data_dir": "=HYPERLINK(1)" + ESCAPE, "dataset": "folder", "epochs": 2}),
    ([1], {}, {}), (50.0, {}, {"optimizer": ["SGD"]}),
]):
    with wandb.init(config={**RunConfig(model_name="tiny", seed=number).as_dict(), **config}) as run:
        run.name = ESCAPE + LINK
        run.summary.update({"train_seconds": 1, "test_images": 100, "train_images": 5, "avg_train_loss": 1,
                            "avg_train_accuracy": 1, "images_per_second": 1, **summary})
        run.summary["test_accuracy"] = accuracy
        run.summary["examples"] = {"path": ["a"]}
print(json.dumps(run.path))
"""


def test_numbers_and_names_of_any_type():
    for value in (None, True, [1], {"a": 1}, "x", "1e400", 10**400, float("inf"), "NaN"):
        assert math.isnan(server_data.number(value)), value
    assert (server_data.number("1.5"), server_data.number(2), server_data.percentage(100)) == (1.5, 2, 100)
    assert math.isnan(server_data.percentage(100.1)) and math.isnan(server_data.percentage(-1))
    assert server_data.text("\x1b[2J\n\ud800") == "\\x1b[2J\\n\\ud800" and server_data.text(["a"]) == ""


def test_the_odd_parts_of_a_definition_are_left_out():
    good = {"lr": {"min": 0.1, "max": 1, "distribution": "log_uniform_values"}, "seed": {"values": [1, 2]}}
    odd = {"a": 1, "b": {"values": 3}, "c": {"min": [1], "max": 2}, "d": {"min": 2, "max": 1}}
    odd |= {"e": {"min": 0, "max": 1e6, "distribution": "log_uniform"}}
    values = {"method": ["grid"], "metric": "loss", "metrics": [1, {"name": "x"}], "program": "p"}
    assert server_data.definition(values | {"parameters": good | odd}) == {
        "program": "p",
        "metrics": [{"name": "x", "goal": "minimize"}],
        "parameters": good,
    }
    assert server_data.definition({"parameters": [1]}) == {}


def test_pages_without_an_end():
    assert list(server_data.bounded(range(3), "e/p", most=3)) == [0, 1, 2]
    with pytest.raises(InputError, match="does not come to an end after 3"):
        list(server_data.bounded(iter(int, 1), "e/p", most=3))


@pytest.mark.slow
def test_a_report_of_odd_runs(server: Server):
    server.run(RUNS, WANDB_PROJECT="odd")
    folder = server.folder / "client"
    (folder / "README.md").write_text("a\n<!-- results:begin -->\n<!-- results:end -->\nb")
    for _ in range(2):
        code, out = call(
            server, "wandb_tl.export_table", "local/odd", "--reports", "report", "--readme", "README.md"
        )
        assert code == 0, out
    readme = (folder / "README.md").read_text()
    assert readme.startswith("a\n<!--") and readme.endswith("<!-- results:end -->\nb")
    assert readme.count("results:end -->") == 1
    page = (folder / "report" / "README.md").read_text()
    markdown = MarkdownIt("commonmark").enable("table")
    for text in (out, readme, page):
        assert "\x1b" not in text and "Left out: 2 finished." in text
    for html in (*map(markdown.render, (out, readme, page)), (folder / "report" / "report.html").read_text()):
        assert "http://evil" in html
        assert not re.search('(href|src)="http://evil', html)
    table = pd.read_csv(folder / "report" / "results.csv")
    assert sorted(table["test_accuracy"]) == [80, 90]
    assert "'=HYPERLINK(1)\\x1b]0;yours\\x07" in set(table["data_dir"])
    code, again = call(server, "wandb_tl.export_table", "report/results.csv")
    assert code == 0 and " 90.00 |" in again, again
