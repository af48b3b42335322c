"""python -m wandb_tl.predict: classify pictures with a trained model, export it. load_model is for Python."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_tl import loading
from wandb_tl.command_line import Command, add_local_flags, shell_command
from wandb_tl.errors import ExitCode, InputError, UsageError
from wandb_tl.predicting.rows import FORMATS, rows
from wandb_tl.predicting.sources import EXPORTED_FILES
from wandb_tl.sweeping import embedded_server

if TYPE_CHECKING:
    from wandb_tl.predicting.classifier import Classifier, Prediction
    from wandb_tl.predicting.rows import Rows
    from wandb_tl.predicting.targets import Target

TOP_K = 3
# Where exported models are, in the current folder.
EXPORTED = Path("exported")
# The registry of models that every organization of W&B has.
MODEL_REGISTRY = "wandb-registry-model"


def load_model(source: str | Path, batch_size: int | None = None) -> Classifier:
    """The model of a run, of the best run of a sweep, of an artifact, folder or file, ready to classify.

    source: ENTITY/PROJECT/RUN, ENTITY/PROJECT/SWEEP, the address of either's page,
    ENTITY/PROJECT/NAME:ALIAS, or the path of a model folder or an exported file. batch_size: pictures per
    forward pass; by default as in the run. It computes on a GPU if there is one, TorchScript on the CPU.
    InputError if there is no such model, or if its pretrained weights cannot be loaded or have changed.
    """
    from wandb_tl.predicting import sources
    from wandb_tl.predicting.classifier import Classifier

    path = sources.find(str(source), say).path
    if path.is_file():
        from wandb_tl.predicting import exported_network

        exported = exported_network.load(path, batch_size)
        return Classifier(exported.network, exported.description, exported.framing)
    from wandb_tl.predicting.run_network import RunNetwork, framing
    from wandb_tl.training import model_folder

    trained = model_folder.load(path)
    network = RunNetwork(trained, batch_size=batch_size)
    return Classifier(network, trained.description, framing(trained.description.config))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="the model: a run (ENTITY/PROJECT/RUN), the best run of a sweep (ENTITY/PROJECT/SWEEP), the "
        "address of either's page, an artifact (ENTITY/PROJECT/NAME:ALIAS), a model folder, or an exported "
        "file",
    )
    parser.add_argument(
        "pictures",
        nargs="*",
        metavar="PICTURE|FOLDER|LABEL_FILE|-",
        help="files of pictures; folders, with all pictures in them; .csv or .jsonl files of paths and "
        "labels; - reads one picture from stdin. They may be left out with --export and --link_model",
    )
    add_local_flags(parser, "read the model from")
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="json is one object per line (default table)"
    )
    parser.add_argument(
        "--top_k",
        default=str(TOP_K),
        metavar="INT",
        help=f"labels per picture, the most probable first (default {TOP_K})",
    )
    parser.add_argument(
        "--batch_size", metavar="INT", help="pictures per forward pass (default: as in the run)"
    )
    parser.add_argument(
        "--export",
        choices=tuple(EXPORTED_FILES),
        help="write the whole model for use without the run: preprocessing, labels, model card; safetensors "
        "is a folder that timm loads",
    )
    parser.add_argument(
        "--out", metavar="FOLDER", help=f"folder of the exported model (default {EXPORTED}/RUN_ID)"
    )
    parser.add_argument(
        "--link_model",
        metavar="COLLECTION",
        help="link the model's artifact to this collection of the W&B registry: NAME of the registry "
        f"{MODEL_REGISTRY}, or PROJECT/NAME",
    )


def run(options: argparse.Namespace) -> int:
    """Print a prediction for each picture, export or link the model. FAILED if no picture can be read."""
    check(options)
    top_k = positive(options.top_k, "--top_k")
    batch_size = positive(options.batch_size, "--batch_size") if options.batch_size is not None else None
    code = ExitCode.OK
    with embedded_server.selected(options.local, options.root):
        try:
            if options.export:
                code = export(options, top_k, batch_size)
            elif options.pictures:
                code = classify(options, top_k, batch_size)
            if options.link_model:
                link(options)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as head, needs no more. Python would flush stdout again when it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def check(options: argparse.Namespace) -> None:
    """UsageError or InputError for bad input, before the libraries are loaded."""
    from wandb_tl.predicting import sources

    source = sources.parse(options.model)
    if not (options.pictures or options.export or options.link_model):
        raise UsageError("names no pictures; takes files or folders of pictures, --export or --link_model")
    if options.out is not None and not options.export:
        raise UsageError("--out is for --export")
    if options.export and source.kind is sources.Kind.FILE:
        raise UsageError(
            f"--export: {options.model} is an exported file already; takes a run or model folder"
        )
    if options.link_model is not None:
        if source.is_here:
            raise UsageError(f"--link_model: {options.model} is not on a server; takes a run or a sweep")
        if not all(options.link_model.split("/")) or ":" in options.link_model:
            raise UsageError(f"--link_model: got {options.link_model!r}, takes NAME or PROJECT/NAME")
    for place in options.pictures:
        if place != "-" and not Path(place).expanduser().exists():
            raise UsageError(f"{place}: there is no such file or folder")
    if options.pictures.count("-") > 1:
        raise UsageError("-: stdin is one picture, and can be named once")


def classify(options: argparse.Namespace, top_k: int, batch_size: int | None) -> ExitCode:
    """Print a prediction for each picture. FAILED if none of them can be read."""
    from wandb_tl.predicting import targets

    model = load_model(options.model, batch_size)
    chosen = targets.collect(options.pictures, model.description)
    for note in chosen.notes:
        say(note)
    form = rows(options.format, chosen.pictures, model.class_names, top_k)
    return print_rows(
        predictions(model, chosen.pictures, options.format), chosen.pictures, form, options.format
    )


def export(options: argparse.Namespace, top_k: int, batch_size: int | None) -> ExitCode:
    """Export the model, and print predictions of the exported file for the pictures, if there are any."""
    if options.export == "onnx":
        from wandb_tl.exporting import packages

        packages.check()
    with loading.libraries():
        from wandb_tl.exporting import export as exporting
        from wandb_tl.predicting import sources, targets
        from wandb_tl.predicting.run_network import framing
        from wandb_tl.training import model_folder

    local = sources.find(options.model, say)
    if local.path.is_file():
        raise InputError(f"--export: the model of {options.model} is an exported file already, {local.path}")
    trained = model_folder.load(local.path)
    pictures = []
    if options.pictures:
        chosen = targets.collect(options.pictures, trained.description)
        pictures = chosen.pictures
        for note in chosen.notes:
            say(note)
    folder = Path(options.out).expanduser() if options.out else EXPORTED / local.name
    square = framing(trained.description.config)
    exported = exporting.export(trained, square, local.name, options.export, folder, pictures, batch_size)
    code = ExitCode.OK
    if pictures:
        form = rows(options.format, pictures, trained.description.class_names, top_k)
        code = print_rows(exported.predictions, pictures, form, options.format)
    command = shell_command("wandb_tl.predict", str(exported.path), "PICTURES")
    # stdout is the predictions, if there are any.
    tell = say if pictures else print
    tell(f"{exported.text()}\nTo classify pictures with it: {command}")
    return code


def link(options: argparse.Namespace) -> None:
    """Link the artifact of the model to a collection of the W&B registry."""
    from wandb_tl.predicting import sources
    from wandb_tl.training import tracking

    artifact = sources.find_artifact(sources.parse(options.model), say)
    name = options.link_model
    linked = tracking.link_model(artifact, name if "/" in name else f"{MODEL_REGISTRY}/{name}")
    place = linked.url
    if options.local:
        # The embedded server has no page for a registry, but one for each artifact, and may have stopped.
        root = ["--root", options.root] if options.root else []
        collection, _, version = linked.name.partition(":")
        page = f"{linked.entity}/{linked.project}/artifacts/{linked.type}/{collection}/{version}"
        place = f"/{page} on the pages of {shell_command('wandb_tl.local', 'open', *root)}"
    say(f"Linked: {artifact.qualified_name} is {linked.qualified_name} now, see {place}")


def print_rows(results: Iterable[Prediction], pictures: list[Target], form: Rows, output: str) -> ExitCode:
    """Print a line per picture, and the scores of those with known classes. FAILED if none is readable."""
    from wandb_tl.predicting.scores import Scores

    scores, readable = Scores(), 0
    is_table = output == "table"
    lines: list[str] = []
    first = form.first()
    # A table waits for the end, so that it does not mix with the progress bar.
    show: Any = lines.append if is_table else print
    if first is not None:
        show(first)
    for target, prediction in zip(pictures, results, strict=True):
        show(form.line(target, prediction))
        readable += not prediction.problem
        if target.actual is not None:
            scores.add(target.actual, prediction)
    for line in lines:
        print(line)
    if scores.counts:
        print(f"\n{scores.text()}", file=sys.stdout if is_table else sys.stderr)
    return ExitCode.OK if readable else ExitCode.FAILED


def predictions(model: Classifier, pictures: list[Target], output: str) -> Iterable[Prediction]:
    """The predictions of the pictures, with a progress bar on a terminal if there are several batches."""
    from wandb_tl.progress import tqdm

    results = model.predict([one.picture for one in pictures], [one.name for one in pictures])
    hidden = len(pictures) <= model.batch_size or (output != "table" and sys.stdout.isatty())
    progress: Iterable[Prediction] = tqdm(
        results, "pictures", len(pictures), unit="img", leave=False, disable=True if hidden else None
    )
    return progress


def positive(text: str, flag: str) -> int:
    """The value of a flag that takes a whole number of at least 1. UsageError for another one."""
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{flag}: got {text!r}, takes a whole number >= 1")
    return int(text)


def say(text: str) -> None:
    """Print to stderr, because stdout is the predictions."""
    print(text, file=sys.stderr, flush=True)


COMMAND = Command(
    name="predict",
    summary="classify pictures with a trained model; export it",
    description="Classify pictures with the model of a run, of the best run of a sweep, of a folder or of an "
    "exported file. For pictures in one folder per class of the model, it also prints the accuracy. --export "
    "writes the model for use elsewhere.",
    epilog="A run is read from the server that wandb is logged in to, or $WANDB_BASE_URL with "
    "$WANDB_API_KEY; with --local, from the embedded server. A picture that cannot "
    "be read is a row with the reason; the exit code is 1 only if that is so for all of them.",
    add_arguments=add_arguments,
    run=run,
)

if __name__ == "__main__":
    COMMAND.start()
