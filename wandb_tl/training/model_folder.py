"""A trained model as a folder: the tensors that the run has trained, and what is needed to use them.

model.safetensors has the tensors that cannot be had elsewhere. config.json has the hyperparameters, the names
of the classes, how pictures are shown, and a digest of all other tensors: those come from where the run took
its pretrained weights, and must be the same ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.pictures.colours import GreyLevels
from wandb_tl.training import digests, models
from wandb_tl.training.datasets import Dataset

TENSORS, DESCRIPTION = "model.safetensors", "config.json"
# Increased whenever an earlier version of this package would misread the folder.
FORMAT = 1


@dataclass(frozen=True)
class TrainedModel:
    """A model that classifies.

    network: in eval mode, on the CPU. class_names: by class index. levels: how deep grey pictures are shown.
    precision: of the forward pass in the run: fp32, bf16 or fp16; auto if the folder does not say.
    test_pictures: the digest of the names of the run's test pictures; "" if they have none.
    """

    network: nn.Module
    config: RunConfig
    class_names: list[str]
    levels: GreyLevels
    precision: str
    test_pictures: str = ""


def trained_tensors(model: nn.Module, config: RunConfig) -> dict[str, Tensor]:
    """The tensors that cannot be had elsewhere: all of a model with random weights, else what has trained.

    BatchNorm statistics count as trained unless they are those of the pretrained weights.
    """
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not config.pretrained:
        trained.update(model.state_dict())
    for module_name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if config.norm_in_effect != "source" or any(parameter.requires_grad for parameter in own):
            trained.update(f"{module_name}.{name}" for name, _ in module.named_buffers(recurse=False))
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name in trained}


def save(
    folder: Path,
    model: nn.Module,
    config: RunConfig,
    data: Dataset,
    precision: str,
    accuracies: Mapping[str, float],
) -> dict[str, Any]:
    """Write the model into a folder, whole or not at all, and return the content of its config.json.

    A folder of this name is replaced. precision: fp32, bf16 or fp16. accuracies: in per cent, by the keys
    "test_accuracy" and "val_accuracy". InputError if the folder cannot be written.
    """
    tensors = trained_tensors(model, config)
    description = {
        "format": FORMAT,
        "config": config.as_dict(),
        "class_names": data.class_names,
        "grey_levels": dataclasses.asdict(data.levels),
        "precision": precision,
        "trunk_digest": _trunk_digest(model, tensors),
        "test_pictures": names_digest(data.test.names),
        **accuracies,
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            save_file(tensors, new / TENSORS)
            (new / DESCRIPTION).write_text(json.dumps(description, indent=2), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(temporary, "old"))
            new.rename(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: the model cannot be written ({one_line(error)})") from error
    return description


def load(folder: Path) -> TrainedModel:
    """The model of a folder. The tensors that it does not have are loaded from their original source.

    InputError if the folder cannot be read, if its two files do not match, or if the original source has
    other weights than the run had.
    """
    description = _read_description(folder)
    config = RunConfig.from_mapping(description["config"])
    names: list[str] = description["class_names"]
    network = models.build(config, len(names))
    try:
        tensors = load_file(folder / TENSORS)
        mismatch = network.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder / TENSORS}: cannot be read ({one_line(error)[:200]})") from error
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    if wrong := [*mismatch.unexpected_keys, *sorted(trainable & set(mismatch.missing_keys))]:
        raise InputError(f"{folder}: {TENSORS} does not match {DESCRIPTION} ({wrong[0]})")
    # Artifacts of earlier versions have no digest.
    if description.get("trunk_digest", "") not in ("", _trunk_digest(network, tensors)):
        raise InputError(f"{folder}: {_other_weights(config)}")
    levels = {name: (pair[0], pair[1]) for name, pair in description.get("grey_levels", {}).items()}
    return TrainedModel(
        network=network.eval(),
        config=config,
        class_names=names,
        levels=GreyLevels(**levels),
        precision=description.get("precision", config.precision),
        test_pictures=description.get("test_pictures", ""),
    )


def names_digest(names: Iterable[str]) -> str:
    """A digest of the names of pictures, in any order; "" without names."""
    ordered = sorted(names)
    return hashlib.sha256("\n".join(ordered).encode()).hexdigest() if ordered else ""


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        is_model = {"config", "class_names"} <= set(description)
        written = int(description.get("format", FORMAT)) if is_model else FORMAT
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; takes a folder with a trained model") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is damaged ({one_line(error)})") from error
    if not is_model:
        raise InputError(f"{file}: does not describe a model of this package")
    if written > FORMAT:
        raise InputError(f"{folder}: was written by a later version of this package; update it")
    return description


def _trunk_digest(model: nn.Module, saved: Mapping[str, Tensor]) -> str:
    """The digest of the tensors that are not saved; "" if all are."""
    others = {name: tensor for name, tensor in model.state_dict().items() if name not in saved}
    return digests.tensors_digest(others) if others else ""


def _other_weights(config: RunConfig) -> str:
    if config.weights_file:
        return (
            f"{config.weights_file} has other weights now than when the model was trained; "
            "put the earlier file back"
        )
    return (
        f"the pretrained weights of {config.model_name} on this machine are not those that the model was "
        "trained on; take them from where the run took them"
    )
