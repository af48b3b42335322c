"""A sweep published as a report and a workspace, read back with the library that wrote them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import pytest
from live_server import Server, call

# Four runs that log what the report shows, handed out by the server to a real agent.
SWEEP = """
import json, wandb
from wandb.agents import pyagent

pyagent.Agent.HEARTBEAT_SLEEP_SECONDS = 0.3

def train():
    with wandb.init() as run:
        better = run.config["pretrained"] + run.config["seed"] / 10
        run.log({"epoch": 1, "train/loss": 2 - better, "test/accuracy": better / 2})
        averages = {"avg_train_loss": 2 - better, "avg_train_accuracy": 0.5}
        images = {"train_images": 200, "test_images": 100}
        run.summary.update({"test_accuracy": 50 * better, "train_seconds": 1.5, "device": "CPU"})
        run.summary.update(averages | images)

sweep = wandb.sweep({
    "name": "tiny", "description": "Four runs.", "method": "grid", "metric": {"name": "test/accuracy"},
    "parameters": {"pretrained": {"values": [True, False]}, "seed": {"values": [0, 1]}},
}, project="published")
wandb.agent(sweep, function=train, project="published")
print(json.dumps(sweep))
"""

# Publishes four times, and reads at the addresses what is there.
PUBLISH = """
import contextlib, io, json, sys, wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_tl import report

def published(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert report.COMMAND.main(list(arguments)) == 0
    return [line.partition(": ")[2] for line in said.getvalue().splitlines()]

def read(address, workspace):
    found, workspace = wr.Report.from_url(address), ws.Workspace.from_url(workspace)
    grids = [block for block in found.blocks if isinstance(block, wr.PanelGrid)]
    panels = [panel for grid in grids for panel in grid.panels]
    one = lambda kind, among: next(panel for panel in among if isinstance(panel, kind))
    scatter = one(wr.ScatterPlot, panels)
    return {
        "title": found.title, "description": found.description,
        "headings": [block.text for block in found.blocks if isinstance(block, wr.H2)],
        "texts": [block.text for block in found.blocks if isinstance(block, wr.MarkdownBlock)],
        "filters": [runset.filters for grid in grids for runset in grid.runsets],
        "orders": [[(order.name.name, order.ascending) for order in runset.order]
                   for grid in grids for runset in grid.runsets],
        "groups": [runset.groupby for grid in grids for runset in grid.runsets],
        "axes": [column.metric.name for column in one(wr.ParallelCoordinatesPlot, panels).columns],
        "importance": one(wr.ParameterImportancePlot, panels).with_respect_to,
        "scatter": [scatter.x.name, scatter.y.name],
        "lines": [[panel.x.name, panel.y[0].name] for panel in panels if isinstance(panel, wr.LinePlot)],
        "differences": one(wr.RunComparer, panels).diff_only,
        "media": one(wr.MediaBrowser, panels).media_keys,
        "workspace": {
            "name": workspace.name, "filters": workspace.runset_settings.filters,
            "sections": {section.name: len(section.panels) for section in workspace.sections},
            "media": one(wr.MediaBrowser, workspace.sections[-1].panels).media_keys,
        },
    }

path, odd = sys.argv[1:]
answer = {"first": published(path)}
answer["read"] = read(*answer["first"])
# A stranger's report with the same title, and a comment on this one.
title = answer["read"]["title"]
own = wr.Report("published", "local", title=title, blocks=[wr.P("own")]).save()
commented = wr.Report.from_url(answer["first"][0])
commented._discussion_threads = [{"comment": "well done"}]
commented.save()
answer["again"] = published(path)
answer["own"] = wr.Report.from_url(own.url).blocks[0].text
answer["comments"] = wr.Report.from_url(answer["again"][0])._discussion_threads
answer["odd"] = [published(path, "--title", odd), published(path, "--title", odd)]
answer["all"] = published("local/published")
answer["everything"] = read(*answer["all"])["filters"]
answer["titles"] = [each.display_name for each in wandb.Api().reports("local/published")]
print(json.dumps(answer))
"""

ODD = "50 % <script>alert(1)</script> a/b?c#d"

RUNS = """query ($sweep: String!) { project(name: "published", entityName: "local") {
  sweep(sweepName: $sweep) { runs { edges { node { name } } } } } }"""


@dataclass
class Published:
    """A server with a sweep about which reports were published; what PUBLISH answers, by name."""

    server: Server
    sweep: str
    answer: dict[str, Any]

    def page(self, address: str, key: str | None = "") -> tuple[int, str]:
        status, content = self.server.request(address, key=key)
        return status, content.decode()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    sweep = server.run(SWEEP)
    yield Published(server, sweep, server.run(PUBLISH, f"local/published/{sweep}", ODD))
    server.stop()


@pytest.mark.slow
def test_the_report_is_about_the_sweep(published: Published) -> None:
    read = published.answer["read"]
    assert read["title"] == f"tiny ({published.sweep})"
    assert read["description"] == f"Results of local/published/{published.sweep}"
    about = f"Metric(\"Sweep\") == '{published.sweep}'"
    assert read["filters"] == [about] * 3 and read["workspace"]["filters"] == about
    assert read["groups"] == [[], ["config.pretrained.value"], []]
    assert read["orders"] == [[["test_accuracy", False]]] * 3


def test_what_the_report_says(published: Published) -> None:
    headings = published.answer["read"]["headings"]
    assert headings[:3] == ["The answer", "One change away from the best recipe", "Results"]
    answer, changes, table = published.answer["read"]["texts"]
    assert answer.startswith("**Use row 1: `pretrained=True`.**") and "python -m wandb_tl.predict" in answer
    assert "pretrained: True → False" in changes
    compared, _, table = table.partition("\n\n")
    assert "4 runs of 2 recipes" in compared and "`pretrained` (False, True)" in compared
    assert [line.split("|")[2].strip() for line in table.splitlines()[2:4]] == ["True", "False"]
    assert "52.50 ±" in table and "2.50 ±" in table


def test_what_the_panels_show(published: Published) -> None:
    read = published.answer["read"]
    assert read["axes"] == ["pretrained", "test_accuracy"]
    assert read["importance"] == "test_accuracy"
    assert read["scatter"] == ["train_seconds", "test_accuracy"]
    assert read["lines"] == [["epoch", "test/accuracy"], ["epoch", "train/loss"]]
    assert read["differences"] is True and "confusion_matrix" in read["media"]
    assert read["workspace"]["name"] == read["title"]
    assert read["workspace"]["sections"] == {"Hyperparameters": 4, "By epoch": 2, "Pictures": 1}
    assert read["workspace"]["media"] == read["media"]


def test_the_addresses_open(published: Published) -> None:
    report, workspace = published.answer["first"]
    status, html = published.page(report)
    assert status == 200 and "<h3>The answer</h3>" in html and ">True</td>" in html
    [axes] = re.findall(r'data-chart="parallel" data-bars="([^"]*)"', html)
    names = [axis["name"] for axis in json.loads(unescape(axes))["axes"]]
    assert names == ["pretrained", "test_accuracy"]
    assert f'/local/published/sweeps/{published.sweep}"' in html
    runs = published.server.query(RUNS, sweep=published.sweep)["project"]["sweep"]["runs"]["edges"]
    assert len(runs) == 4
    assert all(f'/local/published/runs/{run["node"]["name"]}"' in html for run in runs)
    assert published.page(report, key=None)[0] == published.page(workspace, key=None)[0] == 401
    status, html = published.page(workspace)
    assert status == 200 and f"Saved view: tiny ({published.sweep})" in html
    assert f'{urlsplit(report).path.lstrip("/")}"' in html


def test_published_again_it_is_the_same_report(published: Published) -> None:
    answer = published.answer
    assert answer["again"] == answer["first"] and answer["comments"] == [{"comment": "well done"}]
    assert answer["own"] == "own"
    first, second = answer["odd"]
    assert first == second != answer["first"] and first[1] == answer["first"][1]
    title = answer["read"]["title"]
    assert answer["titles"] == ["published (all runs)", ODD, title, title]


def test_a_title_is_a_text_whatever_it_holds(published: Published) -> None:
    status, html = published.page(published.answer["odd"][0][0])
    assert status == 200 and "<script>" not in html
    assert "<h1>50 % &lt;script&gt;alert(1)&lt;/script&gt; a/b?c#d</h1>" in html


def test_a_report_about_all_runs_of_a_project(published: Published) -> None:
    report, workspace = published.answer["all"]
    assert published.answer["everything"] == ["", "", ""]
    assert workspace.endswith("/local/published?nw=allruns") and published.page(report)[0] == 200


def test_no_such_sweep_is_one_line(published: Published) -> None:
    code, out = call(published.server, "wandb_tl.report", "local/published/nothing")
    assert (
        code == 2
        and len(out.splitlines()) == 1
        and out == "error: local/published/nothing: there is no such sweep on the server\n"
    )


@pytest.mark.slow
def test_published_without_the_environment_of_the_embedded_server(published: Published) -> None:
    elsewhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "", "WANDB_TL_ROOT": ""}
    flags = ("--local", "--root", str(published.server.root))
    code, out = call(
        published.server, "wandb_tl.report", f"local/published/{published.sweep}", *flags, **elsewhere
    )
    report, workspace = (line.partition(": ")[2] for line in out.splitlines()[-2:])
    address = urlsplit(published.answer["first"][0])
    assert code == 0 and "wandb_tl.local open " in report and address.path in report, out
    assert str(published.server.root) in workspace


def test_what_else_cannot_be_is_one_line(published: Published) -> None:
    script = """
        import contextlib, io, json, sys
        sys.modules["wandb_workspaces"] = None
        from wandb_tl import report
        def said(*arguments):
            with contextlib.redirect_stderr(io.StringIO()) as out:
                assert report.COMMAND.main(["local/published", *arguments]) == 2
            return out.getvalue().splitlines()
        print(json.dumps([said(), said("--title", " "), said("--title", "x" * 129)]))
    """
    (missing,), *titles = published.server.run(script)
    assert 'pip install "wandb-tl[report]"' in missing
    title = "error: --title: takes a string of 1 to 128 characters; see python -m wandb_tl.report --help"
    assert titles == [[title]] * 2
