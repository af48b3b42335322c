"""A run as the pages show it, with its config and summary as flat values, and how values are written."""

from __future__ import annotations

import colorsys
import json
import time
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wandb_tl.local.records.json_path import JsonObject, finite, json_object, kept_object
from wandb_tl.local.records.rows import ProjectRow, RunRow, SqlValue
from wandb_tl.local.records.run_states import LIVE
from wandb_tl.local.records.transaction import Transaction

# People who cannot distinguish red from green can distinguish these, on light and on dark backgrounds.
COLORS = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#b07aa1",
    "#e15759",
    "#17a2b0",
    "#c9a227",
    "#9c755f",
    "#d37295",
    "#7f8c8d",
)

# The dashes of a curve, as plotly names them: every further ten runs have other ones.
DASHES = ("solid", "dot", "dash", "dashdot")
# The share of the circle of hues between further runs: multiples of it never coincide.
GOLDEN_RATIO = 0.381966

T = TypeVar("T")

MISSING = "–"  # noqa: RUF001
# The characters of a value or a name on a page.
LONGEST = 2000


class NumberedRunRow(RunRow):
    """A run with the name of its sweep and its number among the project's runs, from 1."""

    sweep_name: str | None
    number: int


@dataclass
class Run:
    """A run as the pages show it; config and summary are flat {dotted key: number, string, bool or None}."""

    id: str
    name: str
    state: str
    created: float
    seconds: float
    config: JsonObject
    summary: JsonObject
    tags: list[str]
    group: str | None
    job_type: str | None
    sweep: str | None
    color: str
    dash: str
    row: RunRow = field(repr=False)
    # A short name that tells the run apart from others on the same page.
    label: str = ""
    # The id of the recipe with which the run is shown.
    recipe: str = ""

    @property
    def live(self) -> bool:
        return self.state in LIVE

    def value(self, key: str) -> Any:
        """The value in a column: "config.lr", "summary.loss", or one of the run's own fields."""
        part, _, name = key.partition(".")
        if name and part in ("config", "summary"):
            return (self.config if part == "config" else self.summary).get(name)
        return {
            "name": self.name,
            "id": self.id,
            "state": self.state,
            "created": self.created,
            "duration": self.seconds,
            "group": self.group,
            "job_type": self.job_type,
            "sweep": self.sweep,
        }.get(key)


def read_runs(db: Transaction, project: ProjectRow, condition: str = "1", *values: SqlValue) -> list[Run]:
    """The runs of a project that meet an SQL condition, oldest first."""
    # Numbers within the project make neighbours differ in colour, and give a run one colour on all pages.
    query = (
        "SELECT run.*, sweep.name AS sweep_name, numbered.number FROM run JOIN (SELECT id, row_number() OVER"
        " (ORDER BY id) AS number FROM run WHERE project_id = ?) AS numbered ON numbered.id = run.id"
        " LEFT JOIN sweep ON sweep.id = run.sweep_id"
    )
    query = f"{query} WHERE {condition} ORDER BY run.id"
    rows = db.all(query, project["id"], *values, row=NumberedRunRow)
    return [read_run(row) for row in rows]


def read_run(row: NumberedRunRow) -> Run:
    summary = parsed(row["summary"])
    runtime = finite(summary.get("_runtime"))
    start = row["started_at"] or row["created_at"]
    return Run(
        id=row["name"],
        name=cut(row["display_name"], 300),
        state=row["state"],
        created=row["created_at"],
        # The client's own clock, if it sends it, leaves out the time between a run's end and its resumption.
        seconds=max((row["heartbeat_at"] or start) - start, 0) if runtime is None else runtime,
        config=flat_config(row["config"]),
        summary={key: value for key, value in flat(summary).items() if not key.startswith("_")},
        tags=json.loads(row["tags"]),
        group=row["group_name"],
        job_type=row["job_type"],
        sweep=row["sweep_name"],
        color=color(row["number"] - 1),
        dash=dash(row["number"] - 1),
        row=row,
    )


def color(number: int) -> str:
    """The colour of a project's run by its number, from 0."""
    if number < len(COLORS) * len(DASHES):
        return COLORS[number % len(COLORS)]
    shares = colorsys.hls_to_rgb(number * GOLDEN_RATIO % 1, 0.48 + 0.06 * (number % 3), 0.6)
    return "#" + "".join(f"{round(255 * share):02x}" for share in shares)


def dash(number: int) -> str:
    """The dashes of a project's run by its number, from 0."""
    return DASHES[number // len(COLORS) % len(DASHES)]


def flat_config(text: str) -> JsonObject:
    """{key: value} of a run's config, {"lr": {"value": 0.1}, "_wandb": ...} in JSON text."""
    values = {
        key: item["value"] if isinstance(item, dict) and "value" in item else item
        for key, item in parsed(text).items()
        if key != "_wandb"
    }
    return flat(values)


def flat(values: JsonObject, prefix: str = "") -> JsonObject:
    """Nested dictionaries under dotted keys; lists as strings; without media and histograms."""
    flattened: JsonObject = {}
    for key, value in values.items():
        if isinstance(value, dict):
            if "_type" not in value:
                flattened |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flattened[prefix + key] = json.dumps(value)
        else:
            flattened[prefix + key] = value
    return flattened


def parsed(text: str | None) -> JsonObject:
    """A run's config or summary as a client sent it; empty if it is no object. Do not change the result."""
    return kept_object(text or "{}") or {}


def read_line(text: str) -> JsonObject:
    """A line of history as a client sent it; empty if it is not a JSON object."""
    return json_object(text) or {}


def client_records(run: RunRow, name: str, kind: type[T]) -> T:
    """A list or dictionary that the client keeps for itself in the config's _wandb; empty if it has none."""
    own = parsed(run["config"]).get("_wandb")
    value = own.get("value") if isinstance(own, dict) else None
    part = value.get(name) if isinstance(value, dict) else None
    return part if isinstance(part, kind) else kind()


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, which a chart can draw."""
    return finite(value) is not None


def bins(numbers: list[float], count: int) -> tuple[float, float, list[int]]:
    """(least number, half the width of a bin, counts of the bins); the width of equal numbers is 0."""
    low, high = float(min(numbers, default=0.0)), float(max(numbers, default=1.0))
    # Halved first: the difference of two floats may overflow.
    half = (high / 2 - low / 2) / count
    counts = [0] * count
    for number in numbers:
        counts[min(int((number / 2 - low / 2) / half), count - 1) if half else 0] += 1
    return low, half, counts


def show(value: Any) -> str:
    """A value in a table's cell: floats with four significant digits."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, float):
        return f"{value:.4g}" if not value.is_integer() or abs(value) >= 1e6 else f"{value:.0f}"
    return cut(value)


def cut(value: Any, longest: int = LONGEST) -> str:
    """A value as a string of this length at most."""
    text = str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def show_duration(seconds: float) -> str:
    """3 s, 4 min 10 s, 2 h 5 min, 3 d 4 h."""
    seconds = int(seconds)
    for unit, size, below, name in ((86400, 3600, "h", "d"), (3600, 60, "min", "h"), (60, 1, "s", "min")):
        if seconds >= unit:
            rest = seconds % unit // size
            return f"{seconds // unit} {name} {rest} {below}" if rest else f"{seconds // unit} {name}"
    return f"{seconds} s"


def show_time(seconds: float) -> str:
    """In this machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def show_size(size: float) -> str:
    """Bytes, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
