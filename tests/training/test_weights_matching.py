"""Checkpoints as trainers write them, each loaded into a model whose tensors are then compared."""

import pytest
import timm
import torch
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.training import models

NAME = "test_resnet"


def state_of(name: str = NAME, seed: int = 1, **options) -> dict[str, Tensor]:
    """The state dict of a model with random weights and random BatchNorm statistics."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.state_dict()


def body(state: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


STATE, OTHER = state_of(), state_of(seed=2)
COUNTERS = [name for name in STATE if name.endswith("num_batches_tracked")]


@pytest.fixture
def load(tmp_path):
    """Save a checkpoint and build a model of it; returns the model and the line about what matched."""

    def load(content: object, name: str = NAME, image_size: int = 64) -> tuple[nn.Module, str]:
        torch.save(content, tmp_path / "w.pth")
        file = str(tmp_path / "w.pth")
        config = RunConfig(model_name=name, image_size=image_size, weights_file=file)
        lines: list[str] = []
        model = models.build(config, 3, say=lines.append)
        return model, lines[0].replace(file, "FILE")

    return load


def refusal(load, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        load(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition(": ")[2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (STATE, ""),
        ({"state_dict": prefixed(STATE, "module."), "epoch": 3}, " (state_dict, prefix 'module.')"),
        ({"net": prefixed(STATE, "_orig_mod.module.")}, " (net, prefix '_orig_mod.module.')"),
        ({"model_state_dict": STATE}, " (model_state_dict)"),
        ({"state_dict": prefixed(STATE, "net.")}, " (state_dict, prefix 'net.')"),
        ({"state_dict": body(STATE, "model.backbone.")}, " (state_dict, prefix 'model.backbone.')"),
        ({"state_dict_ema": OTHER, "state_dict": STATE}, " (state_dict)"),
        ({"epoch": 3, "model_ema": STATE}, " (model_ema)"),
        (
            {"student": body(OTHER, "module."), "teacher": body(STATE, "module.")},
            " (teacher, prefix 'module.')",
        ),
        ({"a": {"b": {"c": STATE}}, "b": {"fc.weight": STATE["fc.weight"]}}, " (a.b.c)"),
    ],
)
def test_state_dicts_are_found_at_any_place_and_prefix(load, content, words):
    model, line = load(content)
    loaded = model.state_dict()
    wanted = [name for name in body(STATE) if name not in COUNTERS]
    assert all(torch.equal(loaded[name], STATE[name]) for name in wanted)
    counts = f"weights: {len(wanted)} of {len(wanted) + 2} tensors of {NAME} from FILE"
    assert line == f"{counts}{words}; its classifier is new"


def test_the_query_encoder_of_moco_is_taken_and_the_rest_is_counted(load):
    head = {"module.encoder_q.fc.0.weight": torch.ones(5, 5), "module.encoder_q.fc.0.bias": torch.ones(5)}
    keys = body(OTHER, "module.encoder_k.")
    model, line = load({"state_dict": {**keys, **body(STATE, "module.encoder_q."), **head}})
    assert torch.equal(model.conv1[0].weight, STATE["conv1.0.weight"])
    assert "prefix 'module.encoder_q.'" in line
    assert f"left out: {len(keys) + 2} tensors such as module.encoder_k.conv1.0.weight" in line


def test_the_classifier_of_the_file_does_not_matter(load):
    weight = STATE["fc.weight"]
    # The last one is what the profiler thop leaves in every layer.
    counts = {"layer1.0.total_ops": torch.ones(1), "total_params": torch.ones(1)}
    for others in ({}, {"fc.weight": weight[:7]}, {"head.0.weight": weight}, counts):
        model, _ = load({**body(STATE), **others})
        assert model.fc.weight.shape == (3, weight.shape[1])


def test_counters_may_be_missing_and_numbers_may_be_halves(load):
    model, _ = load({name: tensor.half() for name, tensor in STATE.items() if name not in COUNTERS})
    assert torch.equal(model.conv1[0].weight, STATE["conv1.0.weight"].half().float())


@pytest.mark.parametrize("name", [NAME, "test_vit"])
def test_one_input_channel_becomes_three(load, name):
    # A grey image gives the same outputs as the same image in each of three channels.
    size = 160
    grey = timm.create_model(name, in_chans=1).eval()
    model, _ = load(grey.state_dict(), name, size)
    image = torch.randn(2, 1, size, size)
    with torch.no_grad():
        outputs = [one.forward_features(x) for one, x in ((grey, image), (model, image.repeat(1, 3, 1, 1)))]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)


def test_position_embeddings_are_resampled_to_the_image_size(load):
    state = state_of("test_vit")
    model, line = load(state, "test_vit", 96)
    assert model.pos_embed.shape[1] < state["pos_embed"].shape[1] and "converted by timm" in line
    assert torch.equal(model.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


def test_an_original_format_that_timm_converts_is_read(load):
    # ConvNeXt's own names of its layers.
    state = state_of("test_convnext")
    names = {"stem.": "downsample_layers.0.", "head.norm.": "norm.", "head.fc.": "head."}
    original = {}
    for name, tensor in state.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        for stage in range(4):
            name = name.replace(f"stages.{stage}.blocks.", f"stages.{stage}.")
            name = name.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
        for ours, theirs in {"conv_dw": "dwconv", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2"}.items():
            name = name.replace(ours, theirs)
        original[name] = tensor
    model, line = load({"model": original}, "test_convnext")
    assert "(model, converted by timm)" in line
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state if not name.startswith("head.fc"))


def test_weights_that_do_not_fit_are_refused_with_the_reason(load):
    lacking = {name: tensor for name, tensor in STATE.items() if name != "layer2.0.conv1.weight"}
    assert refusal(load, lacking).startswith("lacks 1 of ")
    assert "such as layer2.0.conv1.weight; it must have all but the classifier" in refusal(load, lacking)
    slashes = {name.replace(".", "/"): tensor for name, tensor in STATE.items()}
    assert "has other names than test_resnet: conv1/0/weight where timm has conv1.0.weight" in refusal(
        load, slashes
    )
    other = refusal(load, state_of("test_vit"))
    assert other.startswith("these weights are not of test_resnet: conv1.0.weight, ")
    assert other.count("is missing") == 2


def test_a_deeper_network_of_the_same_family_is_refused(load):
    state = state_of("resnet34")
    message = refusal(load, state, "resnet18")
    assert message.startswith("these weights are not of resnet18: layer1.2.conv1.weight has no place in it")


def test_a_network_that_cannot_change_its_image_size_names_the_one_that_fits(load):
    message = refusal(load, state_of("mixer_s32_224"), "mixer_s32_224")
    assert message == "these weights are for image_size=224, and mixer_s32_224 does not convert them"


def test_integers_are_not_weights(load):
    quantized = {name: (tensor * 100).to(torch.int8) for name, tensor in STATE.items()}
    assert "is not" in refusal(load, quantized) or "is missing" in refusal(load, quantized)
