"""python -m wandb_tl.export_table: print the table of a sweep, and write it to a README and a report."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_tl.command_line import Command, shell_command
from wandb_tl.errors import ExitCode, InputError, UsageError

if TYPE_CHECKING:
    from wandb_tl.analysis.results import Results

README_BEGIN, README_END = "<!-- results:begin -->", "<!-- results:end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="ENTITY/PROJECT[/SWEEP]", help="the runs to compare")
    add_target_arguments(parser)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where export() writes: reports and readme."""
    parser.add_argument(
        "--reports",
        type=Path,
        metavar="DIR",
        help="write a report into this folder: README.md with conclusions and figures, CSV files, LaTeX",
    )
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help=f"write the table into this file, between the lines {README_BEGIN} and {README_END}",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table of the runs, write it to the files that the options name, and print the next step."""
    check_targets(options.reports, options.readme)
    from wandb_tl.analysis.results import Results

    results = Results(options.path)
    export(results, options.reports, options.readme)
    if options.reports:
        next_step = f"To publish it in W&B: {shell_command('wandb_tl.report', results.path)}"
    else:
        report = shell_command("wandb_tl.export_table", results.path, "--reports", "reports")
        next_step = f"For conclusions and figures: {report}"
    # On stderr: stdout is the table.
    print(f"\n{next_step}", file=sys.stderr)
    return ExitCode.OK


def export(results: Results, reports: Path | None = None, readme: Path | None = None) -> None:
    """Print the table of the results, and write the table and the report.

    reports: folder of the report. readme: file with the markers of the table. InputError if a file cannot be
    written.
    """
    # pandas and matplotlib take seconds to import.
    from wandb_tl.analysis import runs_by_recipe, tables

    frame = results.frame()
    table = tables.results(frame, runs_by_recipe.recipes(frame))
    sentences = " ".join(filter(None, (tables.total_time(frame), tables.test_images(frame))))
    text = f"{tables.markdown(table)}\n\n{sentences}"
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
    """UsageError if export() could not write there: better before hours of training than after."""
    if readme:
        find_markers(readme)
    if reports:
        try:
            reports.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--reports: cannot create the folder {reports}: {error.strerror}") from error
    for folder in filter(None, (reports, readme and readme.parent)):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write to the folder {folder}")


def find_markers(file: Path) -> tuple[str, str]:
    """The text before and after the table's markers in a file. UsageError without markers."""
    try:
        before, begin, rest = file.read_text(encoding="utf-8").partition(README_BEGIN)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    _, end, after = rest.partition(README_END)
    if not (begin and end):
        raise UsageError(f"{file}: has no {README_BEGIN} followed by {README_END}")
    return before, after


def replace_between_markers(file: Path, text: str) -> None:
    """Replace the text between the two markers in a file. UsageError, and no change, without markers."""
    before, after = find_markers(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(f"{before}{README_BEGIN}\n{text}\n{README_END}{after}", encoding="utf-8")
    temporary.replace(file)


COMMAND = Command(
    name="export_table",
    summary="print the table of a sweep's results, write a report",
    description="Print the results of a W&B sweep as a Markdown table, best recipe first: "
    "the one with the highest mean validation accuracy if all runs have one, else test accuracy.",
    epilog="It reads from the server that wandb is logged in to, or $WANDB_BASE_URL with $WANDB_API_KEY. For "
    'the embedded server: eval "$(python -m wandb_tl.local env)".',
    add_arguments=add_arguments,
    run=run,
)

if __name__ == "__main__":
    COMMAND.start()
