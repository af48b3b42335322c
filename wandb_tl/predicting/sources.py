"""Where a trained model comes from: a folder, a file, a run, the best run of a sweep, or an artifact."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from wandb_tl.errors import InputError

if TYPE_CHECKING:
    from wandb_tl.analysis.results import Results
    from wandb_tl.training.tracking import Artifact

TAKES = (
    "a model folder, ENTITY/PROJECT/RUN, ENTITY/PROJECT/SWEEP, ENTITY/PROJECT/NAME:ALIAS or an exported file"
)
# The formats of predict --export, and the file that has the network. The names in a model folder are those of
# training/model_folder.py, which loads PyTorch; a test compares them.
EXPORTED_FILES = {"onnx": "model.onnx", "torchscript": "model.pt", "safetensors": "model.safetensors"}
ONNX_SUFFIX, TORCHSCRIPT_SUFFIX = ".onnx", ".pt"
# The file that makes a folder a model folder.
DESCRIPTION = "config.json"


class Kind(enum.Enum):
    """What the name of a model names."""

    FOLDER = enum.auto()
    FILE = enum.auto()
    RUN = enum.auto()
    SWEEP = enum.auto()
    RUN_OR_SWEEP = enum.auto()
    ARTIFACT = enum.auto()


@dataclass(frozen=True)
class Source:
    """A model by its name. path: of the folder or file, or ENTITY/PROJECT/… on the server."""

    kind: Kind
    path: str

    @property
    def is_here(self) -> bool:
        """Whether the model is on this machine, not on a server."""
        return self.kind in (Kind.FOLDER, Kind.FILE)


@dataclass(frozen=True)
class LocalModel:
    """A trained model on this machine. path: of its folder or its exported file. name: of the run, mostly.

    The name is the id of the run for a model of a server, else the name of the folder.
    """

    path: Path
    name: str


def parse(name: str) -> Source:
    """What a name stands for, decided without the server. InputError if it cannot name a model."""
    is_address = name.startswith(("http://", "https://"))
    path = Path(name).expanduser()
    # wandb leaves an empty folder with the name of a run behind when it reads the run.
    if not is_address and path.is_dir() and any(path.iterdir()):
        return _folder(path)
    if path.suffix.lower() in (ONNX_SUFFIX, TORCHSCRIPT_SUFFIX) and not is_address:
        if path.is_file():
            return Source(Kind.FILE, str(path))
        raise InputError(f"{name}: there is no such file; predict --export writes one")
    if name.startswith((".", "~")) or path.is_absolute() or path.is_file():
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


def _folder(path: Path) -> Source:
    """The model folder, or the exported file in a folder that is none."""
    for form in ("onnx", "torchscript"):
        file = path / EXPORTED_FILES[form]
        if file.is_file() and not (path / DESCRIPTION).exists():
            return Source(Kind.FILE, str(file))
    return Source(Kind.FOLDER, str(path))


def find(name: str, say: Callable[[str], None]) -> LocalModel:
    """A model, downloaded if it is on the server. InputError if there is no such model.

    say: prints which run of a sweep was chosen.
    """
    source = parse(name)
    if source.is_here:
        path = Path(source.path)
        folder = path if source.kind is Kind.FOLDER else path.parent
        return LocalModel(path, folder.resolve().name)
    from wandb_tl.training import tracking

    artifact = find_artifact(source, say)
    # A network of Python code is an exported file there.
    place = _folder(tracking.download_model(artifact))
    return LocalModel(Path(place.path), run_id(artifact.name))


def run_id(artifact_name: str) -> str:
    """The id of the run that has logged the artifact model-RUN_ID:VERSION, or the name of another one.

    It is a valid name of a folder, whatever the server says.
    """
    name = artifact_name.partition(":")[0].removeprefix("model-")
    return re.sub(r"[^\w.=@+ -]+", "-", name).lstrip(".") or "model"


def find_artifact(source: Source, say: Callable[[str], None]) -> Artifact:
    """The artifact of a model on the server. InputError if there is none. say: as in `find`."""
    from wandb_tl.analysis.results import Results
    from wandb_tl.training import tracking

    if source.kind is Kind.ARTIFACT:
        return tracking.model_named(source.path)
    if source.kind is Kind.SWEEP:
        return _of_run(best_run(Results(source.path), say))
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
    return _of_run(best_run(results, say))


def _of_run(path: str) -> Artifact:
    """The model that a run has logged."""
    from wandb_tl.training import tracking

    trained = tracking.read_run(path)
    if trained.model is None:
        raise InputError(f"{path}: the run has no model artifact; a run logs it when it has finished")
    return trained.model


def best_run(results: Results, say: Callable[[str], None]) -> str:
    """ENTITY/PROJECT/RUN_ID of the run that the report of a sweep names as its best one."""
    from wandb_tl.analysis.answer import answer

    frame = results.frame()
    result = answer(frame, results.path)
    best, judge = result.winner.best_run, result.judged_by.replace("_", " ")
    run = "/".join([*results.path.split("/")[:2], best])
    say(f"The best run of {results.path} by {judge}: {run} ({frame.set_index('id')['name'][best]})")
    return run
