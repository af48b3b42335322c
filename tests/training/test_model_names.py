"""What names and filters of timm models mean, and which weights are within reach."""

import pytest
import timm

from wandb_tl.errors import InputError
from wandb_tl.training import model_names


def test_a_filter_of_architectures_means_their_default_weights():
    names = model_names.expand(["resnet18*"], pretrained=True)
    assert {name.partition(".")[0] for name in names} == {"resnet18", "resnet18d"}
    for name in names:
        architecture, _, tag = name.partition(".")
        assert timm.get_pretrained_cfg(architecture).tag == tag


def test_a_filter_with_a_dot_means_all_weights():
    names = model_names.expand(["resnet18.*"], pretrained=True)
    assert names == timm.list_pretrained("resnet18.*") and len(names) > 3


def test_random_weights_have_no_tags():
    assert model_names.expand(["resnet18*"], pretrained=False) == ["resnet18", "resnet18d"]
    assert model_names.expand(["resnet18.*"], pretrained=False) == ["resnet18"]


def test_a_model_that_two_names_mean_is_there_once():
    tag = timm.get_pretrained_cfg("resnet18").tag
    names = ["resnet18", f"resnet18.{tag}", "resnet18.tv_in1k", "resnet18d"]
    assert model_names.expand(names, pretrained=True) == ["resnet18", "resnet18.tv_in1k", "resnet18d"]
    assert model_names.expand(names, pretrained=False) == ["resnet18", "resnet18d"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("resnet5o", "timm has no model 'resnet5o'; did you mean resnet50"),
        ("resnet18.nothing", "resnet18 has no weights 'nothing'; it has "),
        ("nothing*", "nothing.: timm has no pretrained model of such a name"),
        ("own:net", "timm has no model 'own:net'"),
    ],
)
def test_names_that_timm_does_not_have(pattern: str, message: str):
    with pytest.raises(InputError, match=message):
        model_names.expand([pattern], pretrained=True)


def test_without_the_hub_the_weights_of_this_machine_are_left(tmp_path, monkeypatch):
    # A closed port of this machine stands for a network without the hub.
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    reach = model_names.within_reach(["resnet18", "tf_efficientnet_lite0", "resnet50.tv_in1k"])
    assert reach.names == ["tf_efficientnet_lite0"]
    assert reach.left_out == ["resnet18", "resnet50.tv_in1k"] and reach.reason
    # Nothing is asked if all of them are here.
    assert model_names.within_reach(["tf_efficientnet_lite0"]).reason == ""
