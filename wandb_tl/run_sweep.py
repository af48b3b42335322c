"""python -m wandb_tl.run_sweep: a whole sweep in one command - server, sweep, agents, table."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tqdm import tqdm

from wandb_tl import agents, backend
from wandb_tl.config import InputError, Parser, check_names, check_value

if TYPE_CHECKING:
    from wandb_tl.results import Results

PRESETS = Path(__file__).parent / "sweeps"
LOGS = Path("wandb")
POLL_SECONDS = 3
ENDED = ("finished", "failed", "crashed", "killed")


def main(arguments: list[str] | None = None) -> int:
    """Run a sweep. Exit code 0 if every run finished, 1 if not, 2 for bad input, 130 if interrupted."""
    try:
        options = parse(arguments)
        definition = None if is_path(options.sweep) else load_definition(options.sweep, options.set)
        make_log_folder()
        with contextlib.ExitStack() as stack:
            if options.local:
                os.environ.update(stack.enter_context(backend.serving(options.root, LOGS)))
            # The agents' `python` must be the one that runs this, whether or not its environment is active.
            os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            return run(definition, options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def make_log_folder() -> None:
    """Where wandb and this command write, below the current folder. InputError if that cannot be."""
    try:
        LOGS.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {Path.cwd()}: {error.strerror}") from error


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = Parser(
        prog="python -m wandb_tl.run_sweep",
        description="Create a W&B sweep, run its agents on this machine, and print the table of its results.",
        epilog="Example: laptop --local --set seed=0,1,2 --reports reports. What the agents say is written "
        "to ./wandb. Interrupted by Ctrl-C, it says how to go on.",
    )
    parser.add_argument(
        "sweep",
        metavar="SWEEP",
        help=f"a sweep YAML file, a preset ({presets()}), or ENTITY/PROJECT/SWEEP to go on with one",
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="use the embedded W&B-compatible server on this machine, started unless it runs already: no "
        "account, no network",
    )
    parser.add_argument(
        "--root", help="folder where the embedded server keeps the runs (default: see wandb_tl.local --help)"
    )
    parser.add_argument(
        "--agents", type=int, help="how many to run at a time (default: one a GPU, or two on a CPU)"
    )
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="all runs of an agent in one process, which keeps images, activations and the GPU's state",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE…]",
        help="fix a hyperparameter of the sweep, or give the values it takes; may be repeated",
    )
    parser.add_argument(
        "--reports", type=Path, metavar="DIR", help="write a report there: README.md, CSV, LaTeX, figures"
    )
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the table between its markers there")
    options = parser.parse_args(arguments)
    if options.agents is not None and options.agents < 1:
        parser.error(f"--agents: got {options.agents}, takes a whole number >= 1")
    if options.set and is_path(options.sweep):
        parser.error(f"--set: {options.sweep} exists, and its hyperparameters are fixed")
    return options


def presets() -> str:
    """The names of the sweeps that come with the package."""
    return ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))


def is_path(sweep: str) -> bool:
    """Whether this is ENTITY/PROJECT/SWEEP, a sweep that exists, and not a file or a preset."""
    return bool(re.fullmatch(r"[^/.][^/]*/[^/]+/[^/]+", sweep)) and not sweep.endswith((".yaml", ".yml"))


def load_definition(sweep: str, settings: list[str]) -> dict[str, Any]:
    """A sweep definition with the settings put in, its hyperparameters checked. InputError if it is bad."""
    file = Path(sweep) if sweep.endswith((".yaml", ".yml")) else PRESETS / f"{sweep}.yaml"
    try:
        definition = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{sweep}: no such sweep file or preset; the presets are {presets()}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(definition, dict) or not isinstance(definition.get("parameters"), dict):
        raise InputError(f"{file}: not a W&B sweep definition (it has no parameters)")
    for setting in settings:
        name, equals, values = setting.partition("=")
        if not (name and equals):
            raise InputError(f"--set {setting}: takes NAME=VALUE")
        choices = [check_value(name, value) for value in values.split(",")]
        definition["parameters"][name] = {"values": choices} if len(choices) > 1 else {"value": choices[0]}
    for name, parameter in definition["parameters"].items():
        choices = parameter.get("values", []) if isinstance(parameter, dict) else None
        if not isinstance(choices, list):
            raise InputError(f"{file}: parameter {name} takes value, values (a list), or a distribution")
        check_names([str(name)])
        # The bounds of these distributions are exponents, not values.
        exponents = parameter.get("distribution") in ("log_uniform", "q_log_uniform", "inv_log_uniform")
        ends = [parameter[key] for key in ("value", "min", "max") if key in parameter and not exponents]
        for value in [*choices, *ends]:
            check_value(name, value)
    return definition


def run(definition: dict[str, Any] | None, options: argparse.Namespace) -> int:
    """Create the sweep unless it exists, run its agents to the end, print the table.

    Exit code 0 if every run finished.
    """
    # wandb reads its environment when it is imported, and the embedded server's is known only now.
    from wandb_tl.export_table import check_targets, export
    from wandb_tl.results import Results

    check_targets(options.reports, options.readme)
    began = time.monotonic()
    path = create_sweep(definition) if definition else options.sweep
    results = Results(path)
    total = results.expected_runs()
    # Before there are agents: whatever fails from then on has to stop them.
    page = backend.page_link(path, options.root) if options.local else None
    running, logs = agents.start(path, options.agents, options.in_process, LOGS)
    print(f"Sweep {path}; its agents write to {', '.join(map(str, logs))}")
    if page:
        print(f"Follow it at {page}", flush=True)
    try:
        states = watch(running, results, total, logs)
    except BaseException:
        # A terminal that is closed may say so twice: what is being stopped is stopped to its end.
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
        agents.stop(running)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        print(f"\nThe sweep keeps what it has. To go on: {to_go_on(path, options)}", file=sys.stderr)
        raise
    finished = sum(state == "finished" for state, _ in states.values())
    stopped = sum(state == "killed" for state, _ in states.values()) if results.ends_early() else 0
    told = f", {stopped} stopped early" if stopped else ""
    print(f"{finished} runs finished{told}, after {time.monotonic() - began:,.0f} s\n")
    missing = max(total or 0, len(states)) - finished - stopped
    if finished:
        export(results, options.reports, options.readme)
    if options.local:
        again = backend.as_typed("wandb_tl.local", *backend.to_open(path, options.root))
        print(f"\nThe runs are kept; to look at them: {again}")
    if missing:
        runs = "1 run" if missing == 1 else f"{missing} runs"
        print(f"error: {runs} did not finish; see {', '.join(map(str, logs))}", file=sys.stderr)
    return 1 if missing else 0


def to_go_on(path: str, options: argparse.Namespace) -> str:
    """The command that goes on with an interrupted sweep as it was begun."""
    given = [flag for flag in ("--local", "--in-process") if getattr(options, flag[2:].replace("-", "_"))]
    for name in ("root", "agents", "reports", "readme"):
        if (value := getattr(options, name)) is not None:
            given += [f"--{name}", str(value)]
    return backend.as_typed("wandb_tl.run_sweep", path, *given)


def create_sweep(definition: dict[str, Any]) -> str:
    """ENTITY/PROJECT/SWEEP of a new sweep, made by `wandb sweep`."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(definition, file, sort_keys=False)
        file.flush()
        command = [sys.executable, "-m", "wandb", "sweep", file.name]
        made = subprocess.run(command, capture_output=True, text=True)
    text = made.stdout + made.stderr
    found = re.search(r"wandb agent (\S+/\S+/\S+)", text)
    if made.returncode or not found:
        raise InputError(f"wandb sweep: {backend.last_line(text)}")
    for violation in re.findall(r".*violation.*", text, re.IGNORECASE):
        print(violation, file=sys.stderr)
    return found[1]


def watch(
    running: list[subprocess.Popen], results: Results, total: int | None, logs: list[Path]
) -> dict[str, tuple[str, str]]:
    """Wait for the agents to end; say which run has, and why one could not.

    Returns state and name of every run, by id.
    """
    told: set[tuple[str, str]] = set()
    errors = error_lines(logs)
    states: dict[str, tuple[str, str]] = {}
    with tqdm(total=total, unit="run", disable=None) as progress:
        while True:
            working = any(agent.poll() is None for agent in running)
            try:
                states = results.states()
            except InputError:
                # The agents wait for a server that is away for a while, and so does this.
                if not working:
                    raise
            for run_id, (state, name) in states.items():
                if state in ENDED and (run_id, state) not in told:
                    told.add((run_id, state))
                    tqdm.write(f"{state}: {name}")
            found = error_lines(logs)
            for line in sorted(found - errors):
                tqdm.write(line, file=sys.stderr)
            errors |= found
            # A run that crashed may be handed out again: it counts as long as it has ended.
            progress.update(sum(state in ENDED for state, _ in states.values()) - progress.n)
            if not working:
                return states
            time.sleep(POLL_SECONDS)


def error_lines(logs: list[Path]) -> set[str]:
    """The lines in which runs said why they could not go on."""
    texts = [log.read_text(errors="replace") for log in logs]
    # Only whole lines: a run may be writing one right now.
    lines = {line for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")}
    return {line.rstrip() for line in lines if line.startswith("error: ")}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A closed terminal too, unless it is ignored, as under nohup.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    sys.exit(main())
