"""timm's networks give the outputs of torchvision's, from a file of torchvision's state dict.

One network of each family is tried: the others of the table differ from it in depth and width.
"""

import pytest
import torch
import torchvision
from torch import nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import models
from wandb_tl.training.torchvision_names import OTHER_NETWORKS, SAME_NETWORKS

FAMILIES = (
    *("convnext_tiny", "efficientnet_b0", "efficientnetv2_s", "mnasnet_050", "mobilenetv2_100"),
    *("mobilenetv3_small_100", "swin_tiny_patch4_window7_224", "vit_base_patch32_224"),
)
# Those whose names timm reads, or has itself: by timm's name.
READ_BY_TIMM = {
    "densenet121": "densenet121",
    "inception_v3": "inception_v3",
    "regnety_004": "regnet_y_400mf",
    "resnet18": "resnet18",
    "vgg11_bn": "vgg11_bn",
}
FAST = ("mobilenetv3_small_100", "mnasnet_050", "regnety_004", "resnet18")
SIZES = {"vit": 224, "swin": 224, "inception": 96}


def randomized(name: str) -> nn.Module:
    """torchvision's network with random weights and statistics."""
    options = {"init_weights": False} if name.startswith(("inception", "vgg")) else {}
    # Initialising the weights of a large network takes longer than all the rest; these compute with tensors.
    with torch.device("cpu" if name.startswith(("regnet", "swin")) else "meta"):
        model = torchvision.models.get_model(name, weights=None, **options)
    model = model if name.startswith(("regnet", "swin")) else model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor_name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.ndim > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)
            elif tensor_name.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                tensor.normal_(0, 0.1, generator=generator)
    return model.eval()


def without_classifier(model: nn.Module) -> nn.Module:
    """The network with its last linear layer replaced by the identity."""
    name, _ = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear)][-1]
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Identity())
    return model


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param(ours, theirs, id=ours, marks=() if ours in FAST else pytest.mark.slow)
        for ours, theirs in ({name: SAME_NETWORKS[name] for name in FAMILIES} | READ_BY_TIMM).items()
    ],
)
def test_the_outputs_agree(ours, theirs, tmp_path):
    reference = randomized(theirs)
    torch.save({"model": reference.state_dict()}, tmp_path / "w.pth")
    size = SIZES.get(ours[:4] if ours.startswith("swin") else ours.split("_")[0], 64)
    config = RunConfig(model_name=ours, image_size=size, weights_file=str(tmp_path / "w.pth"))
    model = models.build(config, 3).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        expected = without_classifier(reference)(images)
    assert expected.std() > 1e-3
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_another_network_of_that_name_is_refused(tmp_path):
    with torch.device("meta"):
        state = torchvision.models.get_model("swin_v2_t", weights=None).state_dict()
    torch.save({name: torch.zeros(tensor.shape) for name, tensor in state.items()}, tmp_path / "w.pth")
    name = "swinv2_tiny_window8_256"
    assert OTHER_NETWORKS[name] == "swin_v2_t"
    with pytest.raises(InputError, match="torchvision's swin_v2_t is another network"):
        models.build(RunConfig(model_name=name, image_size=64, weights_file=str(tmp_path / "w.pth")), 3)


def test_a_deeper_network_of_the_same_family_is_refused(tmp_path):
    # EfficientNet-B1 has all tensors of B0 under the same names, and more.
    torch.save(randomized("efficientnet_b1").state_dict(), tmp_path / "w.pth")
    config = RunConfig(model_name="efficientnet_b0", image_size=64, weights_file=str(tmp_path / "w.pth"))
    with pytest.raises(InputError, match="these weights are not of efficientnet_b0"):
        models.build(config, 3)
