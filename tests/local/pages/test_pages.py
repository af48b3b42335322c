"""The tables, curves and media of the pages: filters, orders, colours, and values of all kinds."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wandb_tl.local.errors import RequestError
from wandb_tl.local.pages import curves, labels, plots, runs_table, sweep, table_csv
from wandb_tl.local.pages.console_lines import console_line
from wandb_tl.local.pages.runs_table import Choice
from wandb_tl.local.pages.values import Run, read_runs, show, show_duration, show_size
from wandb_tl.local.records.database import Database
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.runs import history
from wandb_tl.local.runs.lines import parse

METRICS = [{"1": "epoch", "6": [3]}, {"2": "*", "5": 1}, {"1": "batch/loss"}]


@pytest.fixture
def inside(tmp_path: Path) -> Callable[[Callable[[Transaction], Any]], Any]:
    database = Database(tmp_path / "wandb.sqlite")

    def run(action: Callable[[Transaction], Any]) -> Any:
        with database.transaction() as db:
            return action(db)

    return run


def add(db: Transaction, name: str, config: dict, summary: dict, **columns: Any) -> None:
    project = ensure_project(db, "me", "p")
    values = {key: {"value": value} for key, value in config.items()}
    db.insert(
        "run",
        project_id=project["id"],
        name=name,
        display_name=columns.pop("display_name", name),
        state=columns.pop("state", "finished"),
        config=json.dumps(values | {"_wandb": {"value": {"m": METRICS}}}),
        summary=json.dumps(summary),
        created_at=db.now,
        started_at=db.now,
        **columns,
    )


@pytest.fixture
def runs(inside) -> list[Run]:
    def make(db: Transaction) -> list[Run]:
        add(db, "a", {"lr": 0.1, "opt": "Adam", "same": 1}, {"acc": 0.5, "n": 1, "_step": 3}, tags='["good"]')
        add(db, "b", {"lr": 0.01, "opt": "SGD", "same": 1}, {"acc": 0.9, "n": 1, "sub": {"x": 2}})
        add(db, "c", {"lr": "high", "opt": "Adam", "same": 1}, {"acc": float("nan"), "n": 1}, state="failed")
        add(db, "d", {"lr": 10, "same": 1, "deep": {"er": [1, 2]}}, {"n": 1, "img": {"_type": "image-file"}})
        return read_runs(db, ensure_project(db, "me", "p"))

    return inside(make)


def names(runs: list[Run]) -> str:
    return "".join(run.id for run in runs)


def test_columns_are_the_name_the_metric_and_what_differs(runs: list[Run]) -> None:
    assert labels.differing(runs) == ["lr", "opt", "deep.er"]
    columns = runs_table.columns_of(runs, "acc", Choice())
    assert columns.keys[:5] == ["name", "summary.acc", "state", "created", "duration"]
    assert columns.keys[5:] == ["config.lr", "config.opt", "config.deep.er", "summary.sub.x"]
    assert columns.hidden == 1 and columns.metric == "summary.acc"
    assert runs_table.columns_of(runs, "acc", Choice(all_columns=True)).keys[-1] == "summary.n"
    # A lone run differs from nothing: its whole summary is shown.
    assert runs_table.columns_of(runs[:1], None, Choice()).keys[4:] == ["duration", "summary.n"]


def test_columns_are_those_that_the_reader_chose(runs: list[Run]) -> None:
    choice = Choice(columns=("summary.n", "summary.acc", "config.same", "id", "config.gone"))
    columns = runs_table.columns_of(runs, "acc", choice)
    assert columns.keys == ["name", "summary.acc", "id", "config.same", "summary.n"]
    assert columns.choices["config"] == ["config.lr", "config.opt", "config.same", "config.deep.er"]


def test_the_likely_metric_is_no_counter(inside) -> None:
    def make(db: Transaction) -> list[Run]:
        for number in range(2):
            add(db, f"r{number}", {}, {"epoch": number, "text": str(number), "val/acc": number / 2})
        return read_runs(db, ensure_project(db, "me", "p"))

    assert runs_table.columns_of(inside(make), None, Choice()).metric == "summary.val/acc"


def test_pinned_runs_the_baseline_and_ticked_runs_stay_on_top(runs: list[Run]) -> None:
    choice = Choice(filter="state=failed", ticked=("b", "c", "gone"), pinned=("a",), baseline="d")
    table = runs_table.make(runs, choice, "acc")
    # The ticked run c is on the page already.
    assert names(table.top) == "dab" and names(table.rest) == "c" and names(table.ticked) == "bc"
    assert names(table.runs) == "c"


def test_differences_from_a_baseline(runs: list[Run]) -> None:
    table = runs_table.make(runs, Choice(baseline="a"), "acc")
    by_name = {run.id: run for run in runs}
    assert table.difference(by_name["b"], "summary.acc") == pytest.approx(0.4)
    for name, key in (("a", "summary.acc"), ("c", "summary.acc"), ("d", "summary.acc"), ("b", "config.lr")):
        assert table.difference(by_name[name], key) is None, (name, key)
    assert [runs_table.show_difference(value) for value in (0.4, -0.00012345)] == [
        "+0.4",
        "\N{MINUS SIGN}0.000123",
    ]


def test_configs_of_ticked_runs_side_by_side(runs: list[Run]) -> None:
    ticked = Choice(ticked=("a", "c"))
    assert runs_table.make(runs, ticked).differences.rows == [("lr", [0.1, "high"])]
    rows = dict(runs_table.make(runs, replace(ticked, all_config=True)).differences.rows)
    assert rows == {"lr": [0.1, "high"], "opt": ["Adam", "Adam"], "same": [1, 1]}
    assert runs_table.make(runs, Choice(ticked=("a",))).differences is None


def test_a_table_is_saved_without_formulas(inside) -> None:
    def make(db: Transaction) -> list[Run]:
        evil = {"=1+1": "@SUM(A1)", "x": -2.5, "note": "-1"}
        add(db, "r1", evil, {"acc": 0.5}, display_name="=cmd|' /C calc'!A0")
        add(db, "r2", {"x": 1}, {"acc": 0.75}, display_name='a "quoted", name')
        return read_runs(db, ensure_project(db, "me", "p"))

    runs = inside(make)
    file = table_csv.download(runs_table.make(runs, Choice(baseline="r1"), "acc"), "p")
    header, second, first = csv.reader(io.StringIO(file.text))
    assert file.name == "p.csv"
    assert header[:6] == ["id", "name", "acc", "state", "created", "duration"]
    assert header[6:] == ["'=1+1", "x", "note", "acc minus the baseline"]
    assert first[:3] == ["r1", "'=cmd|' /C calc'!A0", "0.5"] and first[6:] == ["'@SUM(A1)", "-2.5", "'-1", ""]
    assert second[1] == 'a "quoted", name' and second[6:] == ["", "1", "", "0.25"]
    with pytest.raises(RequestError, match="no run has y"):
        table_csv.download(runs_table.make(runs, Choice(filter="y=1"), "acc"), "p")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("", "dcba"),
        ("-summary.acc", "bacd"),
        ("+summary.acc", "abcd"),
        ("+config.lr", "badc"),
        ("-config.lr", "cdab"),
        ("+state", "cabd"),
        ("+nothing", "abcd"),
    ],
)
def test_order_puts_what_is_missing_last(runs: list[Run], sort: str, expected: str) -> None:
    assert names(runs_table.ordered_by(runs, sort)) == expected


def test_pages_of_a_long_table(inside) -> None:
    def make(db: Transaction) -> list[Run]:
        for number in range(250):
            add(db, f"r{number}", {"i": number}, {})
        return read_runs(db, ensure_project(db, "me", "p"))

    runs = inside(make)
    table = runs_table.make(runs, Choice(sort="+config.i", page=3))
    assert table.pages == 3 and [run.config["i"] for run in table.page_runs] == list(range(200, 250))
    assert runs_table.make(runs, Choice(page=99)).page == 3
    assert runs_table.make(runs, Choice(filter="i<5", page=2)).page == 1
    assert len({run.color for run in runs}) > 200


def test_curves_take_the_declared_axis_and_gaps(inside) -> None:
    def log(db: Transaction) -> dict:
        project = ensure_project(db, "me", "p")
        add(db, "a", {}, {})
        [run] = read_runs(db, project)
        rows = [{"_step": i, "epoch": i * 10, "test/loss": 1 / (i + 1), "batch/loss": i} for i in range(1000)]
        rows.append({"_step": 1000, "epoch": 10000, "nested": {"x": 5}, "text": "no", "é": 1})
        rows[-1]["test/bad"] = float("inf")
        rows.append({"_step": 1001, "epoch": 10010, "test/bad": 3})
        history.write_lines(db, run.row, HISTORY, 0, [parse(HISTORY, json.dumps(row)) for row in rows])
        [run] = read_runs(db, project)
        keys = curves.metric_keys(db, run.row)
        charts = {key: curves.of_runs(db, [run], key) for key in keys}
        return charts | {"is": curves.step_metrics(run.row) == {"epoch"}}

    charts = inside(log)
    assert charts.pop("is")
    assert set(charts) == {"epoch", "test/loss", "batch/loss", "nested.x", "é", "test/bad"}
    loss = charts["test/loss"]
    [series] = loss["series"]
    points = series["points"]
    assert loss["axis"] == "epoch" and curves.POINTS / 2 <= len(points) <= curves.POINTS + 1
    assert points[-1] == (9990, 1 / 1000)
    assert charts["test/bad"]["series"][0]["points"] == [(10000, None), (10010, 3)]
    assert charts["batch/loss"]["axis"] == "step"
    assert charts["nested.x"]["series"][0]["points"] == [(10000, 5)]
    assert charts["é"]["series"][0]["points"] == [(10000, 1)]


def test_a_fresh_run_without_declarations_does_not_change_the_axis_of_all() -> None:
    assert curves.shared_axis(["epoch"] * 5 + ["_step"]) == "epoch"
    assert curves.shared_axis(["epoch"] + ["_step"] * 5) == "_step"
    assert curves.shared_axis(["epoch", "batch"]) == curves.shared_axis([]) == "_step"


def test_a_spike_among_many_steps_is_seen(inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "READING_SECONDS", math.inf)

    def log(db: Transaction) -> curves.Curves:
        add(db, "a", {}, {})
        [run] = read_runs(db, ensure_project(db, "me", "p"))
        rows = [{"_step": i, "batch/loss": 100 if i == 7321 else 1 + i % 2} for i in range(10000)]
        history.write_lines(db, run.row, HISTORY, 0, [parse(HISTORY, json.dumps(row)) for row in rows])
        return curves.of_runs(db, read_runs(db, ensure_project(db, "me", "p")), "batch/loss")

    chart = inside(log)
    [series] = chart["series"]
    assert not chart["partial"] and len(series["points"]) <= curves.POINTS + 1
    assert (7321, 100) in series["points"] and series["points"][-1] == (9999, 2)
    assert min(y for _, y in series["points"]) == 1
    # What is smoothed are means.
    assert all(1.4 < y < 1.6 for x, y in series["means"] if not 7200 < x < 7450)


def test_families_of_metrics() -> None:
    assert [
        curves.family(key) for key in ("loss", "test/loss", "test/by_class/a", "test/by_class/t-shirt/top")
    ] == [
        "",
        "test",
        "test/by_class",
        "test/by_class",
    ]


def test_scales_of_parameters() -> None:
    assert sweep.scale([0.001, 0.1, 1]) == ({"type": "log"}, [0.001, 0.1, 1])
    assert sweep.scale([1, 2, 3])[0] == {"type": "value"}
    assert sweep.scale([1, 2, 3], logarithmic=True)[0] == {"type": "log"}
    assert sweep.scale([0, 2, 3], logarithmic=True)[0] == {"type": "value"}
    config = {
        "parameters": {"lr": {"distribution": "log_uniform_values", "min": 1, "max": 2}, "n": {"value": 1}}
    }
    assert sweep.log_parameters(config) == {"lr": True}
    uniform = {"parameters": {"dropout": {"min": 0.001, "max": 0.9}, "n": {"values": [1, 100]}}}
    assert sweep.log_parameters(uniform) == {"dropout": False}
    assert sweep.scale([0.001, 0.9], logarithmic=False)[0] == {"type": "value"}
    categories = {"type": "category", "categories": ["False", "True"]}
    assert sweep.scale([True, False]) == (categories, ["True", "False"])
    assert sweep.scale([1, "all", None])[1] == ["1", "all", "None"]


def test_histograms_of_plots() -> None:
    bins = plots.histogram([0.0, 1.0, 1.0, float("nan"), "text"])
    assert len(bins) == plots.BINS and sum(count for _, count in bins) == 3 and bins[-1][1] == 2


def test_how_values_are_written() -> None:
    assert [show(value) for value in (0.123456, 2.0, 1234567.5, 3, True, None, "x", float("nan"))] == [
        "0.1235",
        "2",
        "1.235e+06",
        "3",
        "True",
        "–",  # noqa: RUF001
        "x",
        "nan",
    ]
    assert [show_duration(value) for value in (3.9, 70, 3600, 7500, 90000)] == [
        "3 s",
        "1 min 10 s",
        "1 h",
        "2 h 5 min",
        "1 d 1 h",
    ]
    sizes = [show_size(value) for value in (0, 999, 1500, 1.2e6, 5e9)]
    assert sizes == ["0 B", "999 B", "1.5 kB", "1.2 MB", "5.0 GB"]


def test_console_lines_are_shown_without_what_terminals_understand() -> None:
    node = {"number": 3, "level": "error", "line": "\r 10%\r 99%\x1b[31mred\x1b[0m\n"}
    assert console_line(node) == {"text": " 99%red", "error": True}
