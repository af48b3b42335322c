"""python -m wandb_tl.export_table: print the table of a sweep, and write it to a README and a report."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wandb_tl import loading
from wandb_tl.command_line import Command, add_local_flags, local_flags, shell_command
from wandb_tl.errors import ExitCode, InputError, UsageError
from wandb_tl.sweeping import embedded_server

if TYPE_CHECKING:
    from wandb_tl.analysis.answer import Answer
    from wandb_tl.analysis.results import Results
    from wandb_tl.analysis.saved_report import SavedReport

README_BEGIN, README_END = "<!-- results:begin -->", "<!-- results:end -->"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        metavar="ENTITY/PROJECT[/SWEEP]",
        help="the runs to compare; or the results.csv of a report, which is written again from it",
    )
    add_local_flags(parser, "read the runs from")
    add_target_arguments(parser)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say where export() writes: reports and readme."""
    parser.add_argument(
        "--reports",
        type=Path,
        metavar="DIR",
        help="write a report into this folder: README.md with the answer and figures, CSV files, LaTeX",
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
    if options.local and options.path.endswith(".csv"):
        raise UsageError(f"--local: {options.path} is a file, which needs no server")
    with embedded_server.selected(options.local, options.root):
        source = source_of(options.path)
        answer = export(source, options.reports, options.readme)
        server_flags = flags_of(source) if options.reports else []
    lines = last_lines(answer)
    if options.reports:
        publish = shell_command("wandb_tl.report", source.path, *server_flags)
        lines.append(f"To publish the report in W&B: {publish}")
    else:
        report = shell_command(
            "wandb_tl.export_table",
            options.path,
            *local_flags(options),
            "--reports",
            "reports",
        )
        lines.append(f"For a report with figures: {report}")
    # On stderr: stdout is the table.
    print("", *lines, sep="\n", file=sys.stderr)
    return ExitCode.OK


def source_of(path: str) -> Results | SavedReport:
    """The runs at a path on the server, or in the results.csv of a report."""
    if path.endswith(".csv"):
        from wandb_tl.analysis.saved_report import SavedReport

        return SavedReport(Path(path))
    from wandb_tl.analysis.results import Results

    return Results(path)


def flags_of(source: Results | SavedReport) -> list[str]:
    """The flags of commands that use the server of the runs, such as --local."""
    from wandb_tl.analysis.saved_report import SavedReport

    return source.flags if isinstance(source, SavedReport) else embedded_server.flags_in_use() or []


def export(source: Results | SavedReport, reports: Path | None = None, readme: Path | None = None) -> Answer:
    """Print the table of the results, and write the table and the report. Returns what they say.

    The embedded server, if wandb is pointed at it, shows the answer on the sweep's page.
    reports: folder of the report. readme: file with the markers of the table. InputError if no run has a test
    accuracy, or a file cannot be written.
    """
    with loading.libraries():
        from wandb_tl.analysis import compare, report_folder, runs_by_recipe, table_texts, tables
        from wandb_tl.analysis.formatting import count
        from wandb_tl.analysis.results import Results

    frame = source.frame()
    flags = flags_of(source)
    result = compare.answer_of(source, frame, flags)
    compared, *others = runs_by_recipe.by_test_images(frame)
    cells = tables.results(compared, runs_by_recipe.recipes(compared))
    left_out = sum(map(len, others))
    sentences = " ".join(
        filter(
            None,
            (
                tables.total_time(compared),
                tables.test_images(compared),
                f"Left out: {count(left_out, 'run')} with other test images." if left_out else "",
            ),
        )
    )
    text = f"{table_texts.markdown(cells)}\n\n{sentences}"
    print(text)
    try:
        if readme:
            replace_between_markers(readme, text)
        if reports:
            report_folder.write(source, frame, reports, result)
            print(f"\nReport: {reports / 'README.md'}, and report.html for a browser")
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from error
    # The page of a project has no answer.
    if flags and isinstance(source, Results) and source.path.count("/") == 2:
        show_on_page(result, flags)
    return result


def show_on_page(answer: Answer, flags: Sequence[str]) -> None:
    """Show the answer on the sweep's page of the embedded server; a warning on stderr if that fails."""
    from wandb_tl.analysis.answer_data import as_data

    try:
        embedded_server.attach_answer(answer.path, as_data(answer), flags)
    except InputError as error:
        print(f"warning: the sweep's page does not show this answer: {error}", file=sys.stderr)


def last_lines(answer: Answer) -> list[str]:
    """The answer in a few lines, with the commands that follow from it."""
    from wandb_tl.analysis import conclusions, search_conclusions

    plan = answer.next_runs.command
    again = "" if plan is None else f": {shell_command(plan.module, *plan.arguments)}"
    predict = shell_command(answer.predict.module, *answer.predict.arguments)
    lines = [
        *conclusions.last_lines(answer),
        f"Next, {conclusions.next_step(answer).replace('`', '')}{again}",
        f"To classify pictures with {conclusions.model(answer)}: {predict}",
    ]
    confirmation = answer.next_search.confirmation if answer.next_search else None
    if answer.search is not None and confirmation is not None and confirmation != plan:
        purpose = search_conclusions.confirmation(answer.search)
        command = shell_command(confirmation.module, *confirmation.arguments)
        lines.append(f"{purpose[0].upper()}{purpose[1:]}: {command}")
    return lines


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
    # A name in the text must not be a marker of the next call.
    text = text.replace("<!--", "&lt;!--")
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(f"{before}{README_BEGIN}\n{text}\n{README_END}{after}", encoding="utf-8")
    temporary.replace(file)


COMMAND = Command(
    name="export_table",
    summary="print the table of a sweep's results, write a report",
    description="Print the results of a W&B sweep as a Markdown table, best recipe first: "
    "the one with the highest mean validation accuracy if all runs have one, else test accuracy.",
    epilog="It reads from the server that wandb is logged in to, or $WANDB_BASE_URL with $WANDB_API_KEY; "
    "with --local, from the embedded server.",
    add_arguments=add_arguments,
    run=run,
)

if __name__ == "__main__":
    COMMAND.start()
