"""W&B Reports and saved views in a real browser: their texts, and panels of the runs that they name."""

from __future__ import annotations

import datetime
import json
import math
import re
from typing import Any

import pytest
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for
from run_writer import write_run

from wandb_tl.local.pages import importance, markdown, panels, run_sets
from wandb_tl.local.pages.report import spans_of
from wandb_tl.local.pages.run_sets import RunSet
from wandb_tl.local.pages.values import Run


@needs_chromium
def test_the_texts_of_a_report(gallery: Tab) -> None:
    page = gallery.open("/local/gallery")
    page.get_by_role("link", name="What <b>we</b> saw").click()
    main = page.locator("main")
    assert page.locator("h1").inner_text() == "What <b>we</b> saw"
    assert [main.locator(f"h{level}").first.inner_text() for level in (2, 3, 4)] == [
        "First",
        "Second",
        "Third",
    ]
    assert page.get_by_role("link", name="the runs").get_attribute("href") == "https://example.org/x"
    assert main.locator("p code").first.inner_text() == "x = 1"
    assert main.locator("ol").first.locator("li").all_inner_texts() == ["one", "two"]
    assert main.locator(".checks [role=img]").evaluate_all("all => all.map(one => one.ariaLabel)") == [
        "done",
        "not done",
    ]
    assert main.locator(".prose table td").all_inner_texts() == ["Adam", "0.91"]
    assert "<script>document.title = 1</script>" in main.inner_text() and page.title() != "1"
    assert main.locator("pre", has_text='print("<hello>")').count() == 1
    # Nothing is loaded from another host, which the tab would note, and no link runs a script.
    assert main.locator("img[src*=example]").count() == main.locator("a[href^=javascript]").count() == 0
    assert page.get_by_role("link", name="image: inline").count() == 1
    assert (
        page.get_by_role("link", name="elsewhere").get_attribute("href") == "https://example.org/picture.png"
    )


@needs_chromium
def test_the_panels_of_a_report_show_its_runs(gallery: Tab) -> None:
    page = gallery.open("/local/gallery")
    page.get_by_role("link", name="What <b>we</b> saw").click()
    assert gallery.charts("curves") == [2] and gallery.charts("plot") == [2, 2]
    assert gallery.charts("parallel") == [2]
    assert page.locator(".panels figcaption").all_inner_texts()[:3] == [
        "Losses: loss",
        "Dots",
        "Bars: accuracy",
    ]
    compared = page.get_by_role("group", name="Runs compared").locator("tbody tr").all_inner_texts()
    # The library that wrote it asks for the newest first.
    assert compared[0].split() == ["lr", "0.2", "0.1"]
    assert page.locator(".panel.wide img").count() == 2
    assert page.locator(".panel em").inner_text() == "in"
    assert "Fewer than three runs" in page.locator(".panels").inner_text()
    page.locator(".panel", has_text="Dots").locator("summary").click()
    assert page.get_by_role("group", name="Dots").locator("tbody tr").count() == 2


def write_view(server: Server, project: str, type: str, name: str, spec: dict[str, Any]) -> str:
    document = """mutation ($input: UpsertViewInput!) { upsertView(input: $input) { view { id } } }"""
    values = {"entityName": "local", "projectName": project, "type": type, "name": name, "displayName": name}
    made = server.query(document, input={**values, "spec": json.dumps(spec)})
    return made["upsertView"]["view"]["id"].rstrip("=")


def grid(panels: list[dict[str, Any]], filters: Any, **run_set: Any) -> dict[str, Any]:
    metadata = {
        "runSets": [{"enabled": True, "filters": filters, **run_set}],
        "panelBankSectionConfig": {"panels": panels},
    }
    return {"blocks": [{"type": "panel-grid", "metadata": metadata, "children": []}]}


def condition(name: str, operator: str, value: Any, section: str = "config") -> dict[str, Any]:
    return {"key": {"section": section, "name": name}, "op": operator, "value": value}


@needs_chromium
def test_filters_importance_and_panels_that_only_wandb_draws(server: Server, tab: Tab) -> None:
    for number in range(6):
        config = {"lr": 0.1 * (number + 1), "opt": "Adam" if number < 3 else "SGD"}
        write_run(server, "filtered", f"r{number}", config, [{"epoch": 1, "acc": number / 10}])
    panels = [
        {"viewType": "Parameter Importance", "config": {"targetKey": "acc"}},
        {"viewType": "Bar Chart", "config": {"metrics": ["acc"]}},
        {"viewType": "Code Comparer", "config": {}},
        {"viewType": "Run History Line Plot", "config": {"metrics": ["acc"], "xAxis": "_step"}},
    ]
    filters = {"op": "OR", "filters": [{"op": "AND", "filters": [condition("lr.value", ">", 0.15)]}]}
    report = write_view(server, "filtered", "runs", "some", grid(panels, filters))
    page = tab.open(f"/local/filtered/reports/some--{report}")
    assert tab.charts("plot") == [1, 5] and tab.charts("curves") == [5]
    rows = page.get_by_role("group", name="What acc varies with", include_hidden=True).locator("tbody tr")
    assert rows.all_text_contents() == ["opt0.75"]
    assert "W&B's own pages draw this panel, a Code Comparer" in page.locator(".panels").inner_text()
    unknown = {"filters": [condition("x", "REGEX", "y", "run")]}
    report = write_view(server, "filtered", "runs", "odd", grid(panels[1:2], unknown))
    page = tab.open(f"/local/filtered/reports/odd--{report}")
    assert (
        tab.charts("plot") == [6] and "without the condition x REGEX y" in page.locator("main").inner_text()
    )
    elsewhere = grid(panels, {}, project={"entityName": "other", "name": "place"})
    report = write_view(server, "filtered", "runs", "far", elsewhere)
    page = tab.open(f"/local/filtered/reports/far--{report}")
    assert page.locator(".panels").inner_text().count("No run of this server matches.") == 4
    section = {"panelBankConfig": {"sections": [{"name": "Mine", "panels": panels[1:2]}]}, "runSets": []}
    write_view(server, "filtered", "project-view", "nw-mine-v", {"section": section})
    page = tab.open("/local/filtered?nw=mine")
    wait_for(lambda: tab.charts("plot") == [6])
    assert page.get_by_role("heading", name="Mine", exact=True).count() == 1


def runs_of(values: list[dict[str, Any]]) -> list[Run]:
    """Runs with a config and a summary of the same values, made a day apart from 2026-11-01 on."""
    first = datetime.datetime(2026, 11, 1, 12).timestamp()
    none: dict[str, Any] = {"tags": [], "group": None, "job_type": None, "sweep": None, "row": {}}
    fields = {"color": "#000000", "dash": "solid"} | none
    return [
        Run(f"r{i}", f"r{i}", "finished", first + 86_400 * i, 0, each, each, **fields)
        for i, each in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("test", "ids"),
    [
        (condition("createdAt", ">=", "2026-11-02", "run"), "r1 r2"),
        (condition("createdAt", "<", "2026-11-02", "run"), "r0"),
        (condition("createdAt", ">=", "soon", "run"), None),
        (condition("lr.value", ">", "high"), None),
        (condition("lr.value", "<=", 2), "r0 r1"),
        (condition("lr.value", "==", 2), "r1"),
        (condition("opt.value", "!=", "Adam"), "r1 r2"),
    ],
)
def test_conditions_of_run_sets_hold_or_are_named(test: dict[str, Any], ids: str | None) -> None:
    runs = runs_of([{"lr": 1, "opt": "Adam"}, {"lr": 2}, {"lr": 3, "opt": "SGD"}])
    unknown: list[str] = []
    tests = run_sets.tests_of({"filters": [test]}, unknown)
    if ids is None:
        assert not tests and unknown == [f"{test['key']['name']} {test['op']} {test['value']}"]
    else:
        assert " ".join(run.id for run in runs if tests[0](run)) == ids and not unknown


def test_run_sets_have_the_order_that_they_name() -> None:
    runs = runs_of([{"lr": 1, "acc": 0.1}, {"lr": 2, "acc": 0.9}, {"lr": 1, "acc": 0.5}, {"lr": 3}])
    by_acc = {"key": {"section": "summary", "name": "acc"}, "ascending": False}
    by_lr = {"key": {"section": "config", "name": "lr"}, "ascending": True}

    def order(keys: Any) -> str:
        return " ".join(run.id for run in run_sets.in_order(runs, keys))

    assert order(None) == order([]) == order([{"key": None}, 3]) == "r0 r1 r2 r3"
    assert order([by_acc]) == "r1 r2 r0 r3"
    assert order([by_lr, by_acc]) == "r2 r0 r1 r3"


def test_panels_leave_out_what_json_cannot_hold_and_count_the_runs_with_the_metric() -> None:
    values = [{"x": math.nan, "acc": 1}, {"x": True, "acc": 2}, {"x": "a", "acc": 3}, {"x": 5}]
    project: Any = {"id": 1, "entity": "local", "name": "p"}
    run_set = RunSet(project, runs_of(values), False)
    request: Any = None
    scatter = {"viewType": "Scatter Plot", "config": {"xAxis": "x", "yAxis": "acc"}}
    [panel] = panels.read(request, scatter, [run_set])
    assert panel.data is not None and json.dumps(dict(panel.data), allow_nan=False)
    assert [one["points"] for one in panel.data["series"]] == [[["True", 2]], [["a", 3]]]
    importance = {"viewType": "Parameter Importance", "config": {"targetKey": "acc"}}
    run_set.runs[0].config["x"] = "a"
    [panel] = panels.read(request, importance, [run_set])
    assert panel.note.endswith("n = 3 runs")
    scalars = {"viewType": "Scalar Chart", "config": {"chartTitle": "Best", "metrics": ["acc", "x"]}}
    assert [panel.title for panel in panels.read(request, scalars, [run_set])] == ["Best: acc", "Best: x"]


@needs_chromium
def test_a_line_plot_has_the_run_sets_of_one_project_and_names_the_others(server: Server, tab: Tab) -> None:
    for project, name in (("sets", "a"), ("sets", "b"), ("sets", "c"), ("far", "d")):
        write_run(server, project, name, {}, [{"epoch": 1, "acc": 0.5}, {"epoch": 2, "acc": 0.6}])
    sets = [
        {"filters": {"filters": [condition("name", "IN", ids, "run")]}} for ids in (["a"], ["a", "b"], ["x"])
    ]
    spec = grid([{"viewType": "Run History Line Plot", "config": {"metrics": ["acc"]}}], {})
    spec["blocks"][0]["metadata"]["runSets"] = [*sets, {"project": {"entityName": "local", "name": "far"}}]
    report = write_view(server, "sets", "runs", "some", spec)
    page = tab.open(f"/local/sets/reports/some--{report}")
    assert tab.charts("curves") == [2]
    assert "without the runs of local/far" in page.locator(".panels").inner_text()


def test_blocks_below_collapsed_headings_are_in_order(server: Server) -> None:
    def paragraph(text: str, *below: dict[str, Any]) -> dict[str, Any]:
        return {"type": "paragraph", "children": [{"text": text}], "collapsedChildren": list(below)}

    spec = {"blocks": [paragraph("p1", paragraph("p2", paragraph("p3")), paragraph("p4")), paragraph("p5")]}
    write_run(server, "order", "r", {}, [{"epoch": 1}])
    report = write_view(server, "order", "runs", "order", spec)
    _, page = server.request(f"/local/order/reports/order--{report}")
    assert re.findall(r"p\d(?=</p>)", page if isinstance(page, str) else page.decode()) == [
        "p1",
        "p2",
        "p3",
        "p4",
        "p5",
    ]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"blocks": [{}, {"type": "list", "children": "x"}, {"type": "heading", "level": "deep"}, 5]},
        grid([{}, {"viewType": "Bar Chart", "config": 3}, {"viewType": ["x"]}], [1, {"filters": 5}]),
        grid([{"viewType": "Scatter Plot"}, {"viewType": "Parallel Coordinates Plot"}], None),
        grid(
            [{"viewType": "Parameter Importance"}, {"viewType": "Media Browser", "config": {"mediaKeys": 1}}],
            0,
        ),
    ],
)
def test_a_report_of_any_structure_has_a_page(server: Server, spec: dict[str, Any]) -> None:
    write_run(server, "odd", "r", {"lr": 1}, [{"epoch": 1, "acc": 0.5}])
    report = write_view(server, "odd", "runs", "odd", spec)
    assert server.request(f"/local/odd/reports/odd--{report}")[0] == 200


def test_markdown_has_no_html_and_no_scripts() -> None:
    html = markdown.render("# T\n<b>x</b> ![a <i>](https://h/p.png) ![n](javascript:x) ~~s~~ [l](https://h)")
    assert (
        "<h2>T</h2>" in html and "&lt;b&gt;" in html and "<img" not in html and 'href="javascript' not in html
    )
    assert '<a href="https://h/p.png">image: a &lt;i&gt;</a>' in html and "<s>s</s>" in html
    assert markdown.web_address("JavaScript:x") == markdown.web_address(5) == ""


def test_marks_and_links_of_a_text() -> None:
    node = {
        "children": [
            {"text": "a", "bold": True},
            {"type": "link", "url": "https://h", "children": [{"text": "b"}]},
        ]
    }
    assert spans_of(node) == [
        {"text": "a", "tags": ["strong"], "url": ""},
        {"text": "b", "tags": [], "url": "https://h"},
    ]
    assert spans_of({"url": "javascript:x", "children": [{"text": "c"}]}) == [
        {"text": "c", "tags": [], "url": ""}
    ]


def test_columns_of_accessors_and_shares_of_variance() -> None:
    assert [run_sets.column(name) for name in ("config:lr.value", "summary:a.b", "acc", "run:createdAt")] == [
        "config.lr",
        "summary.a.b",
        "summary.acc",
        "created",
    ]
    assert importance.eta_squared(["a", "a", "b", "b"], [1, 1, 3, 3]) == 1
    assert importance.eta_squared(["a", "a", "b", "b"], [1, 3, 1, 3]) == 0
    assert importance.eta_squared(["a", "a", "b", "b"], [1e200, 1e200, 3e200, 3e200]) == 1
    assert importance.ranks([5, 1, 5]) == [1.5, 0, 1.5]
    assert importance.rank_correlation([1, 2, 3, 10], [1, 4, 9, 1000]) == pytest.approx(1)
    assert importance.rank_correlation([1, 1], [1, 2]) == 0
