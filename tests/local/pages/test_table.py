"""The table of runs in a browser: columns, pinned and ticked rows, the baseline, CSV, the keyboard."""

from __future__ import annotations

import csv
from urllib.parse import parse_qs, urlsplit

import playwright.sync_api as playwright
import pytest
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for
from run_writer import write_run, write_sweep

pytestmark = needs_chromium

METRICS = {f"m{number:02}": number / 7 for number in range(12)}


@pytest.fixture(scope="module")
def project(server: Server) -> str:
    """The address of a project with a sweep of five runs and 30 columns."""
    definition = {
        "method": "grid",
        "metric": {"name": "zz/acc", "goal": "maximize"},
        "parameters": {"lr": {"values": [0.1, 0.2, 0.3, 0.4, 0.5]}},
    }
    sweep = write_sweep(server, "table", definition)
    for number in range(5):
        config = {"lr": (number + 1) / 10, "same": 1, "opt": "Adam" if number % 2 else "SGD"}
        config |= {f"p{key:02}": number * key for key in range(15)}
        row = METRICS | {key: value + number for key, value in METRICS.items()}
        rows = [row | {"epoch": 1, "zz/acc": 0.5 + number / 10}]
        write_run(server, "table", f"r{number}", config, rows, sweep, display_name=f"long name {number}")
    return f"/local/table?sweep={sweep}"


def ids(page: playwright.Page, part: str = "") -> list[str]:
    rows = page.locator(f"#table tbody{part} tr")
    return rows.evaluate_all("rows => rows.map((row) => row.dataset.run)")


def query(page: playwright.Page, name: str) -> list[str]:
    return parse_qs(urlsplit(page.url).query).get(name, [])


def test_the_metric_is_beside_the_name_and_phones_show_name_metric_and_state(tab: Tab, project: str) -> None:
    sweep = f"/local/table/sweeps/{query_of(project)}"
    for address in (project, sweep):
        tab.page.set_viewport_size({"width": 1440, "height": 900})
        page = tab.open(address)
        headers = page.locator("#table thead th")
        assert headers.count() >= 30
        titles = headers.all_inner_texts()
        assert titles[1].strip() == "name" and titles[2].split()[0] == "zz/acc"
        box = headers.nth(2).bounding_box()
        assert box["x"] + box["width"] < 1440
        assert all(cell.get_attribute("scope") == "col" for cell in headers.all())
        tab.page.set_viewport_size({"width": 390, "height": 844})
        seen = page.locator("#table thead th:visible").all_inner_texts()
        assert [title.split()[:1] for title in seen] == [[], ["name"], ["zz/acc"], ["state"]]
        assert page.locator("#table tbody [data-choose]").first.is_visible()
        # Charts become narrower a moment after the window.
        wait_for(lambda: tab.page.evaluate("document.documentElement.scrollWidth") <= 390)
        assert page.locator("#table").evaluate("table => table.scrollWidth - table.clientWidth") <= 0


def query_of(address: str) -> str:
    return parse_qs(urlsplit(address).query)["sweep"][0]


def test_columns_are_chosen_and_the_choice_is_in_the_address(tab: Tab, project: str) -> None:
    page = tab.open(project)
    page.locator(".chooser summary").click()
    page.get_by_label("same", exact=True).check()
    header = page.locator("#table thead")
    wait_for(lambda: "same" in header.inner_text())
    assert page.locator(".chooser").get_attribute("open") is not None
    page.get_by_label("p03", exact=True).uncheck()
    wait_for(lambda: "p03" not in header.inner_text())
    assert "config.same" in query(page, "column") and "config.p03" not in query(page, "column")
    page.reload()
    assert "same" in header.inner_text() and "p03" not in header.inner_text()
    page.locator(".chooser summary").click()
    page.get_by_role("link", name="Show the usual columns").click()
    wait_for(lambda: "p03" in header.inner_text() and "same" not in header.inner_text())


def test_pinned_and_ticked_runs_and_the_baseline_stay_in_sight(tab: Tab, project: str) -> None:
    page = tab.open(project)
    page.locator("[data-run=r1] th a").hover()
    page.locator("[data-pin=r1]").click()
    wait_for(lambda: ids(page, ".top") == ["r1"])
    page.locator("#table [data-run=r0]").hover()
    page.locator("[data-baseline=r0]").click()
    wait_for(lambda: ids(page, ".top") == ["r0", "r1"])
    assert "+0.1" in page.locator("#table [data-run=r1] .difference").first.inner_text()
    page.get_by_role("checkbox", name="Compare lr 0.5").check()
    wait_for(lambda: query(page, "run") == ["r4"])
    page.get_by_role("searchbox", name="Filter runs").fill("lr=0.3")
    wait_for(lambda: ids(page) == ["r0", "r1", "r4", "r2"])
    page.locator("[data-pin=r1]").focus()
    page.locator("[data-pin=r1]").click()
    wait_for(lambda: ids(page) == ["r0", "r4", "r2"])
    page.locator("#table [data-run=r0]").hover()
    page.locator("[data-baseline=r0]").click()
    wait_for(lambda: ids(page) == ["r4", "r2"] and page.locator(".difference").count() == 0)


def test_all_runs_are_ticked_and_their_configs_compared(tab: Tab, project: str) -> None:
    page = tab.open(project)
    every = page.get_by_role("checkbox", name="Compare all runs of this page")
    every.check()
    wait_for(lambda: len(query(page, "run")) == 5)
    rows = page.locator("#differences tbody th")
    wait_for(lambda: rows.count() > 2)
    assert "same" not in rows.all_inner_texts() and "lr" in rows.all_inner_texts()
    page.get_by_role("link", name="all keys").click()
    wait_for(lambda: "same" in rows.all_inner_texts())
    page.get_by_role("checkbox", name="Compare lr 0.5").uncheck()
    wait_for(lambda: len(query(page, "run")) == 4)
    wait_for(lambda: every.evaluate("box => box.indeterminate"))
    page.get_by_role("link", name="untick all 4").click()
    wait_for(lambda: not query(page, "run") and page.locator("#differences table").count() == 0)


def test_curves_of_a_sweep_are_those_of_the_ticked_runs(tab: Tab, project: str) -> None:
    page = tab.open(f"/local/table/sweeps/{query_of(project)}?run=r1&run=r3")
    assert tab.charts("curves") == [2]
    assert "of the 2 ticked runs" in page.locator("#charts").inner_text()


def test_the_table_is_downloaded_as_it_is_shown(tab: Tab, project: str) -> None:
    # A ticked run that the filter excludes is on the page, but not in the file.
    chosen = "column=config.lr&column=summary.zz/acc&run=r1&pin=r2"
    page = tab.open(f"{project}&{chosen}&sort=-config.lr&filter=opt%3DSGD")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "table.csv"
    rows = list(csv.reader(download.value.path().read_text().splitlines()))
    assert rows == [
        ["id", "name", "zz/acc", "lr"],
        ["r4", "long name 4", "0.9", "0.5"],
        ["r2", "long name 2", "0.7", "0.3"],
        ["r0", "long name 0", "0.5", "0.1"],
    ]


def test_a_filter_that_cannot_be_used_says_why(tab: Tab, project: str) -> None:
    page = tab.open(project)
    page.get_by_role("searchbox", name="Filter runs").fill("opt>3")
    page.get_by_text("opt is not a number: use = or !=").wait_for()
    assert len(ids(page)) == 5
    page.get_by_role("searchbox", name="Filter runs").fill("lr<0.2 or lr>0.4")
    wait_for(lambda: ids(page) == ["r4", "r0"])
    page.get_by_role("searchbox", name="Filter runs").fill("created > 2020-01-01 opt=Adam")
    wait_for(lambda: ids(page) == ["r3", "r1"])


def test_the_table_is_worked_by_the_keyboard(tab: Tab, project: str) -> None:
    page = tab.open(project)
    focus = "document.activeElement.closest('tr')?.dataset.run"
    keys = page.keyboard
    keys.press("j")
    assert page.evaluate(focus) == "r4"
    keys.press("j")
    keys.press("j")
    keys.press("k")
    assert page.evaluate(focus) == "r3"
    keys.press("x")
    wait_for(lambda: query(page, "run") == ["r3"] and page.locator("#table tr[aria-selected]").count() == 1)
    # The focus stays although the table was replaced.
    assert page.evaluate(focus) == "r3"
    keys.press("p")
    wait_for(lambda: ids(page, ".top") == ["r3"] and page.evaluate(focus) == "r3")
    keys.press("b")
    wait_for(lambda: query(page, "baseline") == ["r3"])
    keys.press("?")
    assert page.get_by_role("dialog", name="Keyboard shortcuts").is_visible()
    keys.press("Escape")
    assert not page.get_by_role("dialog", name="Keyboard shortcuts").is_visible()
    keys.press("/")
    keys.type("x j")
    assert page.get_by_role("searchbox", name="Filter runs").input_value() == "x j"
    assert query(page, "run") == ["r3"]
    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_role("button", name="Close").click()
    assert not page.get_by_role("dialog", name="Keyboard shortcuts").is_visible()
