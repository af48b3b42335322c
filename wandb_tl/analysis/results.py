"""What a sweep found: its runs from the W&B API as a pandas table, and their images."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import wandb

from wandb_tl.analysis import proportions
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.errors import InputError, one_line

# What a finished run leaves in its summary, besides media.
NUMBERS = (
    "avg_train_loss",
    "avg_train_accuracy",
    "test_accuracy",
    "val/accuracy",
    "test/loss",
    "test/f1_macro",
    "test/ece",
    "train_seconds",
    "images_per_second",
    "peak_memory_mb",
    "energy_wh",
    "train_images",
    "test_images",
)
TEXTS = ("device", "precision_in_effect", "norm_in_effect")


class Results:
    """The runs of a project or of one sweep, on any W&B server.

    path: ENTITY/PROJECT, ENTITY/PROJECT/SWEEP, or the address of either's page. InputError if there is no
    such project or sweep, no key, or no server.
    """

    def __init__(self, path: str) -> None:
        parts = [part for part in urlsplit(path).path.split("/") if part not in ("", "sweeps")]
        if len(parts) not in (2, 3):
            raise InputError(f"{path}: takes ENTITY/PROJECT or ENTITY/PROJECT/SWEEP")
        self.path = "/".join(parts)
        self._project = "/".join(parts[:2])
        self._filters = {"sweep": parts[2]} if len(parts) == 3 else {}
        with self._errors_in_one_line():
            self._api = wandb.Api()
            self._sweep = self._api.sweep(self.path) if len(parts) == 3 else None

    def expected_runs(self) -> int | None:
        """How many runs the sweep will have in all; None where that is not known."""
        return self._sweep.expected_run_count if self._sweep else None

    def ends_early(self) -> bool:
        """Whether the sweep itself stops runs that are too bad to go on, as hyperband does."""
        return bool(self._sweep and self._sweep.config.get("early_terminate"))

    def states(self) -> dict[str, tuple[str, str]]:
        """State and name of every run, by run id, as of now."""
        self._api.flush()
        with self._errors_in_one_line():
            return {run.id: (run.state, run.name) for run in self._api.runs(self._project, self._filters)}

    def frame(self) -> pd.DataFrame:
        """One row a finished run: id, name, hyperparameters, summary numbers; best test accuracy first.

        It reads config and summary only, in pages of runs; history would cost a request a run.
        `attrs["left_out"]` counts the runs that are not in it, by state.
        """
        self._api.flush()
        with self._errors_in_one_line():
            # lazy=False: otherwise the first look at a run's config is a request of its own.
            runs = list(self._api.runs(self._project, self._filters, lazy=False))
        rows = [_row(run) for run in runs if run.state == "finished" and _is_ours(run)]
        if not rows:
            seen = ", ".join(f"{count} {state}" for state, count in Counter(r.state for r in runs).items())
            raise InputError(f"{self.path}: no finished run of wandb_tl ({seen or 'no runs at all'})")
        frame = pd.DataFrame(rows).sort_values(["test_accuracy", "name", "id"], ascending=[False, True, True])
        left_out = Counter(run.state for run in runs if run.id not in set(frame["id"]))
        frame.attrs["left_out"] = dict(sorted(left_out.items()))
        return frame.reset_index(drop=True)

    def media(self, run_id: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The files that a run last logged under these media keys, without those that it has not."""
        found = {}
        with self._errors_in_one_line(), tempfile.TemporaryDirectory() as folder:
            run = self._api.run(f"{self._project}/{run_id}")
            for key in keys:
                if (media := run.summary.get(key)) is None:
                    continue
                # Whoever may write to the run decides this path.
                file = Path(folder, media["path"]).resolve()
                if not file.is_relative_to(Path(folder).resolve()):
                    raise InputError(f"{self.path}: {key} of run {run_id} is at no place below a run")
                run.file(media["path"]).download(root=folder)
                found[key] = file.read_bytes()
        return found

    def predictions(self, run_id: str) -> pd.DataFrame | None:
        """actual, predicted, confidence of test images, by number; None if the run has not logged them."""
        table = self.media(run_id, ["test_predictions"]).get("test_predictions")
        if table is None:
            return None
        content = json.loads(table)
        return pd.DataFrame(content["data"], columns=content["columns"]).set_index("number")

    def image_by_image(self, recipes: pd.DataFrame) -> proportions.McNemar | None:
        """McNemar's test of the best runs of the two best recipes; None where they cannot be compared.

        recipes: effects.recipes() of the frame.
        """
        if len(recipes) < 2:
            return None
        first, second = (self.predictions(run) for run in recipes["best_run"].iloc[:2])
        if first is None or second is None or not first["actual"].equals(second["actual"]):
            return None
        return proportions.mcnemar(
            first["actual"] == first["predicted"], second["actual"] == second["predicted"]
        )

    @contextlib.contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except (wandb.Error, ValueError) as error:
            raise InputError(f"{self.path}: {one_line(error)}") from error


def _is_ours(run: wandb.apis.public.Run) -> bool:
    """Whether a run has a test accuracy, and hyperparameters that this package takes."""
    try:
        RunConfig.from_mapping({name: run.config[name] for name in FIELDS if name in run.config})
    except InputError:
        return False
    return run.summary.get("test_accuracy") is not None


def _row(run: wandb.apis.public.Run) -> dict:
    hyperparameters = {name: run.config.get(name, spec.default) for name, spec in FIELDS.items()}
    # A W&B server may give NaN as text, which float() reads.
    numbers = {name: float("nan" if (value := run.summary.get(name)) is None else value) for name in NUMBERS}
    texts = {name: run.summary.get(name, "") for name in TEXTS}
    return {"id": run.id, "name": run.name, **hyperparameters, **numbers, **texts}
