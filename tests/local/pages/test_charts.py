"""The charts in a real browser: how plotly.js arrives, what is drawn, and whose curve is which."""

from __future__ import annotations

import csv
import gzip
import re
import time
import urllib.request

import playwright.sync_api as playwright
import pytest
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for
from PIL import Image
from run_writer import write_run, write_sweep

pytestmark = needs_chromium


def rows(final: float, count: int = 5) -> list[dict[str, float]]:
    return [{"epoch": epoch, "acc": final * epoch / count} for epoch in range(1, count + 1)]


@pytest.fixture(scope="module")
def three(server: Server) -> str:
    """The address of a project of three runs, which differ in lr and in the optimizer."""
    for number, (lr, optimizer) in enumerate([(0.001, "Adam"), (0.01, "Adam"), (0.001, "SGD")]):
        write_run(server, "three", f"r{number}", {"lr": lr, "optimizer": optimizer}, rows(0.5 + number / 10))
    return "/local/three"


def test_plotly_comes_from_the_installed_package_compressed_and_once(tab: Tab, three: str) -> None:
    page = tab.open(three)
    tab.charts("curves")
    source = page.locator("script[src*=plotly]").get_attribute("src")
    address = page.evaluate("document.querySelector('script[src*=plotly]').src")
    request = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request) as answer:
        body = answer.read()
        assert (
            "immutable" in answer.headers["Cache-Control"]
            and "max-age=31536000" in answer.headers["Cache-Control"]
        )
        assert answer.headers["Content-Encoding"] == "gzip"
    with urllib.request.urlopen(address) as answer:
        assert gzip.decompress(body) == answer.read()
    assert len(body) < 2e6
    # The second page takes it from the browser's cache.
    tab.open(three + "?page=1")
    tab.charts("curves")
    entry = "performance.getEntriesByType('resource').find((one) => one.name.includes('plotly')).transferSize"
    assert page.evaluate(entry) == 0 and source


def test_the_page_can_be_read_before_plotly_has_loaded(tab: Tab, three: str) -> None:
    waiting = []
    tab.page.route("**/plotly-*.js", lambda route: waiting.append(route))
    page = tab.open(three)
    wait_for(lambda: page.evaluate("1") and waiting)
    assert page.locator(".runs tbody tr").count() == 3 and page.locator("[data-drawn]").count() == 0
    waiting[0].continue_()
    assert tab.charts("curves") == [3]


def test_the_content_policy_allows_no_script_but_files_of_the_server(tab: Tab, three: str) -> None:
    answer = tab.page.goto(tab.url + three)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
    assert policy["img-src"] == "'self' data:" and policy["connect-src"] == "'self'"
    assert tab.charts("curves") == [3]


def test_a_chart_out_of_sight_is_not_drawn(tab: Tab, server: Server) -> None:
    row = {"epoch": 1} | {f"metric{number:02}": number for number in range(60)}
    write_run(server, "long", "r", {}, [row])
    page = tab.open("/local/long")
    page.locator("[data-drawn]").first.wait_for()
    assert page.locator("[data-chart]").count() == 60
    page.wait_for_timeout(300)
    assert page.locator("[data-chart]:not([data-drawn])").count() > 20
    page.locator("[data-chart]").last.scroll_into_view_if_needed()
    page.locator("[data-chart][data-drawn]").last.wait_for()


def test_a_chart_is_saved_as_a_picture_and_as_a_table(tab: Tab, three: str) -> None:
    page = tab.open(three)
    tab.charts("curves")
    page.locator(".canvas").first.hover()
    with page.expect_download() as download:
        page.locator(".modebar-btn[data-title*=PNG]").click()
    assert download.value.suggested_filename == "acc.png"
    width, height = Image.open(download.value.path()).size
    assert width > height > 200
    with page.expect_download() as download:
        page.locator(".modebar-btn[data-title*=CSV]").click()
    table = list(csv.reader(download.value.path().read_text().splitlines()))
    assert table[0] == ["id", "name", "label", "epoch", "acc"] and len(table) == 16
    assert [row[3:] for row in table[1:] if row[0] == "r0"][-1] == ["5", "0.5"]
    tab.open(three + "?x=wall&smooth=0.5")
    tab.charts("curves")
    table = saved_table(page, page.locator("[data-chart=curves]"))
    assert table[0][3:] == ["time", "acc (smoothed 0.5)"]
    assert table[1][3] == "2023-11-14T22:13:20.000Z"


def saved_table(page: playwright.Page, chart: playwright.Locator) -> list[list[str]]:
    chart.locator(".canvas").hover()
    with page.expect_download() as download:
        chart.locator(".modebar-btn[data-title*=CSV]").click()
    return list(csv.reader(download.value.path().read_text().splitlines()))


def test_a_table_of_categories_has_their_names(tab: Tab, server: Server) -> None:
    definition = {"method": "grid", "metric": {"name": "acc", "goal": "maximize"}}
    values = {"optimizer": {"values": ["SGD", "Adam"]}}
    sweep = write_sweep(server, "named", definition | {"parameters": values})
    for number, optimizer in enumerate(["SGD", "Adam"]):
        write_run(server, "named", f"r{number}", {"optimizer": optimizer}, rows(0.5 + number / 10), sweep)
    page = tab.open(f"/local/named/sweeps/{sweep}")
    tab.charts("strip")
    table = saved_table(page, page.locator("[data-chart=strip]"))
    assert table[0][3:] == ["optimizer", "acc"]
    assert {(row[0], *row[3:]) for row in table[1:]} == {("r0", "SGD", "0.5"), ("r1", "Adam", "0.6")}


def test_equal_parts_do_not_end_the_reading_of_a_chart(tab: Tab, three: str) -> None:
    asked = []

    def answer(route: playwright.Route) -> None:
        asked.append(time.monotonic())
        whole = route.fetch()
        if len(asked) > 3:
            route.fulfill(response=whole)
        else:
            route.fulfill(json=whole.json() | {"partial": True})

    tab.page.route(lambda url: "curves=acc" in url, answer)
    page = tab.open(three)
    caption = page.locator("[data-chart=curves] figcaption")
    wait_for(lambda: caption.get_attribute("data-note") == "" and len(asked) >= 4)
    # The next part is asked for at once, not when the page looks for news.
    assert asked[3] - asked[0] < 20


def test_an_answer_for_another_axis_comes_too_late(tab: Tab, three: str) -> None:
    page = tab.open(three)
    tab.charts("curves")
    late: list[playwright.Route] = []
    page.route(lambda url: "x=relative" in url and "curves=acc" in url, lambda route: late.append(route))
    page.get_by_label("Over").select_option("relative")
    wait_for(lambda: page.evaluate("1") and late)
    page.get_by_label("Over").select_option("wall")
    canvas = page.locator("[data-chart=curves] .canvas")
    wait_for(lambda: canvas.evaluate("canvas => canvas.layout.xaxis.type") == "date")
    with page.expect_response(lambda answer: "x=relative" in answer.url):
        late[0].continue_()
    page.wait_for_timeout(300)
    assert canvas.evaluate("canvas => canvas.layout.xaxis.type") == "date"


def over(page: playwright.Page, chart: playwright.Locator, share_x: float, y: float) -> None:
    """Point at a place of a chart: a share of its width, and a value on its linear y axis."""
    box = chart.locator(".nsewdrag").first.bounding_box()
    low, high = chart.locator(".canvas").evaluate("canvas => canvas.layout.yaxis.range")
    up = (y - low) / (high - low)
    page.mouse.move(box["x"] + box["width"] * share_x, box["y"] + box["height"] * (1 - up))


def test_pointing_tells_whose_curve_it_is_and_a_click_leads_to_the_run(tab: Tab, three: str) -> None:
    page = tab.open(three)
    tab.charts("curves")
    chart = page.locator("[data-chart=curves]")
    assert [float(text) for text in chart.locator(".legend b").all_inner_texts()] == [0.7, 0.6, 0.5]
    over(page, chart, 0.98, 0.6)
    rows = chart.locator(".tip > div")
    assert [text.split()[-1] for text in rows.all_inner_texts()] == ["5", "0.7", "0.6", "0.5"]
    assert chart.locator(".tip .swatch").count() == 3
    assert page.locator("tr.marked").get_attribute("data-run") == "r1"
    assert chart.locator(".marks .js-line").count() == 1
    tip, whole = chart.locator(".tip").bounding_box(), chart.bounding_box()
    assert tip["width"] < whole["width"] and tip["height"] < whole["height"]
    page.locator("tr[data-run=r2]").hover()
    assert chart.locator(".legend .marked").get_attribute("data-run") == "r2"
    assert chart.locator(".marks .js-line").count() == 1
    # A double click resets the zoom, and stays.
    box = chart.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 100, steps=4)
    page.mouse.up()
    span = "(([low, high]) => high - low)(document.querySelector('.canvas').layout.xaxis.range)"
    wait_for(lambda: page.evaluate(span) < 3)
    page.mouse.dblclick(box["x"] + 40, box["y"] + 40)
    wait_for(lambda: page.evaluate(span) >= 4)
    page.wait_for_timeout(400)
    assert page.url == tab.url + three
    over(page, chart, 0.98, 0.6)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/three/runs/r1")


def test_runs_are_called_by_what_differs_in_tables_legends_and_tooltips(tab: Tab, server: Server) -> None:
    definition = {"method": "grid", "metric": {"name": "acc", "goal": "maximize"}}
    values = {"finetuning": {"values": [True, False]}, "lr": {"values": [0.1, 0.01, 0.001]}}
    sweep = write_sweep(server, "labels", definition | {"parameters": values})
    for number in range(12):
        config = {"finetuning": number % 2 == 0, "lr": 10.0 ** -(number % 3 + 1), "seed": number // 6}
        name = f"a-name-that-all-these-runs-begin-with-and-that-says-nothing-{number}"
        write_run(server, "labels", f"r{number}", config, rows((number + 1) / 20), sweep, name)
    page = tab.open(f"/local/labels/sweeps/{sweep}?group=none")
    assert tab.charts("curves") == [12]
    labels = page.locator(".runs tbody th a")
    assert labels.first.inner_text() == "not finetuning · lr 0.001 · seed 1"
    assert labels.first.get_attribute("title").endswith("nothing-11")
    legend = page.locator("[data-chart=curves] .legend li")
    # Of more than ten lines the best few, and what to do about the others.
    assert legend.count() == 6 and "and 7 more" in legend.last.inner_text()
    chart = page.locator("[data-chart=curves]")
    chart.scroll_into_view_if_needed()
    over(page, chart, 0.99, 0.05)
    tip = chart.locator(".tip > div")
    # The ten highest, and the one that is pointed at, in its colour.
    assert tip.count() == 13 and "and 1 more" in tip.last.inner_text()
    assert tip.nth(11).get_attribute("class") == "marked" and tip.nth(11).inner_text().endswith("0.05")
    assert page.locator("tr.marked").get_attribute("data-run") == "r0"
    strokes = {row.get_attribute("stroke") for row in page.locator(".tip path").all()}
    dashes = {row.get_attribute("class") for row in page.locator(".tip .swatch").all()}
    assert len(strokes) == 10 and dashes == {"swatch solid", "swatch dot"}


def test_recipes_over_seeds_are_drawn_as_means(tab: Tab, server: Server) -> None:
    definition = {"method": "grid", "metric": {"name": "acc", "goal": "maximize"}}
    values = {"finetuning": {"values": [True, False]}, "seed": {"values": [0, 1, 2]}}
    sweep = write_sweep(server, "seeds", definition | {"parameters": values})
    for number in range(6):
        config = {"finetuning": number % 2 == 0, "seed": number // 2}
        final = 0.9 + 0.01 * (number // 2) if number % 2 == 0 else 0.5
        write_run(server, "seeds", f"r{number}", config, rows(final), sweep)
    page = tab.open(f"/local/seeds/sweeps/{sweep}")
    assert tab.charts("curves") == [2] and tab.charts("parallel") == [2] and tab.charts("strip") == [6]
    assert page.locator("[data-chart=strip]").count() == 1
    assert page.locator(".best").inner_text().endswith("finetuning with 0.910 ± 0.025, n = 3")
    table = page.locator(".recipes tbody tr")
    assert [row.split("\t")[:3] for row in table.all_inner_texts()] == [
        ["finetuning", "3", "0.910 ± 0.025"],
        ["not finetuning", "3", "0.5000 ± 0.0000"],
    ]
    legend = page.locator("[data-chart=curves] .legend li").all_inner_texts()
    assert [text.split("\n")[0] for text in legend] == ["finetuning · n 3", "not finetuning · n 3"]
    # The band is drawn, and pointing at a recipe marks its runs.
    assert page.locator("[data-chart=curves] .js-fill").count() == 2
    table.first.hover()
    assert page.locator(".runs tr.marked").count() == 3
    page.locator("select[name=group]").select_option("none")
    wait_for(lambda: page.locator("[data-chart=curves]").get_attribute("data-drawn") == "6")
    assert "group=none" in page.url and table.count() == 0
    page.locator("select[name=group]").select_option("finetuning")
    wait_for(lambda: page.locator("[data-chart=curves]").get_attribute("data-drawn") == "2")
    page.goto(f"{tab.url}/local/seeds")
    assert tab.charts("curves") == [2] and page.locator(".recipes tbody tr").count() == 2


def test_how_curves_are_drawn_is_kept_in_the_address(tab: Tab, server: Server) -> None:
    noisy = [{"epoch": i + 1, "acc": 10.0 ** (i % 2), "loss": 1.0} for i in range(40)]
    write_run(server, "drawn", "r0", {}, noisy)
    # A run that has just started changes nothing for the others.
    write_run(server, "drawn", "r1", {}, [{"acc": 1.0}], metrics=[], finished=False)
    page = tab.open("/local/drawn")
    assert tab.charts("curves") == [1, 1]
    canvas = page.locator("[data-chart=curves] .canvas").first
    assert canvas.evaluate("canvas => canvas.layout.xaxis.title.text") == "epoch"
    page.get_by_label("log y").check()
    wait_for(lambda: canvas.evaluate("canvas => canvas.layout.yaxis.type") == "log")
    page.get_by_label("Smoothing").fill("0.9")
    # The raw line stays, faint, below the smooth one.
    wait_for(lambda: canvas.evaluate("canvas => canvas.data.length") == 2)
    assert canvas.evaluate("canvas => canvas.data[0].line.color") == "#4e79a740"
    spread = canvas.evaluate(
        "canvas => Math.max(...canvas.data[1].y.slice(20)) - Math.min(...canvas.data[1].y.slice(20))"
    )
    assert spread < 7
    page.get_by_label("Over").select_option("relative")
    wait_for(lambda: canvas.evaluate("canvas => canvas.layout.xaxis.title.text") == "seconds")
    assert "smooth=0.9" in page.url and "log=1" in page.url and "x=relative" in page.url
    page.reload()
    assert tab.charts("curves") == [2, 1]
    assert canvas.evaluate("canvas => [canvas.layout.yaxis.type, canvas.data.length]") == ["log", 4]
    assert page.get_by_label("Smoothing").input_value() == "0.9" and page.get_by_label("log y").is_checked()
    page.get_by_label("Over").select_option("wall")
    wait_for(lambda: canvas.evaluate("canvas => canvas.layout.xaxis.type") == "date")
    page.get_by_label("Find a chart").fill("LOS")
    wait_for(lambda: page.locator("#curves figcaption").all_inner_texts() == ["loss"])


def test_the_ticks_of_few_epochs_are_whole_and_distinct(tab: Tab, three: str) -> None:
    page = tab.open(three)
    tab.charts("curves")
    assert page.locator(".xaxislayer-above text").all_text_contents() == ["1", "2", "3", "4", "5"]


@pytest.fixture(scope="module")
def grid(server: Server) -> str:
    """The address of a sweep of twelve runs over lr and the optimizer, with one value of each per run."""
    definition = {"method": "grid", "metric": {"name": "acc", "goal": "maximize"}}
    values = {"lr": {"values": [0.1, 0.01, 0.001, 0.0001]}, "optimizer": {"values": ["Adam", "Lion", "SGD"]}}
    sweep = write_sweep(server, "ranges", definition | {"parameters": values})
    for number in range(12):
        config = {"lr": 10.0 ** -(number % 4 + 1), "optimizer": values["optimizer"]["values"][number // 4]}
        write_run(server, "ranges", f"r{number}", config, rows((number + 1) / 20), sweep)
    return f"/local/ranges/sweeps/{sweep}"


def inside(page: playwright.Page) -> list[str]:
    """The ids of the runs whose lines have not faded, and of those in the table, which must be the same."""
    lines = page.locator("[data-chart=parallel] .canvas").evaluate(
        "canvas => canvas.lines.filter((line) => !line.outside).map((line) => line.id).sort()"
    )
    faded = page.locator("[data-chart=parallel] .trace.outside").count()
    assert len(lines) + faded == 12
    return lines


def in_table(page: playwright.Page) -> list[str]:
    return sorted(page.locator(".runs tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.run)"))


def drag_along(page: playwright.Page, axis: int, low: float, high: float) -> None:
    """Drag along an axis of parallel coordinates, between two shares of it."""
    chart = page.locator("[data-chart=parallel]")
    chart.scroll_into_view_if_needed()
    box = chart.locator(".nsewdrag").bounding_box()
    left, right = chart.locator(".canvas").evaluate("canvas => canvas.layout.xaxis.range")
    x = box["x"] + box["width"] * (axis - left) / (right - left)
    y = [box["y"] + box["height"] * (1 - (share + 0.06) / 1.12) for share in (high, low)]
    page.mouse.move(x + 2, y[0])
    page.mouse.down()
    page.mouse.move(x + 30, y[1], steps=5)
    page.mouse.up()


def test_axes_of_any_name_have_ranges(tab: Tab, grid: str) -> None:
    page = tab.open(f"{grid}?from.__proto__=1&to.constructor=2")
    script = """async () => {
        const charts = document.querySelector("script[src$='charts.js']").src;
        const { settings } = await import(charts.replace("charts.js", "settings.js"));
        const { ranges } = settings("parallel");
        return [Object.entries(ranges), "toString" in ranges, {}[0] === undefined];
    }"""
    axes = [["__proto__", ["1", ""]], ["constructor", ["", "2"]]]
    assert page.evaluate(script) == [axes, False, True]


def test_ranges_on_axes_choose_lines_and_rows(tab: Tab, grid: str) -> None:
    page = tab.open(grid)
    tab.charts("parallel")
    assert len(inside(page)) == 12 and page.locator(".ranges button").is_hidden()
    # The upper half of the logarithmic axis of lr.
    drag_along(page, 0, 0.5, 1.02)
    big = sorted(f"r{number}" for number in range(12) if number % 4 < 2)
    wait_for(lambda: in_table(page) == big)
    assert inside(page) == big and "from.lr=0.003" in page.url and "to.lr" not in page.url
    assert page.locator("#in-range").inner_text() == "6 of 12 in range"
    # By keyboard: a category, and a number.
    page.locator(".ranges summary").press("Enter")
    page.get_by_label("optimizer from").select_option("Lion")
    wait_for(lambda: in_table(page) == ["r4", "r5", "r8", "r9"])
    page.get_by_label("lr to").fill("0.05")
    page.get_by_label("lr to").press("Enter")
    wait_for(lambda: in_table(page) == ["r5", "r9"])
    wait_for(lambda: inside(page) == ["r5", "r9"])
    # A link shows the same.
    page.reload()
    tab.charts("parallel")
    assert inside(page) == in_table(page) == ["r5", "r9"]
    assert page.locator(".ranges output").inner_text() == "2 of 12 in range"
    page.get_by_role("button", name="Reset ranges").click()
    wait_for(lambda: len(in_table(page)) == 12)
    assert len(inside(page)) == 12 and "lr" not in page.url
    assert page.locator("tr.outside").count() == 0


def test_the_best_line_is_the_strongest_whatever_the_goal(tab: Tab, server: Server) -> None:
    for goal in ("maximize", "minimize"):
        definition = {"method": "grid", "metric": {"name": "acc", "goal": goal}}
        values = {"lr": {"values": [0.1, 0.2, 0.3]}}
        sweep = write_sweep(server, goal, definition | {"parameters": values})
        for number in range(3):
            config = {"lr": (number + 1) / 10}
            write_run(server, goal, f"{goal}{number}", config, rows((number + 1) / 5), sweep)
        page = tab.open(f"/local/{goal}/sweeps/{sweep}")
        tab.charts("parallel")
        script = "canvas => canvas.lines.map(({ values, color }) => [values[0], color])"
        colors = dict(page.locator("[data-chart=parallel] .canvas").evaluate(script))
        best, worst = (0.3, 0.1) if goal == "maximize" else (0.1, 0.3)
        strengths = {lr: 255 - int(color.split(",")[1]) for lr, color in colors.items()}
        assert strengths[best] > strengths[0.2] > strengths[worst] > 40
        # A line has no hue: that would say which run it is.
        channels = [[int(part) for part in re.findall(r"\d+", color)] for color in colors.values()]
        assert all(max(each) - min(each) < 15 for each in channels)
        words = page.locator("#parallel h2").inner_text()
        assert f"the strongest line has the {'highest' if goal == 'maximize' else 'lowest'} acc" in words


def drawn_ids(page: playwright.Page, kind: str) -> list[str]:
    canvas = page.locator(f"[data-chart={kind}] .canvas").first
    return canvas.evaluate("canvas => (canvas.lines ?? []).map((line) => line.id).sort()")


def test_the_charts_of_a_sweep_draw_the_runs_that_match(tab: Tab, grid: str) -> None:
    page = tab.open(grid)
    for kind in ("parallel", "curves", "strip"):
        tab.charts(kind)
        assert len(drawn_ids(page, kind)) == 12
    page.get_by_label("Filter runs").fill("optimizer=Lion or optimizer=SGD")
    page.wait_for_url("**filter=*")
    matches = sorted(f"r{number}" for number in range(4, 12))
    wait_for(lambda: in_table(page) == matches)
    for kind in ("parallel", "curves", "strip"):
        tab.charts(kind)
        assert drawn_ids(page, kind) == matches
    assert "8 of 12 runs" in page.locator("#charts h2").first.inner_text()
    # A range as well: the lines of parallel coordinates fade, the others go.
    page = tab.open(f"{grid}?filter=optimizer%3DLion&from.lr=0.005")
    for kind, ids in (
        ("parallel", ["r4", "r5", "r6", "r7"]),
        ("curves", ["r4", "r5"]),
        ("strip", ["r4", "r5"]),
    ):
        tab.charts(kind)
        assert drawn_ids(page, kind) == ids
    # A ticked run stays, as it does in the table.
    page = tab.open(f"{grid}?filter=optimizer%3DLion&run=r0")
    tab.charts("curves")
    assert drawn_ids(page, "curves") == ["r0"]


def test_the_runs_of_recipes_that_match_keep_their_colour_and_name(tab: Tab, server: Server) -> None:
    definition = {"method": "grid", "metric": {"name": "acc", "goal": "maximize"}}
    values = {"opt": {"values": ["Adam", "SGD"]}, "seed": {"values": [0, 1]}}
    sweep = write_sweep(server, "matching", definition | {"parameters": values})
    for number in range(4):
        config = {"opt": ["Adam", "SGD"][number // 2], "seed": number % 2}
        write_run(server, "matching", f"m{number}", config, rows((number + 1) / 5), sweep)
    address = f"/local/matching/sweeps/{sweep}"
    script = "canvas => canvas.lines.map(({ id, color, runs }) => [id, color, runs])"
    page = tab.open(address)
    tab.charts("curves")
    [best, _] = page.locator("[data-chart=curves] .canvas").evaluate(script)
    # The first run of the recipe, which gives it its colour, does not match.
    page = tab.open(f"{address}?filter=opt%3DSGD+seed%3D1")
    tab.charts("curves")
    [only] = page.locator("[data-chart=curves] .canvas").evaluate(script)
    assert best[0] == "group:m2" and only == [*best[:2], 1]


def test_a_line_outside_of_the_ranges_is_not_pointed_at(tab: Tab, grid: str) -> None:
    page = tab.open(grid + "?from.acc=0.5")
    tab.charts("parallel")
    chart = page.locator("[data-chart=parallel]")
    box = chart.locator(".nsewdrag").bounding_box()
    names = set()
    for share in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * 0.85, box["y"] + box["height"] * share / 20)
        page.wait_for_function("() => new Promise((resolve) => requestAnimationFrame(() => resolve(true)))")
        names |= set(page.locator("tr.marked").evaluate_all("rows => rows.map((row) => row.dataset.run)"))
    assert names and names <= {"r9", "r10", "r11"}


def test_a_sweep_of_several_objectives_has_a_pareto_front(tab: Tab, server: Server) -> None:
    metrics = [{"name": "loss", "goal": "minimize"}, {"name": "speed", "goal": "maximize"}]
    definition = {"method": "custom", "scheduler": {"engine": "optuna"}, "metrics": metrics}
    sweep = write_sweep(server, "pareto", definition | {"parameters": {"width": {"min": 1, "max": 9}}})
    for number, (loss, speed) in enumerate([(0.1, 1), (0.2, 3), (0.3, 2), (0.4, 5), (0.5, 4), (0.2, 3)]):
        row = {"epoch": 1, "loss": loss, "speed": speed}
        write_run(server, "pareto", f"r{number}", {"width": number}, [row], sweep)
    # A run without one of the objectives is not compared.
    write_run(server, "pareto", "r6", {"width": 8}, [{"epoch": 1, "loss": 0.01}], sweep)
    page = tab.open(f"/local/pareto/sweeps/{sweep}")
    assert tab.charts("objectives") == [6]
    assert (
        page.locator(".best").inner_text()
        == "4 runs on the Pareto front so far: loss (minimize), speed (maximize)"
    )
    front = page.locator("table.front tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.run)")
    assert front == ["r0", "r1", "r5", "r3"]
    marked = page.locator(".runs tr:has(.front-mark)").evaluate_all(
        "rows => rows.map((row) => row.dataset.run)"
    )
    assert sorted(marked) == ["r0", "r1", "r3", "r5"]
    canvas = page.locator("[data-chart=objectives] .canvas")
    assert canvas.evaluate("canvas => canvas.data.at(-1).x") == [0.1, 0.2, 0.2, 0.4]
    page.goto(f"{tab.url}/local/pareto/sweeps/{sweep}?metric=speed")
    assert tab.charts("curves") == [6]


def test_a_logarithmic_axis_says_what_has_no_place_on_it(tab: Tab, server: Server) -> None:
    values = [
        {"epoch": i, "loss": [1, 0.1, 0][i % 3], "zero": 0, "near": 1e6 + i / 1e3} for i in range(1, 13)
    ]
    write_run(server, "zeros", "r0", {}, values)
    # Two runs that have just started, and have not declared their step metric, change nothing for the others.
    for name in ("r1", "r2"):
        write_run(server, "zeros", name, {}, [{"loss": 0.5}], metrics=[], finished=False)
    page = tab.open("/local/zeros?log=1")
    tab.charts("curves")
    captions = page.locator("#curves figcaption")
    notes = {
        text: captions.nth(i).get_attribute("data-note") for i, text in enumerate(captions.all_inner_texts())
    }
    assert notes == {
        "loss": "2 without epoch · 4 values at or below 0 not on the log axis",
        "near": "",
        "zero": "no value above 0: linear axis",
    }
    layouts = page.locator("#curves .canvas").evaluate_all(
        "all => all.map((canvas) => [canvas.layout.xaxis.title.text, canvas.layout.yaxis.type])"
    )
    assert layouts == [["epoch", "log"], ["epoch", "log"], ["epoch", "linear"]]
    page.get_by_label("log y").uncheck()
    near = page.locator("#curves [data-chart]", has_text="near")
    wait_for(lambda: near.locator(".canvas").evaluate("canvas => canvas.layout.yaxis.type") == "linear")
    # Labels differ, and none is cut off.
    ticks = near.locator(".ytick text")
    labels = ticks.all_text_contents()
    assert len(set(labels)) == len(labels) > 2
    assert min(tick.bounding_box()["x"] for tick in ticks.all()) >= near.bounding_box()["x"]
