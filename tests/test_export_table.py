"""Where a table is written. Reading it from a server is also in test_end_to_end.py."""

import pytest
from live_server import call
from run_writer import write_run

from wandb_tl import export_table
from wandb_tl.analysis.results import Results
from wandb_tl.errors import ExitCode, InputError

# As after a death of wandb-core whose replacement did not reach the server in time.
STATUSES_AFTER_A_DEATH = """
import json
from wandb_tl import wandb_process
from wandb_tl.analysis.results import Results
results = Results("local/table")
wandb_process.forget()
print(json.dumps(sorted(status.name for status in results.statuses().values())))
"""


def test_readme_is_replaced_between_its_markers_only(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{export_table.README_BEGIN}\nold\n{export_table.README_END}\nbelow\n")
    export_table.replace_between_markers(readme, "new")
    text = f"above\n{export_table.README_BEGIN}\nnew\n{export_table.README_END}\nbelow\n"
    assert readme.read_text() == text and list(tmp_path.iterdir()) == [readme]
    # A run may have the end marker as its name.
    export_table.replace_between_markers(readme, f"`{export_table.README_END}`")
    assert readme.read_text().count(export_table.README_END) == 1
    export_table.replace_between_markers(readme, "new")
    assert readme.read_text() == text


def test_readme_without_markers_is_left_alone(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing to replace\n")
    with pytest.raises(InputError, match="has no"):
        export_table.replace_between_markers(readme, "new")
    assert readme.read_text() == "nothing to replace\n"


def test_a_folder_that_cannot_be_created_is_refused_before_the_runs(tmp_path):
    export_table.check_targets(tmp_path / "a" / "b", None)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot create the folder"):
        export_table.check_targets(tmp_path / "file" / "c", None)


@pytest.mark.parametrize("path", ["project", "a/b/c/d", ""])
def test_paths_that_name_no_project(path):
    with pytest.raises(InputError, match="takes ENTITY/PROJECT"):
        Results(path)


def test_runs_of_the_embedded_server_without_its_environment(server):
    numbers = {"test_accuracy": 80.0, "test_images": 100, "train_images": 50, "train_seconds": 2.0}
    numbers |= {"avg_train_loss": 0.5, "avg_train_accuracy": 0.8, "images_per_second": 10}
    for name, accuracy in (("one", 80.0), ("two", 70.0)):
        config = {"optimizer": "Adam" if name == "one" else "SGD", "seed": 0}
        write_run(server, "table", name, config, [numbers | {"test_accuracy": accuracy}])
    elsewhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "", "WANDB_TL_ROOT": ""}
    flags = ("--local", "--root", str(server.root))
    code, out = call(server, "wandb_tl.export_table", "local/table", *flags, **elsewhere)
    assert code == 0 and "| Adam" in out and "Use row 1: optimizer=Adam." in out, out
    assert f"export_table local/table {' '.join(flags)} --reports reports" in out
    reports = ("--reports", str(server.folder / "reports"))
    code, out = call(server, "wandb_tl.export_table", "local/table", *flags, *reports, **elsewhere)
    assert code == 0 and f"report local/table {' '.join(flags)}\n" in out, out
    assert server.run(STATUSES_AFTER_A_DEATH) == ["one", "two"]


def test_a_file_needs_no_server(capsys):
    assert export_table.COMMAND.main(["results.csv", "--local"]) == ExitCode.BAD_INPUT
    message = "error: --local: results.csv is a file, which needs no server"
    assert capsys.readouterr().err.startswith(message)
