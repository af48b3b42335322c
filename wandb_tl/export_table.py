"""python -m wandb_tl.export_table: the table of a sweep, into a README, and its report into a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from wandb_tl import effects, tables
from wandb_tl.config import InputError, Parser
from wandb_tl.results import Results

README_BEGIN, README_END = "<!-- results:begin -->", "<!-- results:end -->"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; exit code 2 and one line if it cannot be had."""
    parser = Parser(
        prog="python -m wandb_tl.export_table",
        description="Print the results of a W&B sweep as a Markdown table, best test accuracy first.",
        epilog="It reads the server that wandb is logged in to, or $WANDB_BASE_URL with $WANDB_API_KEY.",
    )
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
        help=f"put the table into this file, between {README_BEGIN} and {README_END}",
    )
    try:
        options = parser.parse_args(arguments)
        check_targets(options.reports, options.readme)
        export(Results(options.path), options.reports, options.readme)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def export(results: Results, reports: Path | None = None, readme: Path | None = None) -> None:
    """Print the table of the results and write it where asked. InputError if a file cannot be written."""
    frame = results.frame()
    table = tables.results(frame, effects.recipes(frame))
    text = f"{tables.markdown(table)}\n\n{tables.total_time(frame)}"
    print(text)
    try:
        if readme:
            replace_between_markers(readme, text)
        if reports:
            # What draws figures takes seconds to import, and a table needs none of it.
            from wandb_tl import report_folder

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


if __name__ == "__main__":
    sys.exit(main())
