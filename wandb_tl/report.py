"""python -m wandb_tl.report: publish a sweep's results as a W&B Report (analysis/wandb_report.py)."""

from __future__ import annotations

import argparse

from wandb_tl.command_line import Command, add_local_flags, shell_command
from wandb_tl.errors import ExitCode, InputError, UsageError
from wandb_tl.sweeping import embedded_server

# The longest title that W&B accepts.
TITLE_CHARACTERS = 128


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="ENTITY/PROJECT[/SWEEP]", help="the runs of the report")
    add_local_flags(parser, "read the runs from and publish to")
    parser.add_argument(
        "--title",
        help="title of the report; a new title creates a new report (default: the sweep's name and id)",
    )


def run(options: argparse.Namespace) -> int:
    """Publish the report and the workspace, and print their addresses."""
    if options.title is not None and not 1 <= len(options.title.strip()) <= TITLE_CHARACTERS:
        raise UsageError(f"--title: takes a string of 1 to {TITLE_CHARACTERS} characters")
    with embedded_server.selected(options.local, options.root):
        pages = publish(options.path, options.title)
    for name, page in pages.items():
        if options.local:
            # The server may have stopped, and uses another port next time.
            page = shell_command("wandb_tl.local", *embedded_server.open_arguments(page, options.root))
        print(f"{name}: {page}")
    return ExitCode.OK


def publish(path: str, title: str | None) -> dict[str, str]:
    """Publish the report and the workspace; returns their addresses by name.

    InputError without the package wandb-workspaces, or if the server refuses them.
    """
    try:
        from wandb_tl.analysis import wandb_report
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("wandb_workspaces"):
            raise
        raise InputError(
            'reports need the package wandb-workspaces: pip install "wandb-tl[report]", '
            "or uv run --extra report python -m wandb_tl.report"
        ) from error
    from wandb_tl.analysis.results import Results

    flags = embedded_server.flags_in_use() or []
    report, workspace = wandb_report.publish(Results(path), title, flags)
    return {"Report": report, "Workspace": workspace}


COMMAND = Command(
    name="report",
    summary="publish a W&B Report and a workspace about a sweep",
    description="Publish a W&B Report about a sweep, with its answer, the table of results and live charts, "
    "and save the charts as a workspace of the project. Publishing again replaces both at the same "
    "addresses; comments on the report stay.",
    epilog="It uses the server that wandb is logged in to, or $WANDB_BASE_URL with $WANDB_API_KEY; with "
    "--local, the embedded server.",
    add_arguments=add_arguments,
    run=run,
)

if __name__ == "__main__":
    COMMAND.start()
