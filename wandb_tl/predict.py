"""python -m wandb_tl.predict: classify pictures with a trained model. load_model does it in Python."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wandb_tl.command_line import Command
from wandb_tl.errors import ExitCode, UsageError
from wandb_tl.predicting.rows import FORMATS, rows
from wandb_tl.sweeping import embedded_server

if TYPE_CHECKING:
    from wandb_tl.predicting.classifier import Classifier, Prediction
    from wandb_tl.predicting.rows import Rows
    from wandb_tl.predicting.scores import Scores
    from wandb_tl.predicting.targets import Target

TOP_K = 3


def load_model(source: str | Path, batch_size: int | None = None) -> Classifier:
    """The model of a run, of the best run of a sweep, of an artifact or of a folder, ready to classify.

    source: ENTITY/PROJECT/RUN, ENTITY/PROJECT/SWEEP, the address of either's page,
    ENTITY/PROJECT/NAME:ALIAS, or the path of a model folder. batch_size: pictures per forward pass; by
    default as in the run. It computes on a GPU if there is one. InputError if there is no such model, or if
    its pretrained weights cannot be loaded or have changed.
    """
    from wandb_tl.predicting import sources
    from wandb_tl.predicting.classifier import Classifier
    from wandb_tl.training import model_folder

    folder = sources.find(str(source), say)
    return Classifier(model_folder.load(folder), batch_size=batch_size)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="the model: a run (ENTITY/PROJECT/RUN), the best run of a sweep (ENTITY/PROJECT/SWEEP), the "
        "address of either's page, an artifact (ENTITY/PROJECT/NAME:ALIAS), or a model folder",
    )
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURE|FOLDER|LABEL_FILE|-",
        help="files of pictures; folders, with all pictures in them; .csv or .jsonl files of paths and "
        "labels; - reads one picture from stdin",
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="read the model from the embedded server of this machine, which is started if it is not running",
    )
    parser.add_argument("--root", help="folder of the embedded server, as in run_sweep")
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


def run(options: argparse.Namespace) -> int:
    """Print a prediction for each picture. FAILED if none of them can be read."""
    top_k = positive(options.top_k, "--top_k")
    batch_size = positive(options.batch_size, "--batch_size") if options.batch_size is not None else None
    # Bad input is refused before the libraries are loaded.
    from wandb_tl.predicting import sources

    sources.parse(options.model)
    for place in options.pictures:
        if place != "-" and not Path(place).expanduser().exists():
            raise UsageError(f"{place}: there is no such file or folder")
    if options.pictures.count("-") > 1:
        raise UsageError("-: stdin is one picture, and can be named once")

    from wandb_tl.predicting import targets

    with contextlib.ExitStack() as stack:
        if options.local:
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # wandb reads them when it is imported.
            os.environ.update(stack.enter_context(embedded_server.serving(options.root, logs)))
        model = load_model(options.model, batch_size)
    chosen = targets.collect(options.pictures, model.trained)
    for note in chosen.notes:
        say(note)
    form = rows(options.format, chosen.pictures, model.class_names, top_k)
    scores, readable = print_rows(model, chosen.pictures, form, options.format == "table")
    if scores.counts:
        print(f"\n{scores.text()}", file=sys.stdout if options.format == "table" else sys.stderr)
    return ExitCode.OK if readable else ExitCode.FAILED


def print_rows(model: Classifier, pictures: list[Target], form: Rows, is_table: bool) -> tuple[Scores, int]:
    """Print a line per picture. Returns the scores of those with known classes, and how many are readable."""
    from wandb_tl.predicting.scores import Scores

    scores, readable = Scores(), 0
    lines: list[str] = []
    first = form.first()
    # A table waits for the end, so that it does not mix with the progress bar.
    show: Any = lines.append if is_table else print
    if first is not None:
        show(first)
    for target, prediction in zip(pictures, predictions(model, pictures, is_table), strict=True):
        show(form.line(target, prediction))
        readable += not prediction.problem
        if target.actual is not None:
            scores.add(target.actual, prediction)
    for line in lines:
        print(line)
    return scores, readable


def predictions(model: Classifier, pictures: list[Target], is_table: bool) -> Iterator[Prediction]:
    """The predictions of the pictures, with a progress bar on a terminal if there are several batches."""
    from tqdm import tqdm

    results = model.predict([one.picture for one in pictures], [one.name for one in pictures])
    hidden = len(pictures) <= model.batch_size or (not is_table and sys.stdout.isatty())
    return iter(
        tqdm(results, "pictures", len(pictures), unit="img", leave=False, disable=True if hidden else None)
    )


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
    summary="classify pictures with a trained model",
    description="Classify pictures with the model of a run, of the best run of a sweep, or of a folder. For "
    "pictures in one folder per class of the model, it also prints the accuracy.",
    epilog="A run is read from the server that wandb is logged in to, or $WANDB_BASE_URL with "
    "$WANDB_API_KEY; with --local, from the embedded server. A picture that cannot "
    "be read is a row with the reason; the exit code is 1 only if that is so for all of them.",
    add_arguments=add_arguments,
    run=run,
)

if __name__ == "__main__":
    COMMAND.start()
