"""The runs of a sweep, read from the W&B API: their states, a pandas table of results, and their media."""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
import wandb
from wandb.apis.public import Run

from wandb_tl import wandb_process
from wandb_tl.analysis import formatting, pareto, proportions, server_data
from wandb_tl.config import EQUAL_TO, FIELDS, INSPECTION, RANKING, SOUP, RunConfig
from wandb_tl.errors import InputError, printable
from wandb_tl.hyperparameters import Value
from wandb_tl.run_states import ENDED, PENDING, RunState

# The summary of a finished run, except media.
NUMBERS = (
    "avg_train_loss",
    "avg_train_accuracy",
    "test_accuracy",
    "val/accuracy",
    "val/f1_macro",
    "test/loss",
    "test/f1_macro",
    "test/ece",
    "train_seconds",
    "preparation_seconds",
    "frozen_seconds",
    "images_per_second",
    "peak_memory_mb",
    "energy_wh",
    "train_images",
    "val_images",
    "test_images",
    "majority_share",
    "test_is_val",
    "skipped_images",
)
TEXTS = ("device", "precision_in_effect", "norm_in_effect")
# Of a figure or a table of a run that a report shows.
MEDIA_BYTES = 64 * 2**20


@dataclass(frozen=True)
class RunStatus:
    """The name and the state of a run."""

    name: str
    state: str

    @property
    def finished(self) -> bool:
        return self.state == RunState.FINISHED

    @property
    def pending(self) -> bool:
        return self.state == PENDING

    @property
    def stopped(self) -> bool:
        return self.state == RunState.KILLED

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    numbers: its summary by NUMBERS and the objectives of its sweep, NaN for a missing one. texts: by TEXTS.
    """

    id: str
    name: str
    config: RunConfig
    numbers: dict[str, float]
    texts: dict[str, str]

    @classmethod
    def of(cls, run: Run, objectives: Iterable[str] = ()) -> RunResult | None:
        """The result of a run; None if it has not finished, or is not a run of this package.

        objectives: the metrics that its sweep optimizes.
        """
        accuracy = server_data.percentage(run.summary.get("test_accuracy"))
        if run.state != RunState.FINISHED or math.isnan(accuracy):
            return None
        try:
            values = {name: run.config[name] for name in FIELDS if name in run.config}
            config = RunConfig.from_mapping(
                {name: printable(one) if isinstance(one, str) else one for name, one in values.items()}
            )
        except InputError:
            return None
        numbers = {name: server_data.number(run.summary.get(name)) for name in (*NUMBERS, *objectives)}
        texts = {name: server_data.text(run.summary.get(name)) for name in TEXTS}
        return cls(server_data.text(run.id), server_data.text(run.name), config, numbers, texts)

    def as_row(self) -> dict[str, Value]:
        """The run as a row of a table."""
        return {"id": self.id, "name": self.name, **self.config.as_dict(), **self.numbers, **self.texts}


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
        self._connect()

    def _connect(self) -> None:
        with self._errors_in_one_line():
            self._api = wandb.Api()
            self._sweep = self._api.sweep(self.path) if self._filters else None

    @property
    def url(self) -> str:
        """The address of the sweep's or the project's page."""
        with self._errors_in_one_line():
            page = self._sweep or self._api.project(self._project.split("/")[1], self._project.split("/")[0])
            return str(page.url)

    def expected_runs(self) -> int | None:
        """How many runs the sweep will have in total; None if that is unknown."""
        return self._sweep.expected_run_count if self._sweep else None

    def definition(self) -> dict[str, Any]:
        """The sweep's definition; empty for a project."""
        return server_data.definition(self._sweep.config) if self._sweep else {}

    def ends_early(self) -> bool:
        """Whether the sweep stops its worst runs early, as hyperband and the pruners of schedulers do."""
        definition = self.definition()
        return bool(definition.get("early_terminate") or definition.get("scheduler"))

    def statuses(self) -> dict[str, RunStatus]:
        """The current status of every run, by run id."""
        try:
            return self._statuses()
        except InputError as error:
            if not error.__cause__ or not wandb_process.is_gone(error.__cause__):
                raise
        # Its replacement.
        wandb_process.forget()
        self._connect()
        return self._statuses()

    def _statuses(self) -> dict[str, RunStatus]:
        with self._errors_in_one_line():
            self._api.flush()
            runs = server_data.bounded(self._api.runs(self._project, self._filters), self.path)
            return {
                server_data.text(run.id): RunStatus(server_data.text(run.name), server_data.text(run.state))
                for run in runs
            }

    def description(self, run_id: str) -> str:
        """What a run tries of what its sweep varies, and "86.24 % test accuracy".

        Its name if the sweep varies nothing that the run knows.
        """
        with self._errors_in_one_line():
            run = self._api.run(f"{self._project}/{run_id}")
            parameters = self.definition().get("parameters") or {}
            varied = [name for name, one in parameters.items() if "value" not in one and name in run.config]
            if self._sweep and not parameters:
                # A function chooses them.
                varied = [
                    name for name, one in FIELDS.items() if run.config.get(name, one.default) != one.default
                ]
            accuracy = server_data.percentage(run.summary.get("test_accuracy"))
            twin, name = server_data.text(run.summary.get(EQUAL_TO)), server_data.text(run.name)
        text = ", ".join(f"{name}={formatting.level(run.config[name])}" for name in varied) or name
        if math.isnan(accuracy):
            return printable(text)
        copy = f", the results of the equal run {twin}" if twin else ""
        return f"{printable(text)}: {accuracy:.2f} % test accuracy{copy}"

    def frame(self) -> pd.DataFrame:
        """One row per finished run: id, name, hyperparameters, NUMBERS and TEXTS; best test accuracy first.

        It reads config and summary only, in pages of runs; history would cost a request per run.
        Runs that have taken the results of an equal run are not in it; `attrs["copies"]` counts them.
        `attrs["left_out"]` counts the others that are not in it, by state; `attrs["metric"]` is the name of
        the metric that the sweep optimizes, `attrs["metrics"]` has several objectives with their goals,
        `attrs["method"]` is how it chooses hyperparameters, and `attrs["parameters"]` what it chooses them
        from; these are missing for a project. Objectives that are not among NUMBERS are columns too.
        """
        self._api.flush()
        with self._errors_in_one_line():
            # lazy=False: otherwise reading the config of each run is a request of its own.
            runs = [
                run
                for run in server_data.bounded(
                    self._api.runs(self._project, self._filters, lazy=False), self.path
                )
                if run.job_type not in (INSPECTION, RANKING, SOUP)
            ]
        # A copy whose original was deleted takes its place.
        ids = {run.id for run in runs}
        copies = {run.id for run in runs if server_data.text(run.summary.get(EQUAL_TO)) in ids}
        runs = [run for run in runs if run.id not in copies]
        aims = [one.name for one in pareto.objectives(self.definition())]
        results = [result for run in runs if (result := RunResult.of(run, aims)) is not None]
        if not results:
            counts = Counter(server_data.text(run.state) for run in runs)
            states = ", ".join(f"{count} {state}" for state, count in counts.items())
            raise InputError(f"{self.path}: no finished run of wandb_tl ({states or 'no runs at all'})")
        frame = pd.DataFrame([result.as_row() for result in results])
        frame = frame.sort_values(["test_accuracy", "name", "id"], ascending=[False, True, True])
        frame.attrs["copies"] = len(copies)
        left_out = Counter(server_data.text(run.state) for run in runs if run.id not in set(frame["id"]))
        frame.attrs["left_out"] = dict(sorted(left_out.items()))
        if self._sweep:
            definition = self.definition()
            frame.attrs["metric"] = (definition.get("metric") or {}).get("name")
            keys = ("method", "parameters", "metrics")
            frame.attrs |= {key: definition[key] for key in keys if key in definition}
        return frame.reset_index(drop=True)

    def media(self, run_id: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The files that a run last logged, by media key; keys that it has not logged are left out."""
        files = {}
        with self._errors_in_one_line(), tempfile.TemporaryDirectory() as folder:
            run = self._api.run(f"{self._project}/{run_id}")
            for key in keys:
                media = run.summary.get(key)
                # An object of a summary has a type of its own, which is no mapping.
                path = server_data.text(media.get("path")) if hasattr(media, "get") else ""
                if not path:
                    continue
                # Untrusted: anyone who may write to the run can set this path.
                file = Path(folder, path).resolve()
                if not file.is_relative_to(Path(folder).resolve()):
                    raise InputError(f"{self.path}: {key} of run {run_id} has a path outside the run")
                stored = run.file(path)
                if stored.name != path or stored.size > MEDIA_BYTES:
                    raise InputError(
                        f"{self.path}: {key} of run {run_id} is another file than it says, or larger than "
                        f"{MEDIA_BYTES >> 20} MiB"
                    )
                stored.download(root=folder)
                files[key] = file.read_bytes()
        return files

    def predictions(self, run_id: str) -> pd.DataFrame | None:
        """actual, predicted, confidence of test images, by number; None if the run has not logged them."""
        table = self.media(run_id, ["test_predictions"]).get("test_predictions")
        if table is None:
            return None
        try:
            content = json.loads(table)
            frame = pd.DataFrame(content["data"], columns=content["columns"])
            return frame.set_index("number")[["actual", "predicted", "confidence"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{self.path}: the predictions of run {run_id} are damaged") from error

    def image_by_image(self, recipes: pd.DataFrame) -> proportions.McNemar | None:
        """McNemar's test of the best runs of the two best recipes; None if they cannot be compared.

        recipes: runs_by_recipe.recipes() of the frame.
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
        except InputError:
            raise
        except wandb_process.REQUEST_ERRORS as error:
            raise InputError(f"{self.path}: {wandb_process.reason(error)}") from error


def results(path: str) -> pd.DataFrame:
    """The finished runs of a sweep or project, one row each, for notebooks.

    path: ENTITY/PROJECT/SWEEP, ENTITY/PROJECT, or the address of either's page. Columns: id, name, the
    hyperparameters, and the numbers of the summary: test_accuracy in per cent, train_seconds, … InputError if
    there are no finished runs, or W&B cannot be reached.
    """
    return Results(path).frame()
