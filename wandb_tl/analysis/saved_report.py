"""The runs of a report, read from its folder: no server is needed to write the report again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from wandb_tl.analysis import server_data, table_texts
from wandb_tl.analysis.proportions import McNemar
from wandb_tl.analysis.report_folder import DEFINITION, FILE_OF_MEDIA
from wandb_tl.analysis.results import NUMBERS, TEXTS
from wandb_tl.analysis.runs_by_recipe import METRIC
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.errors import InputError, one_line


class SavedReport:
    """The runs in the results.csv of a report. InputError if the file cannot be read or has no runs.

    path: ENTITY/PROJECT[/SWEEP], as the report's README.md names it, else the path of the file. The figures
    of a run are those that the report already has of it; predictions are not in a report.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        page = file.with_name("README.md")
        try:
            self._page = page.read_text(encoding="utf-8") if page.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{page}: {one_line(error)}") from error
        title = re.match(r"# Results of `(\S+)`\n", self._page)
        self.path = title[1] if title else str(file)

    @property
    def flags(self) -> list[str]:
        """The flags with which the commands of the report use the server of its runs."""
        command = re.search(r"^python -m wandb_tl\.predict \S+ PICTURES (.+)$", self._page, re.MULTILINE)
        return shlex.split(command[1]) if command else []

    def frame(self) -> pd.DataFrame:
        """The runs, as results.Results.frame() gives them; newer hyperparameters have their defaults.

        `attrs["columns"]` names the columns that the file has; the definition of a search is in attrs, too.
        """
        texts: dict[str, Any] = {name: str for name, spec in FIELDS.items() if isinstance(spec.default, str)}
        try:
            frame = table_texts.without_apostrophes(
                pd.read_csv(self._file, dtype=texts | {"id": str, "name": str})
            )
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(f"{self._file}: {one_line(error)}") from error
        if missing := {"id", "name", "test_accuracy", *TEXTS} - set(frame):
            columns = ", ".join(sorted(missing))
            raise InputError(f"{self._file}: is not the results.csv of a report; it has no {columns}")
        frame = frame.drop(columns="row", errors="ignore")
        recorded = list(frame)
        for name, spec in FIELDS.items():
            if name not in frame:
                frame[name] = pd.Series(spec.default, index=frame.index)
            elif name in texts:
                # An empty column is one of numbers.
                frame[name] = frame[name].astype(object).fillna("")
        absent = [name for name in NUMBERS if name not in frame]
        frame = frame.assign(**dict.fromkeys(absent, float("nan")))
        self._check(frame)
        for name in (*TEXTS, "id", "name"):
            frame[name] = frame[name].map(server_data.text)
        for name in NUMBERS:
            frame[name] = frame[name].map(server_data.number).astype(float)
        frame[METRIC] = frame[METRIC].map(server_data.percentage)
        frame.attrs["columns"] = recorded
        frame.attrs |= self._definition()
        return frame

    def _check(self, frame: pd.DataFrame) -> None:
        """InputError for a run whose hyperparameters cannot be those of a run."""
        for place, row in enumerate(frame[list(FIELDS)].to_dict("records"), 1):
            try:
                RunConfig.from_mapping({str(name): value for name, value in row.items()})
            except InputError as error:
                raise InputError(f"{self._file}: run {place}: {one_line(error)}") from error

    def _definition(self) -> dict[str, Any]:
        """What the report has of the definition of a search."""
        file = self._file.with_name("search.yaml")
        if not file.exists():
            return {}
        try:
            definition = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InputError(f"{file}: {one_line(error)}") from error
        if not isinstance(definition, dict) or not isinstance(definition.get("parameters", {}), dict):
            raise InputError(f"{file}: is not the definition of a search, as a report has it")
        # A report has the name of the metric alone.
        checked = server_data.definition(definition | {"metric": {"name": definition.get("metric")}})
        checked["metric"] = checked.get("metric", {}).get("name")
        left_out, copies = definition.get("left_out"), definition.get("copies")
        counts = left_out.items() if isinstance(left_out, dict) else ()
        checked["left_out"] = {server_data.text(state): n for state, n in counts if isinstance(n, int)}
        checked["copies"] = copies if isinstance(copies, int) else 0
        return {key: checked[key] for key in DEFINITION if checked.get(key)}

    def media(self, run_id: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The figures that the report has of its best and its worst run, by media key."""
        pictures = {}
        is_worst = f"run `{run_id}`)." in self._page.partition("and of the worst (right: ")[2]
        is_best = f"(the best of row 1, run `{run_id}`)" in self._page
        for key in keys:
            name = "confusion_worst" if is_worst else FILE_OF_MEDIA.get(key) if is_best else None
            file = self._file.parent / "figures" / f"{name}.png"
            if name and file.exists():
                pictures[key] = file.read_bytes()
        return pictures

    def image_by_image(self, recipes: pd.DataFrame) -> McNemar | None:
        return None
