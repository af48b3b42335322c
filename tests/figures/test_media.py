import math

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from wandb_tl.config import RunConfig
from wandb_tl.figures import media
from wandb_tl.training import models
from wandb_tl.training.datasets import Dataset, Split
from wandb_tl.training.evaluate import Evaluation, evaluate

CLASSES = ["cat", "dog", "emu"]
CONFIG = RunConfig(model_name="resnet18", pretrained=False, image_size=64)
ROWS = [
    {"epoch": epoch, "train/lr": 0.1, "train/loss": 1.0, "train/accuracy": 0.5}
    | {"test/loss": 1.0, "test/accuracy": 0.5}
    for epoch in (1, 2)
]


def evaluation_of(actual: list[int], predicted: list[int], confidence: list[float]) -> Evaluation:
    rows = []
    for label, sure in zip(predicted, confidence, strict=True):
        shares = torch.full((len(CLASSES),), (1 - sure) / (len(CLASSES) - 1))
        shares[label] = sure
        rows.append(shares.log())
    return evaluate(torch.stack(rows), torch.tensor(actual))


def dataset_of(labels: list[int]) -> Dataset:
    """Test images whose every pixel is the image's number."""
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    split = Split(images.clone(), torch.tensor(labels))
    return Dataset(train=split, val=None, test=split, class_names=CLASSES)


def test_tables_say_what_was_predicted():
    actual, predicted = [0, 0, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1]
    test = evaluation_of(actual, predicted, [0.9, 0.6, 0.8, 0.7, 0.95, 0.5])
    tables = media.tabulate(dataset_of(actual), test)
    shown = tables["predictions"]
    # Mistakes first, the most confident of each first.
    assert [int(image[0, 0, 0]) for image in shown["image"]] == [4, 3, 1, 0, 2, 5]
    assert shown["actual"] == ["dog", "dog", "cat", "cat", "dog", "dog"]
    assert shown["predicted"] == ["cat", "cat", "dog", "cat", "dog", "dog"]
    assert shown["confidence"] == pytest.approx([0.95, 0.7, 0.6, 0.9, 0.8, 0.5])

    every = tables["test_predictions"]
    assert every["number"] == list(range(6))
    assert every["actual"] == [CLASSES[label] for label in actual]
    assert every["predicted"] == [CLASSES[label] for label in predicted]
    counts = tables["confusion_counts"]
    assert list(zip(counts["actual"], counts["predicted"], counts["count"], strict=True)) == [
        ("cat", "cat", 1),
        ("cat", "dog", 1),
        ("dog", "cat", 2),
        ("dog", "dog", 2),
    ]
    report = tables["class_report_table"]
    assert report["class"] == CLASSES and report["images"] == [2, 4, 0]
    assert report["precision"][:2] == pytest.approx([1 / 3, 2 / 3])
    assert report["recall"][:2] == [0.5, 0.5]
    assert report["f1"][:2] == pytest.approx([0.4, 4 / 7])
    # No image is of it and none was taken for it.
    assert all(math.isnan(report[score][2]) for score in ("precision", "recall", "f1"))


def test_at_most_64_predictions_have_their_image():
    actual = [0, 1] * 50
    tables = media.tabulate(dataset_of(actual), evaluation_of(actual, actual, [0.9] * 100))
    assert len(tables["predictions"]["image"]) == 64 and len(tables["test_predictions"]["actual"]) == 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "predicted", [[0, 1, 2, 0], [0, 1, 2, 2], [1, 2, 0, 1]], ids=["some", "right", "wrong"]
)
def test_every_figure_can_be_drawn(predicted):
    actual = [0, 1, 2, 2]
    test = evaluation_of(actual, predicted, [0.9, 0.5, 0.4, 0.7])
    figures = media.draw(CONFIG, dataset_of(actual), models.build(CONFIG, 3), test, ROWS)
    assert list(figures) == [
        *("confusion_matrix", "examples", "class_report", "reliability", "curves", "grad_cam"),
        "feature_maps/first_conv",
        *(f"feature_maps/stage_{i}" for i in range(1, 5)),
    ]
    for figure in figures.values():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        assert len(set(canvas.buffer_rgba().tobytes())) > 10


def test_a_model_without_maps_of_its_own_leaves_the_rest():
    config = RunConfig(model_name="pit_ti_224", pretrained=False, image_size=64)
    test = evaluation_of([0, 1], [0, 0], [0.9, 0.5])
    figures = media.draw(config, dataset_of([0, 1]), models.build(config, 3), test, ROWS)
    assert "grad_cam" not in figures and {"examples", "feature_maps/stage_3"} <= set(figures)


def test_a_figure_that_fails_leaves_the_rest(capsys):
    model = models.build(CONFIG, len(CLASSES))
    # timm names a layer that this model does not have.
    model.pretrained_cfg = dict(model.pretrained_cfg) | {"first_conv": "nowhere"}
    test = evaluation_of([0, 1, 2], [0, 1, 0], [0.9, 0.8, 0.7])
    figures = media.draw(CONFIG, dataset_of([0, 1, 2]), model, test, ROWS)
    assert {"confusion_matrix", "curves", "grad_cam"} <= set(figures)
    assert not any(name.startswith("feature_maps") for name in figures)
    assert capsys.readouterr().out.startswith("resnet18 has no feature_maps: AttributeError: ")
