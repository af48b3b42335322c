"""The tensors of a model artifact: enough to rebuild the model, and no more."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import freezing, models
from wandb_tl.training.trained_weights import load_trained, trained_tensors

LITE0 = {"model_name": "tf_efficientnet_lite0", "image_size": 32}
RESNET = {"model_name": "resnet18", "image_size": 32, "pretrained": False}


def trained(config: RunConfig) -> nn.Module:
    """A model whose trainable parameters and BatchNorm statistics have moved where they may."""
    model = models.build(config, 3)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], 0.1)
    freezing.train_mode(model, config.norm_in_effect)
    model(torch.randn(8, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    return model.eval()


def write(folder: Path, model: nn.Module, config: RunConfig) -> None:
    save_file(trained_tensors(model, config), folder / "model.safetensors")
    description = {"config": config.as_dict(), "class_names": ["a", "b", "c"]}
    (folder / "config.json").write_text(json.dumps(description))


@pytest.mark.parametrize(
    "options",
    [LITE0, LITE0 | {"finetuning": True}, LITE0 | {"norm": "batch"}, RESNET, RESNET | {"finetuning": True}],
)
def test_a_model_comes_back_with_the_same_outputs(tmp_path, options):
    config = RunConfig(**options)
    model = trained(config)
    write(tmp_path, model, config)
    loaded, loaded_config, class_names = load_trained(tmp_path)
    assert loaded_config == config and class_names == ["a", "b", "c"] and not loaded.training
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_only_tensors_that_cannot_be_had_elsewhere_are_saved():
    classifier = {"classifier.weight", "classifier.bias"}
    head_only = RunConfig(**LITE0)
    assert set(trained_tensors(models.build(head_only, 3), head_only)) == classifier
    batch = RunConfig(**LITE0, norm="batch")
    names = set(trained_tensors(models.build(batch, 3), batch))
    assert classifier < names and {name.split(".")[-1] for name in names - classifier} == {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }


def test_files_that_do_not_match_are_refused(tmp_path):
    config = RunConfig(**LITE0, finetuning=True)
    model = models.build(config, 3)
    write(tmp_path, model, config)
    tensors = trained_tensors(model, config)
    del tensors["bn2.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"model.safetensors does not match config.json \(bn2.weight\)"):
        load_trained(tmp_path)
