"""Pages of runs with many keys and Tables with many cells show a part, and say how much they leave out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.served import Served

from wandb_tl.local.pages import curves, media, recipes, run, runs_table, table_file, table_rows
from wandb_tl.local.runs import history_keys

UPSERT = "mutation ($input: UpsertBucketInput!) { upsertBucket(input: $input) { bucket { id } } }"
FILES = (
    """mutation ($input: CreateRunFilesInput!) { createRunFiles(input: $input) { files { uploadUrl } } }"""
)
KEYS = 20_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.end()


def write_run(served: Served, project: str, name: str, config: Any, summary: Any, row: Any = None) -> None:
    fields = {"config": json.dumps(config), "summaryMetrics": json.dumps(summary)}
    assert served.query(UPSERT, {"input": {"modelName": project, "name": name, "host": "h", **fields}})
    files = {"wandb-history.jsonl": {"offset": 0, "content": [json.dumps(row or {})]}}
    assert served.send(f"/files/local/{project}/{name}/file_stream", {"files": files}).status == 200


def upload(served: Served, project: str, path: str, content: str) -> None:
    made = served.query(FILES, {"input": {"projectName": project, "runName": "r", "files": [path]}})
    served.upload(made["createRunFiles"]["files"][0]["uploadUrl"], content.encode())


def html(served: Served, *names: str, **query: str) -> str:
    answer = served.page("local", *names, **query)
    assert answer.status == 200
    return answer.body.decode()


def test_a_page_has_some_of_very_many_metrics(served: Served) -> None:
    write_run(served, "metrics", "r", {}, {}, {f"m{number}": number for number in range(KEYS)})
    for page in (html(served, "metrics", "runs", "r"), html(served, "metrics")):
        assert page.count('data-chart="curves"') == curves.CHARTS
        # No more are counted.
        assert f"{history_keys.MOST_KEYS - curves.CHARTS:,} more metrics" in page
    found = html(served, "metrics", "runs", "r", charts="m199")
    assert found.count('data-chart="curves"') == 11 and "more metrics" not in found


def test_tables_of_runs_have_some_of_very_many_columns(served: Served) -> None:
    for number in range(3):
        config = {f"k{key}": {"value": key * number} for key in range(3000)}
        write_run(served, "columns", f"r{number}", config, {f"s{key}": key * number for key in range(3000)})
    columns = re.compile('<th scope="col" class="[^"]*"><a data-swap')
    page = html(served, "columns")
    shown = runs_table.CONFIG_COLUMNS + runs_table.SUMMARY_COLUMNS
    # The config key k0 is the same in all runs.
    assert len(columns.findall(page)) <= shown + 5 and f"{5999 - shown} more columns" in page
    assert page.count("<option") < recipes.OPTIONS + 20 and len(page) < 1_000_000
    everything = html(served, "columns", columns="all")
    assert len(columns.findall(everything)) <= 2 * runs_table.CHOICES + 5
    assert f"and {3000 - run.VALUES:,} more" in html(served, "columns", "runs", "r1")
    ticked = served.request("GET", b"/local/columns?run=r0&run=r1&config=all").body.decode()
    assert ticked.partition('id="differences"')[2].count('<th scope="row">') <= runs_table.COMPARED_KEYS


def test_a_large_table_is_shown_on_its_own_page_only(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {name: {"_type": "table-file", "path": f"{name}.table.json"} for name in ("a", "b")}
    write_run(served, "tables", "r", {}, tables)
    rows = [[f"label {actual}", f"label {predicted}", 1] for actual in range(60) for predicted in range(60)]
    content = json.dumps({"columns": ["Actual", "Predicted", "nPredictions"], "data": rows})
    for name in tables:
        upload(served, "tables", f"{name}.table.json", content)
    monkeypatch.setattr(media, "TABLE_BYTES", len(content) + 10)
    page = html(served, "tables", "runs", "r")
    assert page.count('class="confusion"') == 1 and page.count("The whole Table") == 1
    assert f"{len(rows):,} rows" in html(served, "tables", "runs", "r", table="b")


def test_a_table_has_some_of_very_many_columns(served: Served) -> None:
    write_run(served, "wide", "r", {}, {"t": {"_type": "table-file", "path": "t.table.json"}})
    upload(
        served, "wide", "t.table.json", json.dumps({"columns": list(range(5000)), "data": [[0] * 5000] * 3})
    )
    assert html(served, "wide", "runs", "r").count("<th") < media.PREVIEW_COLUMNS + 20
    page = html(served, "wide", "runs", "r", table="t")
    assert page.count('<th scope="col"') == table_rows.COLUMNS
    assert f"{5000 - table_rows.COLUMNS:,} more columns" in page


def test_values_and_lines_are_cut(served: Served, tmp_path: Path) -> None:
    write_run(served, "long", "r", {"a": {"value": "x" * 500_000}}, {"b": "y" * 500_000})
    assert served.query(UPSERT, {"input": {"modelName": "long", "name": "r", "displayName": "n" * 500_000}})
    for page in (html(served, "long", "runs", "r"), html(served, "long", columns="all")):
        assert len(page) < 100_000


@pytest.mark.parametrize(
    "text",
    ['{"columns": ["a"], "data": [[1], [{"b": "]"}]], "x": {"y": []}}', '{ "data" : [ ] , "columns":[]}'],
)
def test_a_table_is_parsed_as_json_is(text: str) -> None:
    assert table_file.members(text, 100) == json.loads(text)
    for end in range(len(text)):
        with pytest.raises((ValueError, LookupError)):
            table_file.members(text[:end], 100)
    with pytest.raises(table_file.TooManyCellsError):
        table_file.members('{"data": [[1, 2], [3, 4]]}', 4)
