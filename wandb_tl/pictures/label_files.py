"""A file that lists pictures with their labels: CSV, TSV, JSON lines or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from wandb_tl.pictures.label_cells import PathCells, label_of, split_of
from wandb_tl.pictures.listing import Listing, PictureFile
from wandb_tl.pictures.names import refusal, split_named

TABLE_SUFFIXES = {".csv", ".tsv"}
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
SEPARATORS = (",", ";", "\t")

# Names of columns, in the order of preference: a table may have several of them.
PATH_COLUMNS = (
    *("path", "paths", "filepath", "filepaths", "file_path", "image_path", "file", "filename", "filenames"),
    *("file_name", "image", "images"),
)
LABEL_COLUMNS = ("class_name", "label_name", "label", "labels", "class", "target", "category")
SPLIT_COLUMNS = ("split", "set", "data_set", "dataset", "subset", "partition", "fold")

# A cell is text in a table, and of any type in JSON.
Row = dict[str, object]


def list_label_file(file: Path, confined: bool = False) -> Listing:
    """List the files that a .csv, .tsv, .jsonl, .ndjson or .json file names, with their labels and splits.

    Paths are relative to the file's folder, or absolute. confined: refuse paths and links that lead out of
    this folder, for label files from elsewhere. Files that do not exist are listed too, unless none exists.
    InputError, with the row's number where there is one, if the file or a row cannot be used.
    """
    rows, empty_rows = _rows(file, confined)
    if not rows:
        raise refusal(f"{file} has no rows; add one per picture, with its path and its label")
    notes: list[str] = []
    path_column, label_column, split_column = _columns(file, rows, notes)
    paths = PathCells(file.parent, confined)
    files: dict[tuple[str, str, str | None], PictureFile] = {}
    repeated = 0
    for number, row in rows:
        where = f"row {number} of {file}"
        path, name = paths.read(row.get(path_column), where)
        label = label_of(row.get(label_column), where)
        split = split_of(row.get(split_column), where) if split_column else None
        repeated += (name, label, split) in files
        files.setdefault((name, label, split), PictureFile(path, name, label, split))
    if repeated:
        notes.append(f"Rows that repeat another row are read once ({repeated:,}).")
    listed = sorted(files.values(), key=lambda entry: (entry.name, entry.label, entry.split or ""))
    _check(file, listed)
    passed_over = {"empty rows": empty_rows} if empty_rows else {}
    return Listing(file.parent, listed, passed_over, notes, empty_classes=[])


def _rows(file: Path, confined: bool) -> tuple[list[tuple[int, Row]], int]:
    """The rows with their numbers, and the number of empty rows.

    Rows of a table count from 1 with the header, as in a spreadsheet; in JSON lines they are lines.
    """
    suffix = file.suffix.lower()
    if suffix not in TABLE_SUFFIXES | JSON_SUFFIXES:
        raise refusal(f"cannot use {file}; takes a folder, or a .csv, .tsv, .jsonl, .ndjson or .json file")
    try:
        if confined and not file.resolve().is_relative_to(file.parent.resolve()):
            raise refusal(f"{file} is a link that leads out of its folder; put the file itself there")
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refusal(f"{file} is not in UTF-8; save it in this encoding") from error
    except OSError as error:
        raise refusal(f"cannot read {file}: {error.strerror}") from error
    if suffix in JSON_SUFFIXES:
        return list(_json_rows(file, text)), 0
    return _table_rows(file, text, confined)


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, Row]]:
    """The objects of a JSON list, or one object per line, with normalised names of their columns."""
    if text.lstrip().startswith("["):
        items: Iterable[tuple[int, Any]] = enumerate(_parse(text, str(file)), 1)
    else:
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        items = ((number, _parse(line, f"row {number} of {file}")) for number, line in lines)
    for number, item in items:
        if not isinstance(item, dict):
            raise refusal(f"row {number} of {file} is not an object with a path and a label")
        yield number, {_normalised(name): value for name, value in item.items()}


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refusal(
            f"{where} is not valid JSON ({error}); takes one object per line, or a list of objects"
        ) from error


def _table_rows(file: Path, text: str, confined: bool) -> tuple[list[tuple[int, Row]], int]:
    first_line = next((line for line in text.splitlines() if line.strip()), "")
    try:
        # Without translation of line breaks: they may be part of a path in quotes.
        stream = io.StringIO(text, newline="")
        records = list(csv.reader(stream, delimiter=_separator(first_line), skipinitialspace=True))
    except csv.Error as error:
        raise refusal(f"{file} is not a valid table: {error}") from error
    filled = [(number, cells) for number, cells in enumerate(records, 1) if any(map(str.strip, cells))]
    # A line without any character is no row at all.
    empty_rows = sum(map(bool, records)) - len(filled)
    if not filled:
        return [], empty_rows
    header = _default_header(file, filled[0][1], confined)
    if not header:
        header = [_normalised(cell) for cell in filled.pop(0)[1]]
    rows: list[tuple[int, Row]] = []
    for number, cells in filled:
        if any(map(str.strip, cells[len(header) :])):
            raise refusal(
                f"row {number} of {file} has {len(cells)} cells instead of {len(header)}; "
                "put cells that contain the separator in quotes"
            )
        rows.append((number, dict(zip(header, cells, strict=False))))
    return rows, empty_rows


def _separator(line: str) -> str:
    """The separator that gives a first line the columns of a path and a label, or else the most cells."""

    def fitness(separator: str) -> tuple[bool, int]:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        return _is_header(cells), len(cells)

    return max(SEPARATORS, key=fitness)


def _is_header(cells: list[str]) -> bool:
    names = {_normalised(cell) for cell in cells}
    return bool(names.intersection(PATH_COLUMNS) and names.intersection(LABEL_COLUMNS))


def _default_header(file: Path, cells: list[str], confined: bool) -> list[str]:
    """The header of a table whose first row names a file and its label; empty if that row is a header."""
    if _is_header(cells) or len(cells) < 2 or (confined and Path(cells[0]).is_absolute()):
        return []
    try:
        if not Path(file.parent, cells[0]).is_file():
            return []
    except (OSError, ValueError):
        return []
    return ["path", "label", "split"] if len(cells) > 2 and split_named(cells[2]) else ["path", "label"]


def _normalised(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _columns(file: Path, rows: list[tuple[int, Row]], notes: list[str]) -> tuple[str, str, str | None]:
    """The columns of path, label and split; None for the split if no column holds splits."""
    names = {name for _, row in rows for name in row}
    paths, labels, splits = (
        [name for name in candidates if name in names]
        for candidates in (PATH_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)
    )
    if not paths or not labels:
        columns = ", ".join(sorted(names)) or "no columns"
        raise refusal(
            f"{file} has {columns}; takes a column path (or file, filename, image) "
            "and a column label (or class, target, category)"
        )
    for purpose, candidates in (("Paths", paths), ("Labels", labels)):
        if len(candidates) > 1:
            notes.append(
                f"{purpose} are those of column {candidates[0]}, not of {', '.join(candidates[1:])}."
            )
    # A column such as set or fold may hold something else, for example the numbers of a cross-validation.
    split = next((name for name in splits if any(split_named(str(row.get(name))) for _, row in rows)), None)
    if splits and not split:
        notes.append(f"Column {splits[0]} is not read: none of its values is train, val or test.")
    return paths[0], labels[0], split


def _check(file: Path, listed: list[PictureFile]) -> None:
    """InputError unless two classes are for training, and at least one file exists."""
    training = {entry.label for entry in listed if entry.split in ("train", None)}
    if not training:
        raise refusal(f"{file} has no rows of split train; add some")
    if len(training) == 1:
        raise refusal(f"{file} has only one class for training, {training.pop()}; add rows of a second class")
    if not any(_exists(entry.path) for entry in listed):
        raise refusal(
            f"none of the files in {file} exists, such as {listed[0].path}; "
            "paths are relative to the folder of this file"
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
