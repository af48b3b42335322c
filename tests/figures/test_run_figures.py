from itertools import pairwise

import numpy as np
import pytest
import torch
from figure_reading import LONG, TITLE, is_whole, render, texts, words
from matplotlib.figure import Figure

from wandb_tl.figures import run_figures
from wandb_tl.training.evaluate import ReliabilityBins, evaluate, reliability_bins

NAN = float("nan")


def confusion(classes: int, names: list[str] = LONG) -> Figure:
    counts = torch.randint(1, 99, (classes, classes)) + 999 * torch.eye(classes, dtype=torch.int64)
    return run_figures.confusion_matrix(counts, [names[i % len(names)] for i in range(classes)], TITLE)


def curves(losses: list[float], title: str = TITLE, **more: float) -> Figure:
    rows = [
        {"epoch": e, "train/loss": x, "train/accuracy": 0.5, "test/loss": 2 * x, "test/accuracy": 0.89995}
        for e, x in enumerate(losses, 1)
    ]
    return run_figures.curves([row | more for row in rows], title)


def report(classes: int, names: list[str] = LONG) -> Figure:
    scores = torch.rand(3, classes).tolist()
    images = torch.randint(0, 99999, (classes,)).tolist()
    return run_figures.class_report(*scores, images, [names[i % len(names)] for i in range(classes)], TITLE)


def reliability(count: int, logits: float) -> Figure:
    result = evaluate(logits * torch.randn(count, 10), torch.randint(0, 10, (count,)))
    return run_figures.reliability(reliability_bins(result), result.ece, TITLE)


FIGURES = {
    **{f"{classes} classes": lambda classes=classes: confusion(classes) for classes in (1, 2, 10, 37, 300)},
    "short names": lambda: confusion(10, ["cat", "dog"]),
    "one epoch": lambda: curves([0.5]),
    "diverged": lambda: curves([1.0, 1e9], f"{TITLE}-{TITLE}-{TITLE}"),
    "not a number": lambda: curves([NAN] * 3),
    "tiny losses": lambda: curves([0.00012, 0.00003]),
    "a learning rate": lambda: curves([0.5, 0.4, 0.3], **{"train/lr": 0.00001}),
    **{f"{classes} reported": lambda classes=classes: report(classes) for classes in (1, 2, 10, 300)},
    **{f"{count} bins": lambda count=count: reliability(count, 3) for count in (1, 100_000)},
    "sure of all": lambda: reliability(1000, 1000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(name):
    figure = FIGURES[name]()
    assert max(render(figure).shape) < 2200 and is_whole(figure)


@pytest.mark.parametrize("classes", [2, 10, 37, 100, 300])
def test_names_of_classes_do_not_touch(classes):
    figure = confusion(classes, LONG[:3])
    names = [text for text in texts(figure) if text.get_text() in LONG and not text.get_rotation()]
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
    assert len(boxes) == min(classes, 100) and min(text.get_fontsize() for text in names) >= 7
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


def test_confusion_matrix_shows_every_count_and_no_zero():
    figure = run_figures.confusion_matrix(torch.tensor([[7, 3], [0, 0]]), ["cat", "$dog$ \\x$"], "title")
    shown = words(figure)
    assert {"7", "3", "cat", "$dog$ \\x$", "title", "actual", "predicted"} <= set(shown) and "0" not in shown
    pixels = render(figure)
    place = {text.get_text(): text.get_position() for text in texts(figure)}
    zero = place["3"][0], place["7"][1] + 170
    hit, mistake = (
        pixels[int(text.get_position()[1]), int(text.get_position()[0]) + 40]
        for text in texts(figure)
        if text.get_text() in ("7", "3")
    )
    # The hit is blue, the mistake orange, and lighter.
    assert hit[2] > hit[0] and mistake[0] > mistake[2] and hit.sum() < mistake.sum() < 3 * 255
    assert (pixels[int(zero[1]), int(zero[0])] == 255).all()


def test_confusion_matrix_shows_shares_of_the_actual_class_and_rounds_none_to_all_or_nothing():
    counts = torch.tensor([[999, 1, 0], [20, 60, 20], [0, 0, 5]])
    figure = run_figures.confusion_matrix(counts, ["a", "b", "c"], "title")
    shown = [word for word in words(figure) if word.endswith("%")]
    assert shown == [">99%", "<1%", "20%", "60%", "20%", "100%"]


@pytest.mark.parametrize(("classes", "count"), [(1, 9), (2, 12345), (10, 999), (10, 12345), (20, 1234)])
def test_counts_stay_in_their_cells(classes, count):
    figure = run_figures.confusion_matrix(torch.full((classes, classes), count), ["a"] * classes, "title")
    shown = [text for text in texts(figure) if text.get_text()[0] in "123456789"]
    places = np.array([text.get_position() for text in shown])
    boxes = np.array([text.get_window_extent().size for text in shown])
    assert len(shown) == 2 * classes**2 and min(text.get_fontsize() for text in shown) >= 6
    pitch = np.diff(np.unique(places[:, 0])).min(initial=170)
    assert boxes[:, 0].max() < pitch and boxes[0, 1] + boxes[1, 1] < 1.1 * pitch
    assert places[1, 1] - places[0, 1] > 0.8 * boxes[:, 1].mean()


def test_confusion_matrix_of_many_classes_lists_the_pairs_confused_most_often():
    counts = 10 * torch.eye(30, dtype=torch.int64)
    counts[3, 4], counts[29, 0], counts[7, 7] = 15, 5, 40
    shown = words(run_figures.confusion_matrix(counts, [f"class {i}" for i in range(30)], "title"))
    pairs = [word for word in shown if "→ class" in word]
    assert pairs == ["class 3 → class 4", "class 29 → class 0"]
    assert {"15 (60%)", "5 (33%)"} <= set(shown) and "40" not in shown


def test_confusion_matrix_without_mistakes_lists_none():
    shown = words(run_figures.confusion_matrix(torch.eye(30, dtype=torch.int64), ["a"] * 30, "title"))
    assert "predicted" in shown and not any("→" in word for word in shown)


def test_class_report_begins_with_the_worst_class():
    names = ["good", "$bad$", "fair", "unseen"]
    figure = run_figures.class_report(
        [0.9, 0.5, 0.7, NAN], [0.8, 0.2, 0.7, NAN], [0.85, 0.29, 0.7, NAN], [1, 22, 333, 0], names, "run"
    )
    rows = sorted((text.get_position()[1], text.get_text()) for text in texts(figure))
    assert [word for _, word in rows if word in names] == ["$bad$", "fair", "good", "unseen"]
    heights = {word: y for y, word in rows}
    assert heights["$bad$"] == heights["22"] == heights["0.29"] and heights["unseen"] == heights["0"]
    assert not any("nan" in word for _, word in rows)


def test_class_report_marks_values_from_left_to_right():
    figure = run_figures.class_report([0.9, 0.6], [0.7, 0.6], [0.8, 0.6], [5, 5], ["a", "b"], "run")
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    (low, precision), (_, recall), (_, f1) = (line.get_xdata() for line in lines)
    assert low < recall < f1 < precision and np.isclose(f1 - recall, precision - f1)
    assert len({(line.get_marker(), line.get_color()) for line in lines}) == 3


def test_class_report_of_many_classes_shows_the_worst_40_and_says_so():
    scores = [(i * 37 % 100) / 100 for i in range(100)]
    names = [f"class {i}" for i in range(100)]
    figure = run_figures.class_report(scores, scores, scores, [7] * 100, names, "run")
    shown = [word for word in words(figure) if word in names]
    assert shown == sorted(names, key=dict(zip(names, scores, strict=True)).get)[:40]
    assert "the 40 of 100 classes with the lowest F1" in figure.texts[0].get_text()


def test_class_report_bears_values_of_which_none_is_a_number():
    figure = run_figures.class_report([NAN], [NAN], [NAN], [0], ["a"], "run")
    assert "a" in words(figure) and render(figure).std() > 10


def test_reliability_shows_the_bins_with_their_gaps():
    empty = [0] * 13
    bins = ReliabilityBins([*empty, 300, 100], [*empty, 0.9, 1.0], [*empty, 0.5, 1.0])
    figure = run_figures.reliability(bins, 0.3, "run")
    shown = words(figure)
    assert {"ECE 0.300", "300", "100"} <= set(shown) and "0" not in shown
    assert "accuracy 0.625\nmean confidence 0.925" in shown
    heights = [
        [round(float(np.ptp(path.vertices[:, 1]))) for path in collection.get_paths()]
        for collection in figure.axes[0].collections
    ]
    # Of a diagram 532 pixels high: accuracies of 0.5 and 1, gaps of 0.4 and 0.
    assert [266, 532] in heights and [213, 0] in heights


def test_curves_show_the_learning_rate_where_it_is_known():
    figure = curves([0.5, 0.4], **{"train/lr": 0.25})
    loss, accuracy, rate = figure.axes
    assert rate.get_ylabel() == "learning rate" and rate.lines[0].get_ydata().tolist() == [0.25, 0.25]
    assert loss.get_position().x1 < accuracy.get_position().x0 < rate.get_position().x0


def test_curves_draw_the_splits_that_there_are():
    figure = curves([1, 1 / 2, 1 / 3])
    loss, accuracy = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train", "test"]
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 1 / 2, 1 / 3])
    assert accuracy.get_ylabel() == "accuracy" and render(figure).std() > 10
