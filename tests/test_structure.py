"""Who may import whom: the rules that keep the rooms of the package apart, read off its imports."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "wandb_tl"

# The rooms of the package, each with the rooms that its modules may import besides their own.
FOUNDATION = {
    "errors",
    "signals",
    "loading",
    "run_states",
    "hyperparameters",
    "model_kwargs",
    "recipe_options",
    "config",
    "cache_folder",
    "command_line",
    "progress",
    "temporary_folder",
    "wandb_process",
}
ROOMS = {
    "pictures": {"errors", "config", "cache_folder", "progress"},
    "training": {
        "wandb_process",
        "errors",
        "signals",
        "run_states",
        "config",
        "cache_folder",
        "progress",
        "pictures",
    },
    "figures": {"errors", "config", "pictures", "training"},
    "analysis": {"wandb_process", "errors", "hyperparameters", "run_states", "config", "progress", "figures"},
    "sweeping": {
        "loading",
        "wandb_process",
        "temporary_folder",
        "errors",
        "run_states",
        "hyperparameters",
        "config",
        "progress",
    },
    "predicting": {"errors", "config", "pictures", "training", "analysis"},
    "exporting": {"errors", "config", "pictures", "training", "analysis", "predicting"},
    "local": set(),
    "presets": set(),
}
MODULES = {
    "errors": set(),
    "progress": set(),
    "signals": {"errors"},
    "loading": {"signals"},
    "run_states": set(),
    "hyperparameters": {"errors"},
    "model_kwargs": {"errors"},
    "recipe_options": {"errors", "hyperparameters", "model_kwargs"},
    "config": {"errors", "hyperparameters", "model_kwargs", "recipe_options"},
    "cache_folder": {"errors"},
    "command_line": {"errors", "loading", "signals", "temporary_folder", "wandb_process"},
    "temporary_folder": {"errors", "cache_folder"},
    "wandb_process": {"errors"},
}
COMMANDS = {
    *(
        "__init__",
        "__main__",
        "train",
        "fitting",
        "agent",
        "run_sweep",
        "export_table",
        "report",
        "inspect_data",
    ),
    *("predict", "rank", "seed_rounds", "serving", "soup", "sweep_agents", "sweep_checks"),
}
# Inside the embedded server.
LOCAL_ROOMS = {
    "records": {"errors"},
    "sweeps": {"errors", "records"},
    "artifacts": {"errors", "records"},
    "runs": {"errors", "records", "sweeps"},
    "api": {"errors", "records", "sweeps", "artifacts", "runs"},
    "pages": {"errors", "access", "records", "sweeps", "artifacts", "runs"},
    "upkeep": {"errors", "root", "records", "sweeps", "artifacts"},
    "push": {"errors", "addresses", "root", "records", "sweeps", "artifacts", "runs", "upkeep"},
}
LOCAL_MODULES = {
    "errors": set(),
    "connection_owner": set(),
    "access": {"connection_owner"},
    "gate": {"access"},
    "addresses": set(),
    "root": {"errors"},
    "watch": {"errors", "records", "artifacts", "runs"},
    "answer": {"errors", "root"},
    "bodies": {"errors", "records"},
    "connections": set(),
    "app": {"errors", "access", "bodies", "gate", "records", "sweeps", "artifacts", "runs", "api", "pages"},
    "server": {
        *("errors", "access", "addresses", "root", "watch", "app", "connections", "records", "artifacts")
    },
    "__main__": {"errors", "addresses", "root", "server", "answer", "push", "upkeep"},
}
# Who speaks to W&B; nobody else imports its client.
SPEAKS_TO_WANDB = {
    "wandb_process",
    *("training.run_lifecycle", "training.tracking", "training.logged_images", "training.logged_tables"),
    "training.checkpoint_copy",
    *("training.ranking_run", "training.soup_run", "analysis.results", "analysis.wandb_report"),
    *("sweeping.work_queue", "sweeping.equal_runs", "sweeping.sweep_scheduler"),
}


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


def imports(file: Path) -> set[str]:
    """The modules that a file imports, wherever in it; of `from wandb_tl.x import y` both x and x.y."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def rooms_imported(file: Path, package: str) -> set[str]:
    """The modules and folders directly below a package that a file imports."""
    depth = package.count(".") + 1
    return {name.split(".")[depth] for name in imports(file) if name.startswith(f"{package}.")}


FILES = sorted(file for file in PACKAGE.rglob("*.py"))


def test_every_folder_and_module_is_covered():
    top = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert top == set(ROOMS)
    assert {file.stem for file in PACKAGE.glob("*.py")} == COMMANDS | FOUNDATION
    local = {path.name for path in (PACKAGE / "local").iterdir() if path.is_dir()} - {"__pycache__"}
    assert local == set(LOCAL_ROOMS)
    assert {file.stem for file in (PACKAGE / "local").glob("*.py")} == {"__init__", *LOCAL_MODULES}


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_imports_keep_to_the_rules(file: Path):
    name = module_name(file)
    room, _, _ = name.partition(".")
    imported = rooms_imported(file, "wandb_tl")
    if room in ROOMS:
        allowed = ROOMS[room] | {room}
    elif room in COMMANDS:
        allowed = (FOUNDATION | COMMANDS | set(ROOMS)) - {"local"}
        imported -= {"__version__"}
    else:
        allowed = MODULES[room] | {room}
    assert imported <= allowed


@pytest.mark.parametrize("file", sorted((PACKAGE / "local").rglob("*.py")), ids=module_name)
def test_imports_inside_the_embedded_server_keep_to_the_rules(file: Path):
    room = file.relative_to(PACKAGE / "local").with_suffix("").parts[0]
    allowed = {room} | (LOCAL_ROOMS | LOCAL_MODULES | {"__init__": set()})[room]
    assert rooms_imported(file, "wandb_tl.local") <= allowed


def test_who_imports_wandb():
    importers = {
        module_name(file)
        for file in FILES
        if any(name.split(".")[0] in ("wandb", "wandb_workspaces") for name in imports(file))
    }
    assert importers == SPEAKS_TO_WANDB


def test_no_circle_of_imports():
    """A module never imports, directly or through others, a module that imports it when it is loaded."""
    names = {module_name(file): file for file in FILES}
    graph = {}
    for name, file in names.items():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        loaded = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "wandb_tl":
                targets = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                loaded |= {target.removeprefix("wandb_tl.") for target in targets}
        graph[name] = loaded & set(names)
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join((*path, name))}"
        if name not in finished:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            finished.add(name)

    for name in graph:
        visit(name, ())
