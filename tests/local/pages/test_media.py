"""The media of runs in a real browser: order, slider, boxes and masks, several runs side by side."""

from __future__ import annotations

import json
import math
import urllib.parse
from pathlib import Path
from typing import Any

import playwright.sync_api as playwright
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for
from run_writer import write_run
from starlette.datastructures import QueryParams

from wandb_tl.local.artifacts.blobs import Blobs
from wandb_tl.local.pages.media import rank
from wandb_tl.local.pages.media_items import ItemReader, safely
from wandb_tl.local.pages.thinning import CurveReader
from wandb_tl.local.pages.view import PageRequest

pytestmark = needs_chromium

RUN = "/local/gallery/runs/one"


def strip(page: playwright.Page, key: str) -> playwright.Locator:
    return page.locator(f"[id='strip-{key}']")


def test_media_have_the_same_order_in_every_run_and_hidden_ones_are_left_out(gallery: Tab) -> None:
    page = gallery.open(RUN)
    keys = page.locator("#strips h3").all_inner_texts()
    assert keys[:9] == [
        "confusion_counts",
        "matrix_table",
        "thousand",
        "confusion_matrix",
        "class_report",
        "examples",
        "predictions",
        "grad_cam",
        "reliability",
    ]
    assert keys[-1] == "feature_maps/conv1" and "secret" not in keys
    assert sorted(keys[3:], key=rank) == keys[3:]
    assert strip(page, "only_summary").locator("[data-place]").inner_text() == "in the summary"
    assert strip(page, "only_summary").locator("img").count() == 1


def test_one_slider_moves_all_media(gallery: Tab) -> None:
    page = gallery.open(RUN)
    slider = page.get_by_role("slider", name="epoch of all media")
    captions = strip(page, "sample").locator("figcaption:visible")
    assert captions.all_inner_texts() == ["epoch 3"]
    assert strip(page, "late").locator("[data-place]").inner_text() == "epoch 2"
    slider.fill("0")
    wait_for(lambda: captions.all_inner_texts() == ["epoch 1"])
    assert strip(page, "late").locator("[data-place]").inner_text() == "epoch 1"
    assert strip(page, "examples").locator("[data-nothing]").is_visible()
    assert strip(page, "examples").locator("img:visible").count() == 0
    assert strip(page, "only_summary").locator("img:visible").count() == 1
    slider.fill("2")
    wait_for(lambda: captions.all_inner_texts() == ["epoch 3"])
    assert slider.get_attribute("aria-valuetext") == "3"


def test_the_readers_step_stays_while_later_ones_come(server: Server, tab: Tab) -> None:
    histogram = {"_type": "histogram", "values": [1, 2], "bins": [0, 1, 2]}
    rows = [{"epoch": epoch, "h": histogram} for epoch in (1, 2, 3)]
    write_run(server, "steps", "r", {}, rows[:2], finished=False)
    page = tab.open("/local/steps/runs/r")
    at = page.locator("#strip-h [data-place]")
    page.get_by_role("slider", name="epoch of all media").fill("0")
    assert at.inner_text() == "epoch 1"
    write_run(server, "steps", "r", {}, rows)
    wait_for(lambda: page.locator("#media-step input").get_attribute("max") == "2")
    assert at.inner_text() == "epoch 1" and page.locator("#media-step output").inner_text() == "1"


def test_boxes_and_masks_are_drawn_and_can_be_hidden_by_class(gallery: Tab) -> None:
    page = gallery.open(RUN)
    figure = strip(page, "annotated").locator("figure")
    boxes = figure.locator("rect")
    places = [
        [float(box.get_attribute(name)) for name in ("x", "y", "width", "height")] for box in boxes.all()
    ]
    assert places == [[0.25, 0.5, 0.5, 0.5], [0.125, 4 / 24, 0.25, 4 / 24]]
    figure.scroll_into_view_if_needed()
    canvas = figure.locator("canvas")
    wait_for(lambda: canvas.get_attribute("data-classes") == "0 1 2")

    def shade(x: int, y: int) -> list[int]:
        return canvas.evaluate(f"canvas => [...canvas.getContext('2d').getImageData({x}, {y}, 1, 1).data]")

    road = shade(2, 20)
    assert road[3] == 128 and shade(2, 2) != road and shade(5, 5) not in (road, shade(2, 2))
    figure.get_by_label("road").first.uncheck()
    assert shade(2, 20)[3] == 0 and shade(2, 2)[3] == 128
    assert boxes.first.is_visible()
    figure.get_by_label("road").last.uncheck()
    assert not boxes.first.is_visible() and boxes.last.is_visible()
    assert figure.get_by_label("<i>car</i>").count() == 2
    assert strip(page, "pair").locator("svg.boxes").count() == 2


def test_each_kind_of_media_is_shown_or_offered(gallery: Tab) -> None:
    page = gallery.open(RUN)
    gif = strip(page, "gif").locator("img")
    gif.scroll_into_view_if_needed()
    wait_for(lambda: gif.evaluate("image => image.complete && image.naturalWidth") == 32)
    assert strip(page, "clip").locator("video").count() == strip(page, "beep").locator("audio").count() == 1
    points = strip(page, "points").get_by_role("link", name="download")
    assert points.count() == 2 and "3-D points" in strip(page, "points").inner_text()
    with page.expect_download() as download:
        points.first.click()
    assert len(json.loads(download.value.path().read_text())) == 20
    assert "molecule: download" in strip(page, "molecule").inner_text()
    frame = strip(page, "html").locator("iframe")
    assert "allow-same-origin" not in frame.get_attribute("sandbox")
    for key, kind in (("matplotlib", ".scatterlayer"), ("plotly", ".barlayer")):
        chart = strip(page, key).locator("[data-chart=plotly]")
        chart.scroll_into_view_if_needed()
        wait_for(lambda chart=chart: chart.get_attribute("data-drawn") is not None)
        assert chart.locator(f"{kind} .trace").count() == 1
    tables = {
        "matplotlib": ["0 1", "1 2", "2 4"],
        "plotly": ["sales a 1", "sales b 3"],
        "grid": ["heatmap 1 a 0 0", "heatmap 1 b 0 1", "heatmap 1 a 1 2", "heatmap 1 b 1 3"],
        "shares": ["pie 1 a 1", "pie 1 b 3", "box 2 5"],
    }
    for key, rows in tables.items():
        values = strip(page, key).locator("details.data")
        values.scroll_into_view_if_needed()
        values.locator("summary").click()
        wait_for(lambda values=values, rows=rows: values.locator("tbody tr").count() == len(rows))
        texts = [" ".join(text.split()) for text in values.locator("tbody tr").all_inner_texts()]
        assert all(text.endswith(row) for text, row in zip(texts, rows, strict=True)), texts
    assert "squares" in strip(page, "matplotlib").inner_text()


def test_the_ticked_runs_media_are_side_by_side(gallery: Tab) -> None:
    page = gallery.open("/local/gallery?run=one&run=two")
    page.get_by_role("link", name="their media").click()
    page.get_by_role("combobox", name="Media").select_option("sample")
    sections = page.locator("#beside section")
    wait_for(lambda: sections.locator("figcaption").all_inner_texts() == ["epoch 3"] * 2)
    assert len({image.get_attribute("src") for image in sections.locator("img").all()}) == 2
    assert sections.locator("h2 a").all_inner_texts() == ["run one", "run two"] or "lr" in page.inner_text(
        "#beside"
    )
    page.get_by_role("link", name="← epoch 2").click()
    wait_for(lambda: sections.locator("figcaption").all_inner_texts() == ["epoch 2"] * 2)
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(page.url).query)
    assert query["key"] == ["sample"] and query["step"] == ["2.0"] and query["runs"] == ["one,two"]
    page.get_by_role("combobox", name="Media").select_option("annotated")
    wait_for(lambda: "No media of this name" in sections.last.inner_text())
    assert gallery.open("/local/gallery/media?runs=none").locator("main p").inner_text().endswith("no media.")


def test_a_confusion_matrix_names_its_cells_and_leads_to_their_images(gallery: Tab) -> None:
    page = gallery.open(RUN)
    matrix = strip(page, "confusion_counts").locator(".matrix")
    cell = matrix.locator("tbody td").nth(1)
    cell.hover()
    words = "3 of shirt predicted as bag, 75.0 % of the class; click to see the images"
    assert matrix.locator("[data-cell]").inner_text() == words
    # A cell of which the Table has some images.
    words = matrix.locator("tbody td").nth(3).get_attribute("title")
    assert words.endswith("; click to see the 2 of these 6 images that the Table has")
    matrix.get_by_label("share of each actual class").check()
    assert matrix.locator("tbody td").all_inner_texts() == ["25 %", "75 %", "25 %", "75 %"]
    matrix.get_by_label("share of each actual class").uncheck()
    assert matrix.locator("tbody td").all_inner_texts() == ["1", "3", "2", "6"]
    cell.get_by_role("link").click()
    rows = page.locator("#rows tbody tr")
    assert (
        rows.count() == 3
        and page.get_by_role("searchbox").input_value() == '"actual"="shirt" "predicted"="bag"'
    )
    assert {tuple(row.inner_text().split()[:2]) for row in rows.all()} == {("shirt", "bag")}
    assert rows.locator("img").count() == 3


def test_the_matrix_of_a_thousand_classes_is_bounded(gallery: Tab) -> None:
    page = gallery.open(RUN)
    matrix = strip(page, "thousand")
    assert matrix.locator("tbody tr").count() == 50
    assert "The 50 of 1000 classes that are confused most often" in matrix.inner_text()
    assert len(page.content()) < 400_000
    # It has the width of two others, and the names of its classes stand upright.
    page.set_viewport_size({"width": 1440, "height": 900})
    wide, narrow = (strip(page, key).bounding_box()["width"] for key in ("thousand", "confusion_counts"))
    assert wide > 1.9 * narrow
    assert matrix.locator("thead th[title]").first.bounding_box()["width"] < 60


def test_media_of_an_odd_structure_are_left_out(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs", "key")
    files = {"deep.json": "a" * 32, "picture.png": "b" * 32}
    with blobs.write(b"[" * 100_000) as upload:
        blobs.move_in(upload.file, files["deep.json"])
    request: Any = PageRequest(None, blobs, [], QueryParams(), ".", CurveReader())  # type: ignore[arg-type]
    reader = ItemReader(request, files)
    picture = {"_type": "image-file", "path": "picture.png"}
    [item] = safely(lambda: reader.items(picture | {"boxes": {"group": {"path": "deep.json"}}}))
    assert item.kind == "image" and item.layers is None
    box = {"position": {"minX": 0, "maxX": 1, "minY": 0, "maxY": 1}, "class_id": math.inf}
    bins = {"min": 0.5, "size": 10**400, "count": 2}
    for value in (
        picture | {"boxes": {"group": {"box_data": [box]}}},
        {"_type": "histogram", "packedBins": bins, "values": [1, 2]},
    ):
        assert safely(lambda value=value: reader.items(value)) == []
