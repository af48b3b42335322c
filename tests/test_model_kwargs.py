import pytest

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.model_kwargs import parse_model_kwargs


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("  patch_size=8   drop_path_rate=0.1 ", {"patch_size": 8, "drop_path_rate": 0.1}),
        (
            "depths=(2,2) act_layer=gelu qkv_bias=false",
            {"depths": (2, 2), "act_layer": "gelu", "qkv_bias": False},
        ),
        ('{"qkv_bias": true, "window_size": 7}', {"qkv_bias": True, "window_size": 7}),
        # A dictionary in a sweep's YAML file.
        (str({"in_chans": 1, "act_layer": None}), {"in_chans": 1, "act_layer": None}),
    ],
)
def test_arguments_are_read(text, arguments):
    assert parse_model_kwargs(text) == arguments == RunConfig(model_kwargs=text).model_arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patch_size", "model_kwargs: got 'patch_size', takes NAME=VALUE separated by spaces"),
        ("depths=(2, 2)", "model_kwargs: got '2)', takes NAME=VALUE"),
        ("{patch_size: 8}", "model_kwargs: got '{patch_size: 8}', which is not a dictionary of arguments"),
        ("img_size=96", "model_kwargs: img_size cannot be set here; image_size decides it"),
        ("num_classes=3", "model_kwargs: num_classes cannot be set here; the number of classes in"),
        ("in_chans=4", "model_kwargs: in_chans is 4; pictures have 1 or 3 channels"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(text, message):
    with pytest.raises(InputError) as refusal:
        RunConfig(model_kwargs=text)
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)
