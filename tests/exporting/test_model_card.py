"""What the model card says about images that the run had, and about those that it had not."""

from types import SimpleNamespace

import torch

from wandb_tl.config import RunConfig
from wandb_tl.exporting import model_card
from wandb_tl.pictures.framing import Framing
from wandb_tl.train import results_of
from wandb_tl.training.datasets import Dataset, Split
from wandb_tl.training.evaluate import evaluate
from wandb_tl.training.model_description import ModelDescription


def card(test_is_val: bool) -> str:
    labels = torch.arange(30) % 2
    split = Split(torch.zeros(30, 3, 8, 8, dtype=torch.uint8), labels)
    data = Dataset(split, split, split, ["a", "b"], test_is_val)
    evaluation = evaluate(torch.eye(2)[labels], labels)
    results = results_of(data, SimpleNamespace(val=evaluation, test=evaluation))
    description = ModelDescription(RunConfig(), data.class_names, temperature=0.5, results=results)
    return model_card.text("abc123", description, Framing(8), ["onnx"])


def test_validation_images_in_place_of_test_images_are_not_called_test_images():
    text = card(test_is_val=True)
    assert "| 30 validation images | 100.00 % (30) |" in text
    assert "which was chosen on the 30 validation images." in text
    assert "test images" not in text.lower()
    text = card(test_is_val=False)
    assert "| 30 test images |" in text and "Test images are those of the run" in text
