"""Who may know whom: the rule that keeps the rooms apart, read off the imports."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "wandb_tl"
# Who speaks to W&B; nobody else imports it.
SPEAKS_TO_WANDB = {"tracking", "results", "work_queue", "report"}


def imports(file: Path) -> set[str]:
    """The modules that a file imports, wherever in it it does."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_config_knows_nobody():
    assert not {name for name in imports(PACKAGE / "config.py") if name.startswith("wandb")}


def test_who_imports_wandb():
    importers = {
        file.stem
        for file in PACKAGE.glob("*.py")
        if any(name.split(".")[0] in ("wandb", "wandb_workspaces") for name in imports(file))
    }
    assert importers == SPEAKS_TO_WANDB


def test_the_embedded_backend_stands_alone():
    files = list((PACKAGE / "local").rglob("*.py"))
    known = {name for file in files for name in imports(file) if name.startswith("wandb")}
    assert len(files) > 15 and all(name.startswith("wandb_tl.local") for name in known)
    outside = {name for file in PACKAGE.glob("*.py") for name in imports(file)}
    assert not {name for name in outside if name.startswith("wandb_tl.local")}
