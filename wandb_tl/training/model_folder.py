"""A trained model as a folder: model.safetensors has its tensors, config.json its description.

By default, model.safetensors has only the tensors that the run has trained. The others come from where the
run took its pretrained weights, and must be the same ones: config.json has their digest.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError, one_line
from wandb_tl.training import digests, models, weights_file
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.weights_file import WeightsFile

TENSORS, DESCRIPTION = "model.safetensors", "config.json"
# A million class names fit.
MOST_DESCRIPTION_BYTES = 32 * 2**20


@dataclass(frozen=True)
class TrainedModel:
    """A model that classifies. network: in eval mode; `load` gives it on the CPU."""

    network: nn.Module
    description: ModelDescription


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


def save(folder: Path, model: nn.Module, description: ModelDescription) -> ModelDescription:
    """Write the model into a folder, whole or not at all. Returns the description with its trunk digest.

    A folder of this name is replaced. The config's save_weights decides which tensors are in it. InputError
    if the folder cannot be written.
    """
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors = state if description.config.saves_whole_model else trained_tensors(model, description.config)
    description = dataclasses.replace(description, trunk_digest=_trunk_digest(model, tensors))
    with written_as_a_whole(folder) as new:
        save_file(_apart(tensors), new / TENSORS, {"format": "pt"})
        (new / DESCRIPTION).write_text(json.dumps(description.as_dict(), indent=2), encoding="utf-8")
    return description


@contextmanager
def written_as_a_whole(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` at the end of the block.

    After an exception, `folder` is as before. InputError if it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            new = Path(temporary, "new")
            new.mkdir()
            yield new
            if folder.exists():
                folder.rename(Path(temporary, "old"))
            new.rename(folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: the model cannot be written ({one_line(error)})") from error


def load(folder: Path) -> TrainedModel:
    """The model of a folder. The tensors that it does not have are loaded from their original source.

    InputError if the folder cannot be read, if its two files do not match, if the original source has other
    weights than the run had, or if the network is Python code that was handed over.
    """
    description = read_description(folder)
    config = description.config
    if config.is_own_model:
        raise InputError(
            f"{folder}: the model is a network of Python code that could not be traced; only that code can "
            f"load its tensors, {TENSORS}"
        )
    tensors = read_tensors(folder)
    classes = len(description.class_names)
    if not any(classes in tensor.shape for tensor in tensors.values()):
        # Before a classifier of any size is built.
        raise InputError(f"{folder}: {TENSORS} does not match {DESCRIPTION} ({classes:,} classes)")
    network = _untrained(tensors, description)
    try:
        mismatch = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise InputError(f"{folder / TENSORS}: cannot be read ({one_line(error)[:200]})") from error
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    if wrong := [*mismatch.unexpected_keys, *sorted(trainable & set(mismatch.missing_keys))]:
        raise InputError(f"{folder}: {TENSORS} does not match {DESCRIPTION} ({wrong[0]})")
    if not has_trunk_of(description, network, tensors):
        raise InputError(f"{folder}: {_other_weights(config)}")
    return TrainedModel(network.eval(), description)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors in the folder of a model, by name. InputError if they cannot be read."""
    try:
        return weights_file.read_safetensors(folder / TENSORS)
    except OSError as error:
        raise InputError(f"{folder / TENSORS}: cannot be read ({one_line(error)[:200]})") from error


def has_trunk_of(description: ModelDescription, network: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a network has the tensors of a described model that are not in its folder with `tensors`."""
    # Artifacts of earlier versions have no digest.
    return description.trunk_digest in ("", _trunk_digest(network, tensors))


def starting_weights(
    config: RunConfig, class_names: list[str], folder: Path | None = None
) -> WeightsFile | None:
    """The weights that weights_file names, of a file or a trained model; None if the run does not use it.

    A trained model keeps its classifier if its classes are `class_names`. folder: has the files of the
    artifact that weights_file names. InputError if the weights cannot be read or are of another model.
    """
    if not (config.pretrained and config.weights_file):
        return None
    if config.weights_artifact and folder is None:
        raise InputError(f"weights_file: the artifact {config.weights_artifact} is not downloaded here")
    path = folder or Path(config.weights_file).expanduser()
    place = path.parent if path.name == TENSORS else path
    if not _has_model(place):
        return weights_file.read(path)
    earlier = load(place)
    model_name = earlier.description.config.model_name
    if model_name != config.model_name:
        raise InputError(
            f"model_name: {config.weights_file} is a {model_name} and not a {config.model_name}; "
            f"use --model_name {model_name}"
        )
    has_classifier = earlier.description.class_names == class_names
    return WeightsFile(config.weights_file, {"": earlier.network.state_dict()}, has_classifier)


def _has_model(folder: Path) -> bool:
    """Whether a folder has a model of this package; other libraries write a config.json, too."""
    try:
        return b'"class_names"' in (folder / DESCRIPTION).read_bytes()
    except OSError:
        return False


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with copies of those that share their memory with an earlier one, as safetensors asks.

    Some models, such as those of the family coat, use one layer under several names.
    """
    places: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return apart


def read_description(folder: Path) -> ModelDescription:
    """The description of the model in a folder. InputError if there is none, or a damaged one."""
    file = folder / DESCRIPTION
    try:
        if file.stat().st_size > MOST_DESCRIPTION_BYTES:
            raise InputError(f"{file}: takes more than {MOST_DESCRIPTION_BYTES >> 20} MiB")
        return ModelDescription.from_json(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise InputError(f"{file}: {reason}; takes a folder with a trained model") from error


def _untrained(tensors: Mapping[str, Tensor], description: ModelDescription) -> nn.Module:
    """The network of a model folder with the tensors that the folder does not have."""
    config, classes = description.config, len(description.class_names)
    if description.trunk_digest or not config.pretrained:
        return models.build(config, classes, start=starting_weights(config, description.class_names))
    # Folders of earlier versions have no digest, and need the pretrained weights.
    random = dataclasses.replace(config, pretrained=False)
    network = models.build(random, classes)
    return network if set(network.state_dict()) <= set(tensors) else models.build(config, classes)


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
