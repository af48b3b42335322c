"""Small models of well-known families: they train, and the saved model predicts what the run has measured."""

import pytest
import torch
import wandb

from wandb_tl.config import RunConfig
from wandb_tl.predicting.run_network import RunNetwork
from wandb_tl.training import datasets, loop, model_folder, models
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.process_cache import ProcessCache

CPU = torch.device("cpu")
# Arguments that make models small where timm has no small one.
FAMILIES = {
    "resnet18": "",
    "test_vit": "",
    "test_convnext": "",
    "mobilenetv3_small_050": "",
    "regnetx_002": "",
    "swin_tiny_patch4_window7_224": "embed_dim=24 depths=(1,1,1,1) num_heads=(1,2,4,8)",
    "efficientvit_b0": "",
    "densenet121": "block_config=(2,2,2,2) growth_rate=8",
    "vgg11_bn": "mlp_ratio=0.01",
    "inception_v3": "",
    "mixer_s32_224": "",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_and_its_saved_model_predicts_the_same(
    name, fashion_mnist_cache, tmp_path, monkeypatch
):
    config = RunConfig(
        model_name=name,
        model_kwargs=FAMILIES[name],
        pretrained=False,
        finetuning=True,
        image_size=96 if name == "inception_v3" else 64,
        epochs=1,
        batch_size=16,
        train_limit=32,
        test_limit=32,
        precision="fp32",
    )
    data = datasets.load(config)
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    model = models.build(config, 10)
    with wandb.init(mode="disabled") as run:
        result = loop.train(config, data, model, CPU, run, lambda *_: {}, ProcessCache().activations)
    assert run.summary["cached"]
    model_folder.save(tmp_path / "model", model, ModelDescription(config, data.class_names, precision="fp32"))
    loaded = model_folder.load(tmp_path / "model")
    confidence, predicted = RunNetwork(loaded, CPU)(data.test.images).softmax(1).max(1)
    assert torch.equal(predicted, result.test.predicted)
    torch.testing.assert_close(confidence, result.test.confidence)
