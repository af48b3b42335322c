"""Where a trained model comes from: a folder, a run, the best run of a sweep, or an artifact."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wandb_tl.errors import InputError

if TYPE_CHECKING:
    from wandb_tl.analysis.results import Results

TAKES = "a model folder, ENTITY/PROJECT/RUN, ENTITY/PROJECT/SWEEP or ENTITY/PROJECT/NAME:ALIAS"


class Kind(enum.Enum):
    """What the name of a model names."""

    FOLDER = enum.auto()
    RUN = enum.auto()
    SWEEP = enum.auto()
    RUN_OR_SWEEP = enum.auto()
    ARTIFACT = enum.auto()


@dataclass(frozen=True)
class Source:
    """A model by its name. path: of the folder, or ENTITY/PROJECT/… on the server."""

    kind: Kind
    path: str


def parse(name: str) -> Source:
    """What a name stands for, decided without the server. InputError if it cannot name a model."""
    is_address = name.startswith(("http://", "https://"))
    folder = Path(name).expanduser()
    # wandb leaves an empty folder with the name of a run behind when it reads the run.
    if not is_address and folder.is_dir() and any(folder.iterdir()):
        return Source(Kind.FOLDER, str(folder))
    if name.startswith((".", "~")) or folder.is_absolute() or folder.is_file():
        raise InputError(f"{name}: there is no such folder; takes {TAKES}")
    text = urlsplit(name).path if is_address else name.removeprefix("artifact:")
    parts = [part for part in text.split("/") if part]
    if len(parts) == 4 and parts[2] in ("runs", "sweeps"):
        kind = Kind.RUN if parts.pop(2) == "runs" else Kind.SWEEP
        return Source(kind, "/".join(parts))
    if len(parts) != 3:
        raise InputError(f"{name}: takes {TAKES}")
    is_artifact = ":" in parts[2] or text != name
    return Source(Kind.ARTIFACT if is_artifact else Kind.RUN_OR_SWEEP, "/".join(parts))


def find(name: str, say: Callable[[str], None]) -> Path:
    """The folder of a model, downloaded if it is on the server. InputError if there is no such model.

    say: prints which run of a sweep was chosen.
    """
    source = parse(name)
    if source.kind is Kind.FOLDER:
        return Path(source.path)
    from wandb_tl.analysis.results import Results
    from wandb_tl.training import tracking

    if source.kind is Kind.ARTIFACT:
        return tracking.download_model_named(source.path)
    if source.kind is Kind.SWEEP:
        return _of_run(_best_run(Results(source.path), say))
    try:
        return _of_run(source.path)
    except tracking.NoSuchRunError:
        if source.kind is Kind.RUN:
            raise
    try:
        results = Results(source.path)
    except InputError as error:
        raise InputError(
            f"{source.path}: there is no such run or sweep on the server; wandb sync uploads an offline run"
        ) from error
    return _of_run(_best_run(results, say))


def _of_run(path: str) -> Path:
    """The folder of the model that a run has logged."""
    from wandb_tl.training import tracking

    trained = tracking.read_run(path)
    if trained.model is None:
        raise InputError(f"{path}: the run has no model artifact; a run logs it when it has finished")
    return tracking.download_model(trained.model)


def _best_run(results: Results, say: Callable[[str], None]) -> str:
    """ENTITY/PROJECT/RUN_ID of the run that the report of a sweep names as its best one."""
    from wandb_tl.analysis.runs_by_recipe import RunsByRecipe, recipes

    frame = results.frame()
    best = str(recipes(frame)["best_run"][0])
    run = "/".join([*results.path.split("/")[:2], best])
    judge = RunsByRecipe(frame).judged_by.replace("_", " ")
    say(f"The best run of {results.path} by {judge}: {run} ({frame.set_index('id')['name'][best]})")
    return run
