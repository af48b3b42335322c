"""Writes a trained model as an ONNX or TorchScript file, or as a safetensors folder that timm reads."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.models._hub import save_config_for_hf  # the public save_for_hf refuses channels_last tensors
from torch import Tensor

from wandb_tl.exporting.whole_network import WholeNetwork
from wandb_tl.pictures.framing import Framing
from wandb_tl.predicting import exported_network
from wandb_tl.predicting.exported_network import IMAGES, LOGITS, PROBABILITIES
from wandb_tl.training import model_folder
from wandb_tl.training.model_folder import TrainedModel

SCRIPT = Path(__file__).with_name("classify.py")
# timm's words for `resize`.
CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border"}


def write_onnx(whole: WholeNetwork, entries: Mapping[str, str], file: Path) -> None:
    """Write one file that contains the network, its tensors and these entries of metadata.

    Beside it, classify.py classifies pictures without PyTorch. Raises PyTorch's errors for a network that
    cannot be exported.
    """
    with quiet():
        # With an example of one image, PyTorch would take the batch size for a constant.
        program = torch.onnx.export(
            whole,
            (example(whole, 2),),
            dynamo=True,
            verbose=False,
            input_names=[IMAGES],
            output_names=[LOGITS, PROBABILITIES],
            dynamic_shapes=({0: "batch"},),
        )
        assert program is not None, "it is only None where PyTorch writes the file"
        _remove_traces(program.model)
        program.model.metadata_props.update(entries)
        program.save(str(file), external_data=False)
    shutil.copy(SCRIPT, file.with_name(SCRIPT.name))


def write_torchscript(whole: WholeNetwork, entries: Mapping[str, str], file: Path) -> None:
    """Write one file that contains the network, its tensors and these entries.

    Raises PyTorch's errors for a network that cannot be traced, and OSError.
    """
    with quiet(), torch.no_grad():
        # The result is compared with the network later, on batches of several sizes.
        script = torch.jit.trace(whole, (example(whole, 2),), check_trace=False)
        # Given a path, PyTorch ends the process if the disk is full.
        content = io.BytesIO()
        torch.jit.save(script, content, _extra_files=dict(entries))
    file.write_bytes(content.getbuffer())


def write_folder(trained: TrainedModel, framing: Framing, folder: Path) -> None:
    """Write a model folder that also loads as timm.create_model("local-dir:FOLDER", pretrained=True).

    The config of the model must say save_weights=whole.
    """
    model_folder.save(folder, trained.network, trained.description)
    file = folder / model_folder.DESCRIPTION
    ours = json.loads(file.read_text(encoding="utf-8"))
    # The models of timm have attributes that nn.Module's type does not declare.
    network: Any = trained.network
    channels = network.pretrained_cfg["input_size"][0]
    size: dict[str, Any] = {"input_size": (channels, framing.size, framing.size), "test_input_size": None}
    shown = {"interpolation": framing.interpolation, "crop_mode": CROP_MODES[framing.resize]}
    crop = {"crop_pct": framing.crop_fraction if framing.resize == "crop" else 1.0, "test_crop_pct": None}
    fixed = network.pretrained_cfg.get("fixed_input_size", False)
    save_config_for_hf(
        network,
        str(file),
        {"pretrained_cfg": size | shown | crop, "label_names": trained.description.class_names},
        trained.description.config.model_arguments | ({"img_size": framing.size} if fixed else {}),
    )
    both = json.loads(file.read_text(encoding="utf-8")) | ours
    file.write_text(json.dumps(both, indent=2), encoding="utf-8")


def load(form: str, file: Path, batch_size: int | None = None) -> exported_network.ExportedModel:
    """What has been written, loaded again on the CPU. file: of the network; of a model folder its tensors."""
    if form != "safetensors":
        return exported_network.load(file, batch_size, on_gpu=False)
    trained = model_folder.load(file.parent)
    framing = Framing(trained.description.config.image_size)
    size = batch_size or exported_network.BATCH_SIZE
    network = exported_network.ModuleNetwork(WholeNetwork(trained), size)
    return exported_network.ExportedModel(network, trained.description, framing)


def example(whole: WholeNetwork, count: int) -> Tensor:
    """Random uint8 images (count, 3, size, size), always the same ones."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(
        256, (count, 3, whole.image_size, whole.image_size), generator=generator, dtype=torch.uint8
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the warnings and log lines of the exporters; errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _remove_traces(model: Any) -> None:
    """Remove the lines of source that the exporter adds to each node: they name folders of this machine."""
    import onnx_ir

    model.graph.metadata_props.clear()
    for graph in (model.graph, *model.functions.values()):
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            node.metadata_props.clear()
