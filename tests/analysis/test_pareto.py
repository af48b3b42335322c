"""The Pareto front of a sweep with several objectives, and that the answer names it in place of a winner."""

import numpy as np
import pytest
from sweep_frames import runs_of

from wandb_tl.analysis import answer_data, answer_html, certainty, conclusions, pareto, report_folder
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.saved_report import SavedReport
from wandb_tl.config import RunConfig
from wandb_tl.export_table import last_lines

OBJECTIVES = [{"name": "val/accuracy", "goal": "maximize"}, {"name": "cost", "goal": "minimize"}]


def frame_of(accuracies, costs, metrics=OBJECTIVES):
    """One run per pair of validation accuracy (a share) and cost, each with a learning rate of its own."""
    configs = [RunConfig(lr=0.001 * (i + 1), val_fraction=0.2) for i in range(len(accuracies))]
    # By the test images, which do not choose, the order is the opposite.
    frame = runs_of(configs, [90 - 10 * share for share in accuracies])
    frame["val/accuracy"], frame["cost"] = accuracies, costs
    frame.attrs |= {"method": "custom", "metrics": metrics}
    return frame


def beats(one, other):
    """By definition: as good in both objectives, and better in one."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


@pytest.mark.parametrize("seed", range(5))
def test_front_is_what_no_run_beats(seed):
    random = np.random.default_rng(seed)
    # Of few values, so that some are equal.
    points = [(float(a) / 10, float(c)) for a, c in random.integers(1, 9, (40, 2))]
    front = answer(frame_of(*map(list, zip(*points, strict=True))), "a/b/c").front
    expected = [one for one in points if not any(beats(other, one) for other in points)]
    assert sorted(run.values for run in front.runs) == sorted(expected) and front.measured == 40
    assert [run.values for run in front.runs] == sorted(expected, key=lambda one: (-one[0], one[1]))


def test_answer_names_the_front_and_its_commands_are_about_the_first_run():
    frame = frame_of([0.9, 0.8, 0.7, 0.6], [9.0, 3.0, 4.0, 1.0])
    result = answer(frame, "e/p/s").with_flags(["--local"])
    first, *lines = last_lines(result)
    assert first.startswith("No run is the best in all objectives, val/accuracy (higher is better) and cost")
    assert "The Pareto front has 3 of 4 runs" in first
    ids = frame["id"].tolist()
    assert [line.split(",")[0] for line in lines[:3]] == [f"Run {ids[i]}" for i in (0, 1, 3)]
    assert lines[1].endswith(": val/accuracy=0.8, cost=3, with lr=0.002.")
    assert "another seed, or other work on the machine, moves it" in lines[3]
    assert lines[4].startswith("Next, to see how far other seeds move the first of these runs (5 runs): ")
    assert "lr=0.001" in lines[4] and "seed=0,1,2,3,4" in lines[4]
    assert lines[5].endswith(f"wandb_tl.predict e/p/{ids[0]} PICTURES --local")
    said = "\n".join([*lines, *conclusions.first_sentences(result), *certainty.cautions(result)])
    assert "Use row" not in said and result.search is None
    tables = {table["title"]: table for table in answer_data.as_data(result)["tables"]}
    assert len(tables["The Pareto front"]["rows"]) == 3
    assert "The Pareto front has 3 of 4 runs" in answer_html.render(result)


def test_one_run_that_is_the_best_in_all_objectives_and_runs_without_them():
    [first, run, *_] = pareto.sentences(answer(frame_of([0.9, 0.8], [1.0, 3.0]), "e/p/s").front)
    assert first.startswith("One run is the best of 2 runs in all objectives") and "`cost=1`" in run
    misspelled = [OBJECTIVES[0], {"name": "price"}]
    unknown = answer(frame_of([0.9, 0.8], [1.0, 3.0], misspelled), "e/p/s")
    assert conclusions.first_sentences(unknown)[0].startswith("No run has all objectives of the sweep")
    assert answer(frame_of([0.9, 0.8], [1.0, 3.0], OBJECTIVES[:1]), "e/p/s").front is None


class Runs:
    path = "e/p/s"

    def media(self, run_id, keys):
        return {}

    def image_by_image(self, recipes):
        return None


def test_report_has_the_front_and_is_the_same_again_from_its_files(tmp_path):
    report_folder.write(Runs(), frame_of([0.9, 0.8, 0.7], [9.0, 3.0, 4.0]), tmp_path)
    page = (tmp_path / "README.md").read_text()
    section = page.partition("## The Pareto front")[2].partition("\n## ")[0]
    assert section.count("\n|") == 4 and "## The search" not in page
    files = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    saved = SavedReport(tmp_path / "results.csv")
    report_folder.write(saved, saved.frame(), tmp_path)
    assert files == {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
