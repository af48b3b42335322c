"""The runs that a panel of a report or of a saved workspace shows: its run sets, with their filters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wandb_tl.local.pages.labels import label_runs
from wandb_tl.local.pages.run_filter import OPERATORS, FilterError, date_condition, meets
from wandb_tl.local.pages.runs_table import ordered_by
from wandb_tl.local.pages.values import Run, is_number, read_runs
from wandb_tl.local.pages.view import PageRequest
from wandb_tl.local.records.json_path import JsonObject, find
from wandb_tl.local.records.names import project_named
from wandb_tl.local.records.rows import ProjectRow

# The fields of a run as filters of reports name them, and as pages do.
FIELDS = {"displayName": "name", "name": "id", "state": "state", "sweep": "sweep", "group": "group"}
FIELDS |= {"jobType": "job_type", "createdAt": "created", "duration": "duration"}


@dataclass
class RunSet:
    """Runs of one project, in the order that the run set names, or else oldest first.

    grouped: whether they are shown as means of recipes. unknown: conditions that the pages cannot apply, in
    words; `runs` then has more runs than the report.
    """

    project: ProjectRow
    runs: list[Run]
    grouped: bool
    unknown: list[str] = field(default_factory=list)


class RunSetReader:
    """Reads the run sets of one page. project: that of run sets that name none."""

    def __init__(self, request: PageRequest, project: ProjectRow) -> None:
        self.request, self.project = request, project
        # A report may have many panel grids, most of them with the runs of one project.
        self._runs: dict[int, list[Run]] = {}

    def all(self, nodes: list[JsonObject]) -> list[RunSet]:
        """The run sets of a grid of panels; all runs of the project if there are none."""
        return [run_set for node in nodes or [{}] if (run_set := self._read(node))]

    def _read(self, node: JsonObject) -> RunSet | None:
        """The runs of a run set; None if it is switched off, or its project is not on this server."""
        if node.get("enabled") is False:
            return None
        names = (find(node, "project.entityName"), find(node, "project.name"))
        project: ProjectRow | None = self.project
        if all(isinstance(name, str) and name for name in names):
            project = project_named(self.request.db, str(names[0]), str(names[1]))
        if project is None:
            return None
        run_set = RunSet(project, self._runs_of(project), bool(node.get("grouping")))
        for test in tests_of(node.get("filters"), run_set.unknown):
            run_set.runs = [run for run in run_set.runs if test(run)]
        query = find(node, "search.query")
        if isinstance(query, str) and query:
            run_set.runs = [run for run in run_set.runs if query.lower() in run.name.lower()]
        run_set.runs = in_order(run_set.runs, find(node, "sort.keys"))
        return run_set

    def _runs_of(self, project: ProjectRow) -> list[Run]:
        if project["id"] not in self._runs:
            runs = read_runs(self.request.db, project)
            label_runs(runs)
            self._runs[project["id"]] = runs
        return self._runs[project["id"]]


def in_order(runs: list[Run], keys: Any) -> list[Run]:
    """The runs ordered by the keys of a run set, the first of which counts most."""
    for node in reversed(keys if isinstance(keys, list) else []):
        section, name = find(node, "key.section"), find(node, "key.name")
        if isinstance(name, str) and section in ("run", "config", "summary"):
            runs = ordered_by(runs, f"{'+' if find(node, 'ascending') else '-'}{column(f'{section}:{name}')}")
    return runs


def column(accessor: str) -> str:
    """The column of the table of runs that an accessor names: "config:lr.value" is config.lr."""
    part, colon, name = accessor.partition(":")
    if not colon:
        part, name = "summary", accessor
    if part == "run":
        return FIELDS.get(name, name)
    return f"{part}.{name.removesuffix('.value')}" if part == "config" else f"summary.{name}"


def tests_of(filters: Any, unknown: list[str]) -> list[Callable[[Run], bool]]:
    """The conditions of a filter: all must hold."""
    tests: list[Callable[[Run], bool]] = []
    nested = filters.get("filters") if isinstance(filters, dict) else None
    for node in nested if isinstance(nested, list) else []:
        if not isinstance(node, dict) or node.get("disabled"):
            continue
        if isinstance(node.get("filters"), list):
            if node.get("op") == "OR" and len(node["filters"]) > 1:
                unknown.append("one of several conditions")
            else:
                tests += tests_of(node, unknown)
        elif test := _test(node):
            tests.append(test)
        else:
            unknown.append(f"{find(node, 'key.name')} {node.get('op')} {node.get('value')}")
    return tests


def _test(node: JsonObject) -> Callable[[Run], bool] | None:
    section, name, operator = find(node, "key.section"), find(node, "key.name"), node.get("op")
    operand = node.get("value")
    if not isinstance(name, str) or section not in ("run", "config", "summary", "tags"):
        return None
    if section == "tags" or name == "tags":
        wanted = {str(tag) for tag in (operand if isinstance(operand, list) else [operand])}
        return (lambda run: bool(wanted & set(run.tags))) if operator in ("=", "IN") else None
    if section == "run" and name not in FIELDS:
        return None
    key = column(f"{section}:{name}")
    if operator in ("IN", "NIN") and isinstance(operand, list):
        texts = {_text(value) for value in operand}
        return lambda run: (_text(run.value(key)) in texts) == (operator == "IN")
    operator = "=" if operator == "==" else operator
    if operator not in OPERATORS:
        return None
    if key == "created" and isinstance(operand, str):
        try:
            return date_condition(operator, operand)
        except FilterError:
            return None
    number = operand if is_number(operand) else None
    if number is None and operator not in ("=", "!="):
        return None
    return lambda run: meets(run.value(key), operator, _text(operand), number)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
