"""Where a table is written. Reading it from a server is in test_end_to_end.py."""

import pytest

from wandb_tl import export_table
from wandb_tl.analysis.results import Results
from wandb_tl.errors import InputError


def test_readme_is_replaced_between_its_markers_only(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{export_table.README_BEGIN}\nold\n{export_table.README_END}\nbelow\n")
    export_table.replace_between_markers(readme, "new")
    text = f"above\n{export_table.README_BEGIN}\nnew\n{export_table.README_END}\nbelow\n"
    assert readme.read_text() == text and list(tmp_path.iterdir()) == [readme]


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
