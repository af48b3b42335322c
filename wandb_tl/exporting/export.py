"""Exports a trained model: writes it in one format, loads it again, compares, and adds its model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from wandb_tl.errors import InputError, one_line
from wandb_tl.exporting import agreement, formats, model_card
from wandb_tl.exporting.agreement import Comparison
from wandb_tl.exporting.whole_network import WholeNetwork
from wandb_tl.pictures.framing import Framing
from wandb_tl.predicting import exported_network
from wandb_tl.predicting.classifier import Classifier, Prediction
from wandb_tl.predicting.sources import EXPORTED_FILES
from wandb_tl.predicting.targets import Target
from wandb_tl.training import devices
from wandb_tl.training.model_description import ModelDescription
from wandb_tl.training.model_folder import TrainedModel

# How data_dir begins if it names an artifact instead of a path.
ARTIFACT = "artifact:"


@dataclass(frozen=True)
class Export:
    """A model that has been exported.

    path: what predict takes, a file or a folder. folder: where the model card is. bytes: of the network's
    file. difference: the largest one of a probability to the trained network in fp32. milliseconds: the
    shortest ones per picture on this CPU, by batch size. predictions: of the pictures that were compared
    besides random images.
    """

    path: Path
    folder: Path
    bytes: int
    difference: float
    milliseconds: dict[int, float]
    predictions: list[Prediction]

    def text(self) -> str:
        """What was written, how well it agrees and how fast it is, in lines."""
        sizes = " and ".join(str(size) for size in agreement.BATCH_SIZES)
        readable = sum(not prediction.problem for prediction in self.predictions)
        pictures = f" and on {readable:,} pictures" if readable else ""
        times = ", ".join(f"{value:.1f} ms in batches of {n}" for n, value in self.milliseconds.items())
        return (
            f"Exported: {self.path} ({self.bytes / 1e6:.1f} MB), with its model card "
            f"{self.folder / 'README.md'}\n"
            f"Probabilities differ by at most {self.difference:.1e} from the trained network in fp32, on "
            f"random images in batches of {sizes}{pictures}.\n"
            f"Shortest time per picture on {devices.device_name(torch.device('cpu'))}: {times}"
        )


def export(
    trained: TrainedModel,
    framing: Framing,
    name: str,
    form: str,
    folder: Path,
    pictures: Sequence[Target] = (),
    batch_size: int | None = None,
) -> Export:
    """Write a model into a folder in a format, one of EXPORTED_FILES.

    name: of the model in its card. pictures: are classified by the exported file in batches of batch_size,
    and compared as well. Files of the same names are replaced, others stay. InputError if the model cannot
    be exported in this format, if the exported file gives other probabilities, or if the folder cannot be
    written; then the folder is unchanged.
    """
    description = _of_export(trained.description)
    trained = TrainedModel(trained.network, description)
    whole = WholeNetwork(trained)
    try:
        existing = next(parent for parent in folder.absolute().parents if parent.is_dir())
        with TemporaryDirectory(dir=existing, prefix=".wandb_tl-export-") as temporary:
            new = Path(temporary, "new")
            file = new / EXPORTED_FILES[form]
            _write(whole, trained, framing, form, file)
            exported = formats.load(form, file, batch_size)
            try:
                predictions, difference = _compare(exported, whole, framing, pictures)
                if form == "safetensors":
                    agreement.check_timm_folder(str(new), whole)
            except InputError as error:
                raise InputError(f"--export {form}: {error}; nothing has been written") from error
            milliseconds = agreement.milliseconds_per_image(exported.network, whole)
            size = file.stat().st_size
            # Windows does not move files that are open.
            del exported
            present = [one for one in EXPORTED_FILES if one == form or _has(folder, one, description)]
            card = model_card.text(name, description, framing, present)
            (new / "README.md").write_text(card, encoding="utf-8")
            folder.mkdir(parents=True, exist_ok=True)
            for part in new.iterdir():
                part.replace(folder / part.name)
    except OSError as error:
        raise InputError(
            f"--out: {folder} cannot be written ({error.strerror or one_line(error)})"
        ) from error
    path = folder if form == "safetensors" else folder / file.name
    return Export(path, folder, size, difference, milliseconds, predictions)


def _has(folder: Path, form: str, description: ModelDescription) -> bool:
    """Whether a folder has a file in a format that an earlier export of the same model has written."""
    file = folder / EXPORTED_FILES[form]
    try:
        return file.exists() and formats.load(form, file).description == description
    except InputError:
        return False


def _of_export(description: ModelDescription) -> ModelDescription:
    """The description of an exported model: all tensors in fp32, and no paths of this machine."""
    config = description.config
    data_dir = config.data_dir if config.data_dir.startswith(ARTIFACT) else Path(config.data_dir).name
    weights_file = config.weights_file if config.weights_artifact else Path(config.weights_file).name
    config = dataclasses.replace(config, save_weights="whole", data_dir=data_dir, weights_file=weights_file)
    return dataclasses.replace(description, config=config, precision="fp32", trunk_digest="")


def _write(whole: WholeNetwork, trained: TrainedModel, framing: Framing, form: str, file: Path) -> None:
    """Write the network's file, and what belongs beside it. InputError if the model cannot be exported."""
    try:
        if form == "safetensors":
            formats.write_folder(trained, framing, file.parent)
            return
        file.parent.mkdir()
        entries = exported_network.metadata(trained.description, framing)
        write = formats.write_onnx if form == "onnx" else formats.write_torchscript
        write(whole, entries, file)
    except (InputError, OSError):
        raise
    except Exception as error:
        # PyTorch's exporters raise almost every exception there is; the first one in the chain is the reason.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        name = trained.description.config.model_name
        raise InputError(f"--export {form}: {name} cannot be exported ({one_line(cause)[:200]})") from error


def _compare(
    exported: exported_network.ExportedModel,
    whole: WholeNetwork,
    framing: Framing,
    pictures: Sequence[Target],
) -> tuple[list[Prediction], float]:
    """Predictions of the exported network, and its largest difference. InputError if it is too large."""
    comparison = Comparison(exported.network, whole)
    comparison.try_random_images()
    classifier = Classifier(comparison, exported.description, framing)
    names = [target.name for target in pictures]
    predictions = list(classifier.predict([target.picture for target in pictures], names))
    comparison.require()
    return predictions, comparison.largest
