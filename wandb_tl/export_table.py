"""python -m wandb_tl.export_table: the table of a sweep, into a README, and its report into a folder."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_tl.command_line import Command, ExitCode
from wandb_tl.errors import InputError

if TYPE_CHECKING:
    from wandb_tl.analysis.results import Results

README_BEGIN, README_END = "<!-- results:begin -->", "<!-- results:end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="ENTITY/PROJECT[/SWEEP]", help="the runs to compare")
    parser.add_argument(
        "--reports",
        type=Path,
        metavar="DIR",
        help="write README.md with conclusions and figures, results.csv, effects.csv, results.tex",
    )
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help=f"write the table into this file, between {README_BEGIN} and {README_END}",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table of the runs, and write it where the options say."""
    check_targets(options.reports, options.readme)
    from wandb_tl.analysis.results import Results

    export(Results(options.path), options.reports, options.readme)
    return ExitCode.OK


def export(results: Results, reports: Path | None = None, readme: Path | None = None) -> None:
    """Print the table of the results and write it where asked. InputError if a file cannot be written."""
    # pandas, and later what draws figures: seconds to import, and neither help nor an error needs them.
    from wandb_tl.analysis import effects, tables

    frame = results.frame()
    table = tables.results(frame, effects.recipes(frame))
    text = f"{tables.markdown(table)}\n\n{tables.total_time(frame)}"
    print(text)
    try:
        if readme:
            replace_between_markers(readme, text)
        if reports:
            from wandb_tl.analysis import report_folder

            report_folder.write(results, frame, reports)
            print(f"\nReport: {reports / 'README.md'}")
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error


def check_targets(reports: Path | None, readme: Path | None) -> None:
    """InputError if export() could not write there, to be known before hours of training and not after."""
    if readme:
        find_markers(readme)
    if reports:
        try:
            reports.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--reports: cannot make the folder {reports}: {error.strerror}") from error
    for folder in filter(None, (reports, readme and readme.parent)):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"cannot write to the folder {folder}")


def find_markers(file: Path) -> tuple[str, str]:
    """What stands before the place of the table and what behind it. InputError if there is no place."""
    try:
        before, begin, rest = file.read_text(encoding="utf-8").partition(README_BEGIN)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    _, end, behind = rest.partition(README_END)
    if not (begin and end):
        raise InputError(f"{file}: has no {README_BEGIN} with {README_END} behind it")
    return before, behind


def replace_between_markers(file: Path, text: str) -> None:
    """Replace what stands between the two markers in a file. InputError, and no change, without them."""
    before, behind = find_markers(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(f"{before}{README_BEGIN}\n{text}\n{README_END}{behind}", encoding="utf-8")
    temporary.replace(file)


COMMAND = Command(
    name="export_table",
    summary="print the table of a sweep, write its report",
    description="Print the results of a W&B sweep as a Markdown table, best test accuracy first.",
    epilog="It reads the server that wandb is logged in to, or $WANDB_BASE_URL with $WANDB_API_KEY.",
    add_arguments=add_arguments,
    run=run,
)

if __name__ == "__main__":
    COMMAND.start()
