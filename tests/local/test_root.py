"""The server's folder: for its owner alone, whatever stood there before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from wandb_tl.local import root as roots
from wandb_tl.local.errors import RootError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")


def modes(folder: Path) -> set[str]:
    """What other users may do with the folder and all that is in it."""
    return {oct(path.stat().st_mode & 0o077) for path in (folder, *folder.rglob("*"))}


def test_a_folder_that_others_can_read_is_closed_to_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    key = roots.read_key(root)
    assert modes(root) == {"0o0"} and capsys.readouterr().err == ""
    (root / "blobs").mkdir()
    for name in ("wandb.sqlite", "wandb.sqlite-wal", "users", "server.log"):
        (root / name).touch()
    for path in (*root.iterdir(), root):
        path.chmod(0o755)
    assert roots.read_key(root) == key and modes(root) == {"0o0"}
    said = capsys.readouterr().err
    assert f"now only you can read {root}" in said and "to get a new key, delete it" in said
    roots.prepare(root)
    assert capsys.readouterr().err == ""


def test_a_folder_that_is_not_ours_alone_is_refused(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "notes.txt").touch()
    project.chmod(0o755)
    with pytest.raises(RootError, match="others can read the folder"):
        roots.prepare(project)
    assert project.stat().st_mode & 0o777 == 0o755
    # Who could write to it may have put a key of their own there.
    (project / "key").write_text("0" * 64)
    project.chmod(0o777)
    with pytest.raises(RootError, match="others can write to the folder"):
        roots.read_key(project)
    if os.geteuid() == 0:
        project.chmod(0o700)
        os.chown(project, 65534, 65534)
        with pytest.raises(RootError, match="belongs to another user"):
            roots.prepare(project)


@pytest.mark.parametrize("name", ["key", "users", "server.log", "wandb.sqlite", "blobs"])
def test_no_link_is_followed(tmp_path: Path, name: str) -> None:
    root, victim = tmp_path / "root", tmp_path / "victim"
    roots.prepare(root)
    victim.write_text("1" * 64)
    (root / name).symlink_to(victim)
    with pytest.raises(RootError, match=f"{name} is a link"):
        roots.read_key(root)
    assert victim.read_text() == "1" * 64
