import pytest
import timm
import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import models, weights


@pytest.mark.parametrize("size", [64, 224])
def test_converted_lite0_gives_the_outputs_of_its_own_package(size):
    reference = EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(torch.load(weights._lite0_file(), weights_only=True))
    converted = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    converted.load_state_dict(weights.load("tf_efficientnet_lite0"))
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(converted.eval()(images), reference.eval()(images))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_of_the_users(tmp_path, suffix):
    source = timm.create_model("resnet18", num_classes=1000)
    file = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": source.state_dict()}, file)
    else:
        save_file(source.state_dict(), file)
    model = models.build(RunConfig(model_name="resnet18.tv_in1k", weights_file=str(file)), 10)
    assert torch.equal(model.layer3[0].conv1.weight, source.layer3[0].conv1.weight)
    assert model.fc.weight.shape == (10, 512)


def test_bad_files_are_refused_in_one_line(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"state_dict": Evil()}, tmp_path / "code.pth")
    (tmp_path / "noise.pth").write_bytes(b"not weights at all")
    (tmp_path / "noise.safetensors").write_bytes(b"not weights at all")
    save_file({"fc.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    for name in ("code.pth", "noise.pth", "noise.safetensors", "absent.pth", "other.safetensors"):
        with pytest.raises(InputError) as refusal:
            models.build(RunConfig(model_name="resnet18", weights_file=str(tmp_path / name)), 10)
        assert name in str(refusal.value) and "\n" not in str(refusal.value)


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
