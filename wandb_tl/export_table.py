"""python -m wandb_tl.export_table: the table of a sweep, as Markdown, CSV and figures."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd

from wandb_tl.config import FIELDS, InputError, Parser
from wandb_tl.results import Results

# Table 1 of the original experiment: heading, column of the results, how it is printed.
COLUMNS = (
    ("Pretrained", "pretrained", "{}"),
    ("Finetuning", "finetuning", "{}"),
    ("Optimizer", "optimizer", "{}"),
    ("Avg Train Loss", "avg_train_loss", "{:.4f}"),
    ("Avg Train Accuracy", "avg_train_accuracy", "{:.4f}"),
    ("Test Accuracy", "test_accuracy", "{:.2f}"),
)
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
        "--reports", type=Path, metavar="DIR", help="write results.md, results.csv and figures"
    )
    parser.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help=f"put the table into this file, between {README_BEGIN} and {README_END}",
    )
    try:
        options = parser.parse_args(arguments)
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
    text = f"{markdown_table(frame)}\n\n{total_time(frame)}"
    print(text)
    try:
        if readme:
            replace_between_markers(readme, text)
        if reports:
            write_reports(results, frame, text, reports)
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


def markdown_table(frame: pd.DataFrame) -> str:
    """Table 1's columns, after those of the other hyperparameters that differ between the runs."""
    shown = {name for _, name, _ in COLUMNS}
    varied = [name for name in FIELDS if name not in shown and frame[name].nunique() > 1]
    columns = [(name, name, "{}") for name in varied] + list(COLUMNS)
    cells = {title: frame[name].map(form.format) for title, name, form in columns}
    numeric = ["right" if form != "{}" else "left" for _, _, form in columns]
    return pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True, colalign=numeric)


def total_time(frame: pd.DataFrame) -> str:
    """What the runs took together, and which runs the table leaves out, in words."""
    seconds, devices = frame["train_seconds"].sum(), sorted(set(frame["device"]) - {""})
    runs = "1 run" if len(frame) == 1 else f"{len(frame)} runs"
    text = f"Total training time of the {runs}: {seconds:,.2f} s on {' and '.join(devices)}."
    if left_out := frame.attrs.get("left_out"):
        text += f" Left out: {', '.join(f'{count} {state}' for state, count in left_out.items())}."
    return text


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


def write_reports(results: Results, frame: pd.DataFrame, text: str, folder: Path) -> None:
    """Write results.md, results.csv and the figures of the best and the worst run into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "results.csv", index=False)
    best, worst = frame.iloc[0], frame.iloc[-1]
    pictures = {}
    for name, run, key in (
        ("examples", best, "examples"),
        ("first_conv", best, "feature_maps/first_conv"),
        ("curves", best, "curves"),
        ("confusion_best", best, "confusion_matrix"),
        ("confusion_worst", worst, "confusion_matrix"),
    ):
        file = folder / "figures" / f"{name}.png"
        if results.download_image(run["id"], key, file):
            pictures[name] = file.relative_to(folder).as_posix()

    captions = {
        "examples": "One randomly chosen test image of each class, actual and predicted label",
        "first_conv": "Feature maps of the first convolution for one test image",
        "curves": "Loss and accuracy by epoch",
    }
    lines = [f"# Results of `{results.path}`", "", text, ""]
    for name, caption in captions.items():
        if name in pictures:
            lines += [f"![{caption}]({pictures[name]})", "", f"{caption} (best run, `{best['name']}`).", ""]
    pair = [pictures[name] for name in ("confusion_best", "confusion_worst") if name in pictures]
    if len(pair) == 2:
        lines += [
            '<p align="center">',
            f'  <img src="{pair[0]}" alt="Confusion matrix of the best run" width="48%">',
            f'  <img src="{pair[1]}" alt="Confusion matrix of the worst run" width="48%">',
            "</p>",
            "",
            f"Confusion matrices of the best (left) and the worst run (right, `{worst['name']}`).",
            "",
        ]
    (folder / "results.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
