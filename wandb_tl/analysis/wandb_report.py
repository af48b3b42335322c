"""A sweep as a W&B Report and a saved workspace, which others can open."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb_workspaces.reports.v2.interface import BlockTypes as Block
from wandb_workspaces.reports.v2.interface import PanelTypes as Panel
from wandb_workspaces.workspaces.errors import SpecVersionError

from wandb_tl.analysis import report_folder, runs_by_recipe, table_texts, tables
from wandb_tl.analysis.compare import answer_of
from wandb_tl.analysis.results import Results
from wandb_tl.analysis.runs_by_recipe import METRIC
from wandb_tl.errors import InputError, one_line

MEDIA = ("confusion_matrix", "grad_cam", "reliability")


@dataclass(frozen=True)
class Subject:
    """What a report is about: all runs of a project, or those of one sweep. url: the page of either."""

    entity: str
    project: str
    sweep: str | None
    name: str
    description: str
    url: str

    @property
    def path(self) -> str:
        return "/".join(filter(None, (self.entity, self.project, self.sweep)))

    @property
    def title(self) -> str:
        """The default title of the report; it has the id because several sweeps may share a name."""
        return f"{self.name[:100]} ({self.sweep or 'all runs'})"

    @property
    def filters(self) -> str:
        """The runs as a filter expression of wandb-workspaces; empty for all runs."""
        return f"Sweep = '{self.sweep}'" if self.sweep else ""


def publish(results: Results, title: str | None = None, flags: Sequence[str] = ()) -> tuple[str, str]:
    """Publish the report and save the workspace; returns their addresses.

    flags: of commands that use the same server, such as --local. InputError if no run has finished, or the
    server has no reports.
    """
    frame = results.frame()
    result = answer_of(results, frame, flags)
    compared = runs_by_recipe.by_test_images(frame)[0]
    recipes = runs_by_recipe.recipes(compared)
    table = tables.results(compared, recipes, numbered=True)
    varied = runs_by_recipe.varied(compared)
    first = "\n\n".join(report_folder.first_screen(result))
    changes = (
        table_texts.markdown(tables.effects(result)) if result.effects else "No recipe is one change away."
    )
    parts = (
        tables.introduction(compared, recipes),
        table_texts.markdown(table),
        tables.caption(compared, recipes),
    )
    texts = {
        "The answer": first,
        "One change away from the best recipe": changes,
        "Results": "\n\n".join(parts),
    }
    if result.search is not None:
        texts["The search"] = "\n\n".join(report_folder.search_section(result, with_figure=False))
    with _errors_in_one_line(results.path):
        subject = find_subject(results.path)
        workspace = save_workspace(subject, varied)
        report = save_report(subject, title or subject.title, blocks(subject, workspace, texts, varied))
    return report, workspace


def find_subject(path: str) -> Subject:
    """The sweep or project at ENTITY/PROJECT[/SWEEP]. wandb.Error if it cannot be read."""
    api = wandb.Api()
    entity, project, *rest = path.split("/")
    if not rest:
        return Subject(entity, project, None, project, "", api.project(project, entity).url)
    sweep = api.sweep(path)
    return Subject(entity, project, sweep.id, sweep.name, sweep.config.get("description") or "", sweep.url)


def blocks(subject: Subject, workspace: str, texts: dict[str, str], varied: list[str]) -> list[Block]:
    """The report's blocks: texts (Markdown by heading), then panels.

    workspace: its address. varied: the hyperparameters that differ between the recipes.
    """
    first = f"{subject.description} See ".lstrip()
    runs_link, charts_link = (
        wr.Link("the runs", subject.url),
        wr.Link("these charts as a workspace", workspace),
    )
    content: list[Block] = [wr.P([first, runs_link, " or ", charts_link, "."])]
    for heading, text in texts.items():
        content += [wr.H2(heading), wr.MarkdownBlock(text)]
    for heading, panels in sections(varied).items():
        # The curves of one recipe's seeds are drawn as their mean, with their spread.
        grouped = [f"config.{name}" for name in varied] if heading == "By epoch" else []
        runset = wr.Runset(
            entity=subject.entity,
            project=subject.project,
            filters=subject.filters,
            name="Recipes" if grouped else "Runs",
            groupby=grouped,
            # Of media, a report shows those of its first runs.
            order=[wr.OrderBy(wr.SummaryMetric(METRIC), ascending=False)],
        )
        content += [wr.H2(heading), wr.PanelGrid(runsets=[runset], panels=panels)]
    return content


def sections(varied: list[str]) -> dict[str, list[Panel]]:
    """The panels by heading, in a grid that is 24 units wide."""
    measured = wr.SummaryMetric(METRIC)
    axes = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(name)) for name in varied]
    wide, half = wr.Layout(w=24, h=9), wr.Layout(w=12, h=8)
    return {
        "Hyperparameters": [
            wr.ParallelCoordinatesPlot(
                columns=[*axes, wr.ParallelCoordinatesPlotColumn(metric=measured)], layout=wide
            ),
            wr.ParameterImportancePlot(with_respect_to=METRIC, layout=half),
            wr.ScatterPlot(
                title="What accuracy costs", x=wr.SummaryMetric("train_seconds"), y=measured, layout=half
            ),
            wr.RunComparer(diff_only=True, layout=wide),
        ],
        "By epoch": [wr.LinePlot(x="epoch", y=[key], layout=half) for key in ("test/accuracy", "train/loss")],
        "Pictures": [wr.MediaBrowser(media_keys=list(MEDIA), layout=wide)],
    }


def save_workspace(subject: Subject, varied: list[str]) -> str:
    """Save the panels as a workspace of the project; returns its address.

    There is one workspace per sweep, named after the sweep's id. If it exists, it is replaced.
    """
    name = subject.sweep or "allruns"
    try:
        # The library reads nothing but names from this address.
        workspace = ws.Workspace.from_url(f"https://wandb.ai/{subject.entity}/{subject.project}?nw={name}")
    except ValueError:
        workspace = ws.Workspace(entity=subject.entity, project=subject.project)
        # The library has no public way to choose this name, and a generated one cannot be found again.
        workspace._internal_name = f"nw-{name}-v"
    # The library does not allow symbols such as + and = in this name.
    workspace.name = "".join(char for char in subject.title if not unicodedata.category(char).startswith("S"))
    workspace.sections = [
        ws.Section(name=heading, panels=panels, is_open=True) for heading, panels in sections(varied).items()
    ]
    workspace.runset_settings = ws.RunsetSettings(filters=subject.filters)
    return str(workspace.save().url)


def save_report(subject: Subject, title: str, content: list[Block]) -> str:
    """Publish the report; returns its address.

    A report with this title about the same runs is replaced; comments on it stay.
    """
    description = f"Results of {subject.path}"
    reports = wandb.Api().reports(f"{subject.entity}/{subject.project}")
    urls = [one.url for one in reports if (one.display_name, one.description) == (title, description)]
    if urls and urls[0]:
        report = wr.Report.from_url(urls[0])
    else:
        report = wr.Report(
            entity=subject.entity, project=subject.project, title=title, description=description
        )
    report.blocks, report.width = content, "fixed"
    report.save()
    # The library does not escape the title in its address.
    home, _, _ = report.url.partition("/reports/")
    slug = re.sub(r"\W+", "-", title).strip("-")
    return f"{home}/reports/{quote(slug)}--{report.id.rstrip('=')}"


@contextlib.contextmanager
def _errors_in_one_line(path: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (wandb.Error, WandbApiFailedError, SpecVersionError, ValueError) as error:
        raise InputError(f"{path}: cannot publish a report there: {one_line(error)}") from error
