"""The tables, curves and media of the pages: filters, orders, colours, and values of all kinds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wandb_tl.local.pages import curves, plots, runs_table, sweep
from wandb_tl.local.pages.media import confusion
from wandb_tl.local.pages.run import console_line
from wandb_tl.local.pages.values import Run, read_runs, show, show_duration, show_size
from wandb_tl.local.records.database import Database, Transaction
from wandb_tl.local.records.names import ensure_project
from wandb_tl.local.records.streams import HISTORY
from wandb_tl.local.runs import history

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


def test_columns_are_what_differs(runs: list[Run]) -> None:
    assert runs_table.differing(runs) == ["lr", "opt", "deep.er"]
    columns, hidden = runs_table.columns_of(runs, "acc", all_columns=False)
    assert columns[4:] == ["config.lr", "config.opt", "config.deep.er", "summary.acc", "summary.sub.x"]
    assert hidden == 1
    assert runs_table.columns_of(runs, "acc", all_columns=True)[0][-1] == "summary.n"
    # A lone run differs from nothing: its whole summary is shown.
    assert runs_table.columns_of(runs[:1], None, all_columns=False)[0][4:] == ["summary.acc", "summary.n"]


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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "abcd"),
        ("adam", "ac"),
        ("lr>0.05", "acd"),
        ("lr<=0.01", "b"),
        ("opt = Adam acc >= 0.5", "a"),
        ("opt!=Adam", "bd"),
        ("state=failed", "c"),
        ("tag=good", "a"),
        ("tag!=good", "bcd"),
        ("good", "a"),
        ("config.deep.er='[1, 2]'", "d"),
        ("nobody", ""),
    ],
)
def test_filter(runs: list[Run], text: str, expected: str) -> None:
    found, problem = runs_table.matching(runs, text)
    assert names(found) == expected and problem is None


def test_filter_says_what_is_wrong(runs: list[Run]) -> None:
    assert runs_table.matching(runs, "'open")[1] == "a quote in the filter is not closed"
    assert runs_table.matching(runs, "lrr=1") == ([], "no run has lrr")


def test_pages_of_a_long_table(inside) -> None:
    def make(db: Transaction) -> list[Run]:
        for number in range(250):
            add(db, f"r{number}", {"i": number}, {})
        return read_runs(db, ensure_project(db, "me", "p"))

    runs = inside(make)
    table = runs_table.make(runs, sort="+config.i", page=3)
    assert table.pages == 3 and [run.config["i"] for run in table.page_runs] == list(range(200, 250))
    assert runs_table.make(runs, page=99).page == 3 and runs_table.make(runs, filter="i<5", page=2).page == 1
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
        history.write_lines(db, run.row, HISTORY, 0, [json.dumps(row) for row in rows])
        [run] = read_runs(db, project)
        keys = curves.metric_keys(db, run.row)
        found = {key: curves.of_runs(db, [run], key) for key in keys}
        return found | {"is": curves.is_axis(run.row, "epoch")}

    found = inside(log)
    assert found.pop("is")
    assert set(found) == {"epoch", "test/loss", "batch/loss", "nested.x", "é", "test/bad"}
    loss = found["test/loss"]
    [series] = loss["series"]
    points = series["points"]
    assert loss["axis"] == "epoch" and curves.POINTS / 2 <= len(points) <= curves.POINTS + 1
    assert points[-1] == (9990, 1 / 1000)
    assert found["test/bad"]["series"][0]["points"] == [(10000, None), (10010, 3)]
    assert found["batch/loss"]["axis"] == "_step"
    assert found["nested.x"]["series"][0]["points"] == [(10000, 5)]
    assert found["é"]["series"][0]["points"] == [(10000, 1)]


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
    assert sweep.log_parameters(config) == {"lr"}
    categories = {"type": "category", "categories": ["False", "True"]}
    assert sweep.scale([True, False]) == (categories, ["True", "False"])
    assert sweep.scale([1, "all", None])[1] == ["1", "all", "None"]


def test_plots_and_matrices() -> None:
    assert confusion([["a", "a", 3], ["a", "b", 1], ["b", "a", 0], ["b", "b", 2]]) == {
        "classes": ["a", "b"],
        "rows": [[3, 1], [0, 2]],
        "largest": 3,
    }
    assert confusion([["a", "c", 3]])["classes"] == ["a", "c"]
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
