"""Exported files as networks: model.onnx is computed by ONNX Runtime, model.pt by TorchScript.

Either file also has the labels of the model, its description and its framing, each as JSON. An exported file
is a program: load only files whose origin you trust. TorchScript runs no pickled Python code, but it can
read and write files.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures.framing import Framing
from wandb_tl.predicting.classifier import Network
from wandb_tl.predicting.sources import ONNX_SUFFIX
from wandb_tl.training.model_description import ModelDescription

# The names of the network's input and outputs, and of the entries in the metadata of the file.
IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
LABELS, DESCRIPTION, FRAMING = "labels", "description", "framing"

# Images per forward pass; of small batches, the intermediate results stay in a CPU's caches.
BATCH_SIZE = 64
# On a GPU, ONNX Runtime rounds to 10 bits by default, and the probabilities would differ from those of a CPU.
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})


class ExportedNetwork(Network, Protocol):
    """A network whose file has the normalisation and the temperature in it."""

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and calibrated probabilities (N, K) in float32 of uint8 images (N, 3, size, size)."""


@dataclass(frozen=True)
class ExportedModel:
    """What an exported file contains."""

    network: ExportedNetwork
    description: ModelDescription
    framing: Framing


class ModuleNetwork:
    """A network in PyTorch or TorchScript that gives logits and probabilities, computed on the CPU."""

    def __init__(self, module: torch.nn.Module, batch_size: int) -> None:
        self.module, self.batch_size = module, batch_size

    def __call__(self, images: Tensor) -> Tensor:
        return self.outputs(images)[0]

    @torch.inference_mode()
    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = self.module(images)
        return logits, probabilities


class OnnxNetwork:
    """A network in ONNX Runtime. session: an onnxruntime.InferenceSession."""

    def __init__(self, session: Any, batch_size: int) -> None:
        self.session, self.batch_size = session, batch_size

    def __call__(self, images: Tensor) -> Tensor:
        return self.outputs(images)[0]

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = self.session.run([LOGITS, PROBABILITIES], {IMAGES: images.numpy()})
        return torch.from_numpy(logits), torch.from_numpy(probabilities)


def metadata(description: ModelDescription, framing: Framing) -> dict[str, str]:
    """What an exported file contains besides the network: names and JSON documents."""
    values = {
        LABELS: description.class_names,
        DESCRIPTION: description.as_dict(),
        FRAMING: dataclasses.asdict(framing),
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}


def load(file: Path, batch_size: int | None = None, on_gpu: bool = True) -> ExportedModel:
    """The model in an exported file. InputError if it is damaged, or was not written by this package.

    batch_size: images per forward pass, BATCH_SIZE by default. on_gpu: compute an ONNX file on a GPU, if ONNX
    Runtime can; a TorchScript file computes on the CPU.
    """
    size = batch_size or BATCH_SIZE
    if file.suffix.lower() == ONNX_SUFFIX:
        network, entries = _load_onnx(file, size, on_gpu)
    else:
        network, entries = _load_torchscript(file, size)
    description, framing = _parse(entries, file)
    try:
        logits, _ = network.outputs(torch.zeros(1, 3, framing.size, framing.size, dtype=torch.uint8))
        classes = logits.shape[1]
    except Exception as error:
        # Both libraries raise errors of their own, without a common class.
        raise InputError(f"{file}: does not compute ({one_line(error)[:200]})") from error
    if classes != len(description.class_names):
        raise InputError(f"{file}: is damaged ({classes} outputs for {len(description.class_names)} labels)")
    return ExportedModel(network, description, framing)


def _load_onnx(file: Path, batch_size: int, on_gpu: bool) -> tuple[ExportedNetwork, Mapping[str, str]]:
    if importlib.util.find_spec("onnxruntime") is None:
        raise InputError(f"{file}: needs the package onnxruntime, which is in the extra export")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # 3 means errors only; they are raised as well.
    options.log_severity_level = 3
    has_gpu = on_gpu and CUDA[0] in onnxruntime.get_available_providers()
    providers = [*([CUDA] if has_gpu else []), "CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(file, options, providers=providers)
    except Exception as error:
        # ONNX Runtime's errors have no common class.
        raise InputError(f"{file}: cannot be read ({one_line(error)[:200]})") from error
    return OnnxNetwork(session, batch_size), session.get_modelmeta().custom_metadata_map


def _load_torchscript(file: Path, batch_size: int) -> tuple[ExportedNetwork, Mapping[str, str]]:
    entries: dict[str, Any] = {LABELS: "", DESCRIPTION: "", FRAMING: ""}
    try:
        with warnings.catch_warnings():
            # PyTorch announces that TorchScript will be removed one day.
            warnings.simplefilter("ignore")
            module = torch.jit.load(file, "cpu", _extra_files=entries)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{file}: cannot be read ({one_line(error)[:200]})") from error
    texts = {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in entries.items()
    }
    return ModuleNetwork(module, batch_size), texts


def _parse(entries: Mapping[str, str], file: Path) -> tuple[ModelDescription, Framing]:
    """The description and the framing in the metadata of a file."""
    if not entries.get(DESCRIPTION) or not entries.get(FRAMING):
        raise InputError(f"{file}: was not written by predict --export")
    description = ModelDescription.from_json(entries[DESCRIPTION], str(file))
    try:
        framing = Framing(**json.loads(entries[FRAMING]))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: is damaged ({one_line(error)[:200]})") from error
    return description, framing
