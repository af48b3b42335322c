"""python -m wandb_tl.inspect_data: what is in a folder of pictures, and what is wrong with it."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_tl.command_line import Command, add_local_flags, shell_command
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.errors import ExitCode, InputError, UsageError
from wandb_tl.hyperparameters import allowed
from wandb_tl.sweeping import embedded_server

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

    from wandb_tl.analysis.label_errors import Doubt
    from wandb_tl.pictures.facts import Picture
    from wandb_tl.pictures.findings import Finding
    from wandb_tl.pictures.survey import Survey
    from wandb_tl.training.datasets import Dataset
    from wandb_tl.training.features import LabelledPictures
    from wandb_tl.training.tracking import TrainedRun

# The hyperparameters that hold pictures out, each with what its flag takes.
HELD_OUT = {"val_fraction": "FLOAT", "fold": "K/N", "test_fraction": "FLOAT"}
PAIRS_ON_SHEET, ERRORS_ON_SHEET, OUTLIERS_ON_SHEET = 30, 36, 12
# Rows of a W&B Table, each with its picture.
TABLE_ROWS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="PATH|ENTITY/PROJECT/RUN",
        help="a folder of pictures, a .csv or .jsonl file of paths and labels, or an artifact of pictures "
        "(artifact:ENTITY/PROJECT/NAME:ALIAS): files and duplicates; or a run of wandb_tl.train: likely "
        "label errors and outliers in its pictures",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write all findings into this file")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw the suspicious pictures into this file"
    )
    for name, value in HELD_OUT.items():
        spec = FIELDS[name]
        default = "none" if spec.default == "" else repr(spec.default)
        parser.add_argument(
            f"--{name}",
            metavar=value,
            help=f"{spec.metadata['why']} ({allowed(spec)}; default {default})",
        )
    parser.add_argument("--data_dir", metavar="PATH", help="where the pictures of the run are now")
    add_local_flags(parser, "read the run or the artifact from")


def run(options: argparse.Namespace) -> int:
    """Inspect a data set, or the data of a run. OK also if there is something wrong with it."""
    check(options)
    with embedded_server.selected(options.local, options.root):
        if is_run(options.target):
            inspect_run(options)
        else:
            inspect_pictures(options)
    return ExitCode.OK


def check(options: argparse.Namespace) -> None:
    """UsageError for options that do not fit together, before anything is read."""
    if is_run(options.target) and any(getattr(options, name) is not None for name in HELD_OUT):
        raise UsageError("--val_fraction, --fold and --test_fraction are for a PATH; a run has its own")
    if not is_run(options.target) and options.data_dir is not None:
        raise UsageError("--data_dir is for a run; a PATH is the data itself")
    if options.local and not is_run(options.target) and not options.target.startswith("artifact:"):
        raise UsageError(f"--local: {options.target} is a path, which needs no server")
    if options.sheet and options.sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet: {options.sheet} does not end with .png")
    for file in filter(None, (options.csv, options.sheet)):
        folder = file.absolute().parent
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)) or file.is_dir():
            raise UsageError(f"cannot write {file}")


def is_run(target: str) -> bool:
    """Whether the target names a run: an address, or three names that are not a path here."""
    if target.startswith(("http://", "https://")):
        return True
    if target.startswith(("artifact:", ".", "~")) or Path(target).is_absolute():
        return False
    # wandb leaves an empty folder of this name behind when it reads a run.
    is_empty = Path(target).is_dir() and not any(Path(target).iterdir())
    return len(target.split("/")) == 3 and (is_empty or not Path(target).exists())


def inspect_pictures(options: argparse.Namespace) -> None:
    """Print what a data set contains and what is wrong with it, and write the files that the options name."""
    held_out = {name: value for name in HELD_OUT if (value := getattr(options, name)) is not None}
    config = RunConfig(dataset="folder", data_dir=options.target, **held_out)
    # PyTorch and wandb take seconds to import.
    from wandb_tl.pictures import findings
    from wandb_tl.pictures.survey import paragraph
    from wandb_tl.training import tracking

    artifact = tracking.download_pictures(config)
    survey, by_kind = look(config, artifact.folder if artifact else None)
    print(paragraph(survey), findings.sizes(survey), sep="\n")
    everything = [finding for members in by_kind.values() for finding in members]
    print("\n" + (findings.text(by_kind) if by_kind else "Nothing is wrong with the files."))
    if options.csv:
        write(options.csv, lambda file: findings.write_csv(everything, file))
    if options.sheet:
        pairs = findings.pairs_to_look_at(by_kind)[:PAIRS_ON_SHEET]
        if pairs:
            write(options.sheet, figure_of_pairs(survey, pairs).savefig)
        else:
            print(f"No pictures are alike, so {options.sheet} is not written.")
    print(f"\n{next_step(options.target, held_out, not set(by_kind).isdisjoint(findings.SERIOUS))}")


def look(config: RunConfig, folder: Path | None) -> tuple[Survey, dict[str, list[Finding]]]:
    """The survey of a data set, and its findings by kind. Decodes each picture that is not in the cache.

    folder: where the pictures are, if data_dir names an artifact.
    """
    from wandb_tl.pictures import findings
    from wandb_tl.training import thumbnails
    from wandb_tl.training.datasets import ImageCache, survey_decodable

    store = ImageCache().store
    result, grey = survey_decodable(
        config, folder, lambda survey: thumbnails.of_pictures(pictures_of(survey), survey.levels, store)
    )
    return result, findings.find(result, grey)


def pictures_of(survey: Survey) -> list[Picture]:
    """The readable pictures of a data set, split by split."""
    return [picture for members in survey.different_splits.values() for picture in members]


def figure_of_pairs(survey: Survey, pairs: list[Finding]) -> Figure:
    """The contact sheet of findings that name two pictures."""
    from wandb_tl.figures import suspicious_pictures
    from wandb_tl.training import thumbnails

    def tile(picture: Picture, split: str) -> suspicious_pictures.Tile:
        pixels = thumbnails.square(picture, survey.levels, suspicious_pictures.SIDE)
        lines = picture.name, f"labelled {picture.label}", split
        return suspicious_pictures.Tile(suspicious_pictures.tensor(pixels), lines)

    return suspicious_pictures.pairs(
        [
            (tile(finding.picture, finding.splits[0]), tile(finding.other, finding.splits[1]))
            for finding in pairs
            if finding.other
        ],
        [finding.kind for finding in pairs if finding.other],
        f"{survey.root}: pictures that are equal or look alike",
    )


def next_step(target: str, held_out: dict[str, str], is_serious: bool) -> str:
    """What to do after the inspection of a data set. is_serious: whether its files have to be corrected."""
    if is_serious:
        command = shell_command("wandb_tl.inspect_data", target)
        return f"Correct the files, and look again: {command}"
    values = {"data_dir": target, **held_out}
    settings = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    return f"To train on it: {shell_command('wandb_tl.run_sweep', 'pictures', '--local', *settings)}"


def inspect_run(options: argparse.Namespace) -> None:
    """Print likely label errors and outliers in the data of a run, write files, and log them to W&B."""
    try:
        from wandb_tl.analysis import label_errors
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("cleanlab", "sklearn"):
            raise
        raise InputError(
            'label errors of a run need the package cleanlab: pip install "wandb-tl[inspect]", '
            "or uv run --extra inspect python -m wandb_tl.inspect_data"
        ) from error
    from wandb_tl.training import tracking

    trained = tracking.read_run(options.target)
    config, data = load_data(trained, options.data_dir)
    pictures = features_of(trained, config, data)
    result = label_errors.find(pictures.features, pictures.labels)
    names = [data.class_names[label] for label in pictures.labels]
    doubts = label_errors.doubts(result, pictures.files, pictures.splits, names, data.class_names)
    print("\n" + label_errors.text(doubts, len(names)))
    if options.csv:
        write(options.csv, lambda file: label_errors.write_csv(doubts, file))
    if not doubts:
        print("\nThere is nothing to draw or to log.")
        return
    sheet = figure_of_doubts(doubts, pictures, trained.name)
    if options.sheet:
        write(options.sheet, sheet.savefig)
    tables = tables_of_doubts(doubts, pictures)
    page = tracking.log_inspection(trained, config, tables, {"suspicious_pictures": sheet})
    if page and options.local:
        # The server may have stopped, and uses another port next time.
        page = shell_command("wandb_tl.local", *embedded_server.open_arguments(page, options.root))
    print(f"\nIn W&B: {page}" if page else "\nNot logged: WANDB_MODE is not online.")
    print("Look at the pictures, correct the labels that are wrong, and train again.")


def load_data(trained: TrainedRun, data_dir: str | None) -> tuple[RunConfig, Dataset]:
    """The data of a run as it is now, and the config that names it. InputError if it is not there.

    data_dir: where it is, if it has moved.
    """
    from wandb_tl.training import datasets, tracking

    config = trained.config
    if data_dir is not None and config.dataset != "folder":
        raise InputError(f"--data_dir: the run was trained on {config.dataset}, not on pictures of a folder")
    # The smallest batch, because there may be fewer pictures than the run had.
    config = dataclasses.replace(
        config, data_dir=data_dir or config.data_dir, on_bad_image="skip", batch_size=2
    )
    is_path = config.dataset == "folder" and not config.data_dir.startswith("artifact:")
    if is_path and not Path(config.data_dir).expanduser().exists():
        raise InputError(
            f"data_dir: {config.data_dir} of the run is not here; if it has moved, use --data_dir PATH"
        )
    artifact = tracking.download_pictures(config)
    data = datasets.load(config, folder=artifact.folder if artifact else None)
    if data.skipped:
        print(f"Pictures that cannot be read are left out: {data.skipped:,}.")
    for name, split in (("train_images", data.train), ("test_images", data.test)):
        before = trained.summary.get(name)
        if before is not None and int(before) != len(split):
            print(f"The data has changed: {name} was {int(before):,}, and is {len(split):,} now.")
    return config, data


def features_of(trained: TrainedRun, config: RunConfig, data: Dataset) -> LabelledPictures:
    """The pictures of the run, with the features that its model gives them."""
    from wandb_tl.training import devices, features, models

    device = devices.fastest()
    model = model_of(trained, config, data).to(device)
    return features.of_dataset(model, data, models.preprocess(model, config.image_size, device))


def model_of(trained: TrainedRun, config: RunConfig, data: Dataset) -> nn.Module:
    """The run's model; without its artifact, the model that it started from."""
    from wandb_tl.training import model_folder, models, tracking

    if trained.model:
        loaded = model_folder.load(tracking.download_model(trained.model))
        class_names = loaded.description.class_names
        if class_names != data.class_names:
            gone = sorted(set(class_names) - set(data.class_names))
            new = sorted(set(data.class_names) - set(class_names))
            print(
                f"The classes have changed: new {', '.join(new) or 'none'}; gone {', '.join(gone) or 'none'}."
            )
        return loaded.network
    if not config.pretrained:
        raise InputError(
            f"{trained.path}: has no model artifact, and random weights tell nothing about pictures"
        )
    print(f"{trained.path} has no model artifact: its pretrained weights are used.")
    start = model_folder.starting_weights(config, data.class_names)
    return models.build(config, len(data.class_names), start=start).eval()


def figure_of_doubts(doubts: list[Doubt], pictures: LabelledPictures, title: str) -> Figure:
    """The contact sheet of likely label errors and outliers."""
    from wandb_tl.figures import suspicious_pictures

    errors = [doubt for doubt in doubts if doubt.is_error][:ERRORS_ON_SHEET]
    outliers = [doubt for doubt in doubts if not doubt.is_error][:OUTLIERS_ON_SHEET]
    tiles = [
        suspicious_pictures.Tile(
            pictures.image(doubt.index), (doubt.file, f"labelled {doubt.label}", doubt.remark), important=2
        )
        for doubt in errors + outliers
    ]
    return suspicious_pictures.single(tiles, f"{title}: doubtful labels and outliers")


def tables_of_doubts(doubts: list[Doubt], pictures: LabelledPictures) -> dict[str, dict[str, list[Any]]]:
    """W&B Tables of likely label errors and outliers with their pictures, by media key."""
    from wandb_tl.analysis import label_errors

    tables = {}
    for key, is_error in (("label_errors", True), ("outliers", False)):
        members = [doubt for doubt in doubts if doubt.is_error == is_error][:TABLE_ROWS]
        columns = {name: [doubt.row[name] for doubt in members] for name in label_errors.COLUMNS}
        images = {"image": [pictures.image(doubt.index) for doubt in members]}
        if members:
            tables[key] = images | columns
    return tables


def write(file: Path, save: Any) -> None:
    """Write a file that an option names, and say so. InputError if that fails."""
    try:
        save(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    print(f"Written: {file}")


COMMAND = Command(
    name="inspect_data",
    summary="what is in a folder of pictures, and what is wrong with it",
    description="Describe a folder of pictures, and list unreadable files, pictures that are in two splits "
    "or have two labels, and pictures that look alike. With a run instead of a folder, list the likely label "
    "errors and the outliers in the data of that run, and log them to W&B.",
    epilog="A run is read from the server that wandb is logged in to, or $WANDB_BASE_URL with "
    "$WANDB_API_KEY; with --local, from the embedded server. Findings are not an error: the exit code is 0.",
    add_arguments=add_arguments,
    run=run,
)

if __name__ == "__main__":
    COMMAND.start()
