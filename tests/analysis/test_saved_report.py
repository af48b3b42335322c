"""A report written again from its own CSV."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from sweep_frames import GRID, grid, runs_of

from wandb_tl import export_table
from wandb_tl.analysis import report_folder
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.saved_report import SavedReport
from wandb_tl.errors import ExitCode, InputError

REPORTS = Path(__file__).parents[2] / "reports"


@pytest.mark.parametrize("name", [".", "five_seeds", "recommended"])
def test_the_reports_of_the_repository_say_what_their_runs_say(tmp_path, name):
    """They are as this version writes them, and writing them again changes nothing."""
    shutil.copytree(
        REPORTS / name, tmp_path / "report", ignore=shutil.ignore_patterns("five_seeds", "recommended")
    )
    report = SavedReport(tmp_path / "report" / "results.csv")
    report_folder.write(report, report.frame(), tmp_path / "report")
    for file in ("README.md", "effects.csv", "results.csv", "results.tex"):
        assert (tmp_path / "report" / file).read_text() == (REPORTS / name / file).read_text(), file
    assert (tmp_path / "report" / "figures" / "confusion_worst.png").exists()


def test_the_command_writes_it_and_ends_with_the_answer(tmp_path, capsys):
    shutil.copytree(REPORTS / "recommended", tmp_path / "report")
    file = str(tmp_path / "report" / "results.csv")
    assert export_table.COMMAND.main([file, "--reports", str(tmp_path / "report")]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out.startswith("| Pretrained") and f"Report: {tmp_path / 'report' / 'README.md'}" in out
    lines = err.strip().splitlines()
    assert lines[0].startswith(
        "Use row 1: finetuning=True. It classifies 91.80 % of 10,000 test images correctly"
    )
    assert lines[1].startswith(
        "A run takes 312 s to train. Cheaper: row 2 (finetuning=False) takes 1.2 s, 256 times less"
    )
    assert "wandb_tl.run_sweep seeds --set" in lines[3] and "wandb_tl.predict local/seeds/" in lines[4]
    assert len(lines) == 6


def test_a_file_that_is_no_report_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="of a report; it has no device, id, name, norm_in_effect"):
        SavedReport(tmp_path / "other.csv").frame()
    assert export_table.COMMAND.main([str(tmp_path / "none.csv")]) == ExitCode.BAD_INPUT
    assert capsys.readouterr().err.count("\n") == 1


def test_runs_survive_the_way_through_the_csv(tmp_path):
    frame = runs_of(grid(GRID), lambda c: 80 + 3 * c.pretrained + c.seed / 7)
    frame.assign(row=1).to_csv(tmp_path / "results.csv", index=False)
    again = SavedReport(tmp_path / "results.csv")
    assert again.path == str(tmp_path / "results.csv")
    before, after = answer(frame, "x"), answer(again.frame(), "x")
    assert [one.hyperparameters for one in before.recipes] == [one.hyperparameters for one in after.recipes]
    assert before.effects == after.effects


def test_the_commands_of_a_rewritten_report_use_the_same_server(tmp_path):
    frame = runs_of(grid(GRID), lambda c: 80 + 3 * c.pretrained + c.seed / 7)
    frame.to_csv(tmp_path / "results.csv", index=False)
    source = SavedReport(tmp_path / "results.csv")
    assert source.flags == []
    source.path = "a/b/c"
    flags = ["--local", "--root", "/my runs"]
    report_folder.write(source, frame, tmp_path, answer(frame, "a/b/c").with_flags(flags))
    page = (tmp_path / "README.md").read_text()
    assert page.count("--local --root '/my runs'\n") == 3
    again = SavedReport(tmp_path / "results.csv")
    assert again.flags == flags
    assert export_table.COMMAND.main([str(tmp_path / "results.csv"), "--reports", str(tmp_path)]) == 0
    assert (tmp_path / "README.md").read_text() == page


@pytest.mark.slow
def test_a_big_sweep_gives_a_small_page(tmp_path):
    values = {"lr": [0.001, 0.003, 0.01, 0.03, 0.1], "batch_size": [32, 64, 128, 256]}
    values |= {"optimizer": ["AdamW", "SGD"], "image_size": [32, 64, 96, 128, 160]}
    frame = runs_of(
        grid(values, range(3), model_name="vit_base_patch16_224.augreg_in21k_ft_in1k"),
        lambda c: 80 + c.image_size / 100 + (c.seed * 7 + c.batch_size) % 5 / 10,
    )
    frame.to_csv(tmp_path / "results.csv", index=False)
    source = SavedReport(tmp_path / "results.csv")
    result = report_folder.write(source, source.frame(), tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert len(result.recipes) == 200 and len(page) < 100_000
    above = page.partition("## Results")[2].partition("<details>")[0]
    assert (
        sum(line.startswith("|") and line.split("|")[1].strip().isdigit() for line in above.splitlines())
        == 10
    )
    assert "`results.csv` has the other 90." in page
    assert len(pd.read_csv(tmp_path / "results.csv")) == 600
