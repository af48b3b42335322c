"""axe-core finds nothing that is not accessible, on any page, light or dark."""

from __future__ import annotations

from typing import Any

import playwright.sync_api as playwright
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for
from run_writer import write_run, write_sweep

pytestmark = needs_chromium

PAGES = (
    "/",
    "/local/gallery",
    "/local/gallery?run=one&run=two",
    "/local/gallery/runs/one",
    "/local/gallery/runs/one?table=long",
    "/local/gallery/runs/one?table=predictions",
    "/local/gallery/media?runs=one,two&key=sample",
    "/local/gallery/artifacts",
    "/local/gallery/artifacts/dataset/results",
    "/local/gallery/reports/r--Vmlldzox",
    "/authorize",
)


# The rules that depend on colours.
COLOURS = ["color-contrast", "link-in-text-block"]


@pytest.mark.parametrize("address", PAGES)
def test_nothing_is_inaccessible(gallery: Tab, address: str) -> None:
    check(gallery, address)


def test_nothing_on_a_sweeps_page_is_inaccessible(gallery: Tab, gallery_server: Server) -> None:
    parameters = {"lr": {"values": [1, 2]}, "opt": {"values": ["Adam", "SGD"]}}
    metric = {"name": "acc", "goal": "maximize"}
    sweep = write_sweep(
        gallery_server, "swept", {"method": "grid", "metric": metric, "parameters": parameters}
    )
    for number in range(4):
        config = {"lr": 1 + number % 2, "opt": "Adam" if number < 2 else "SGD"}
        write_run(gallery_server, "swept", f"s{number}", config, [{"epoch": 1, "acc": number / 4}], sweep)
    check(gallery, f"/local/swept/sweeps/{sweep}")
    chart = gallery.page.locator("[data-chart=parallel]").first
    chart.get_by_text("Values as a table").click()
    wait_for(lambda: chart.locator(":scope > details tr").count() == 5)
    assert chart.locator(":scope > details th[scope=col]").all_inner_texts() == ["run", "lr", "opt", "acc"]


def check(gallery: Tab, address: str) -> None:
    page = gallery.page
    # In one view, so that all charts are drawn.
    page.set_viewport_size({"width": 1200, "height": 6000})
    gallery.open(address)
    charts = "[...document.querySelectorAll('[data-chart]')].filter(chart => chart.checkVisibility())"
    wait_for(lambda: page.evaluate(f"{charts}.every(chart => chart.dataset.drawn !== undefined)"))
    assert violations(page, {}) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, {"runOnly": COLOURS}) == []


def violations(page: playwright.Page, options: dict[str, Any]) -> list[str]:
    """Each rule that is violated, with some of the elements."""
    rules = Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in rules for node in rule["nodes"][:4]]


def test_a_chart_has_its_values_as_a_table(gallery: Tab) -> None:
    page = gallery.open("/local/gallery?run=one&run=two")
    gallery.charts("curves")
    chart = page.locator("[data-chart=curves]", has_text="loss").first
    chart.get_by_text("Values as a table").click()
    rows = chart.get_by_role("group", name="Values of loss").locator("tr")
    wait_for(lambda: rows.count() == 7)
    assert rows.first.inner_text().split() == ["run", "epoch", "loss"]
    assert [row.split()[-2:] for row in rows.all_inner_texts()[1:4]] == [
        ["1", "1"],
        ["2", "0.5"],
        ["3", "0.3333"],
    ]
