"""What run_sweep --seeds does after a sweep: repeat its best recipes, and train the winner with fresh seeds.

analysis/races.py decides which recipes go on, and sweeping/more_seeds.py has the sweeps that run them. The
runs and sweeps on the server say what has been decided, so the same command resumes it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wandb_tl import sweep_agents
from wandb_tl.errors import ExitCode, InputError
from wandb_tl.sweeping import more_seeds

if TYPE_CHECKING:
    from wandb_tl.analysis.races import Race
    from wandb_tl.analysis.results import Results
    from wandb_tl.config import RunConfig


class Rounds:
    """A search that has ended, and the sweeps that follow it.

    search_id: of its sweep. definitions: of the sweeps that follow it, by ENTITY/PROJECT/SWEEP. InputError if
    its recipes cannot be judged by their mean over seeds.
    """

    def __init__(self, search: Results) -> None:
        from wandb_tl.analysis import races
        from wandb_tl.sweeping.work_queue import sweeps_beside

        self._search, self._frame = search, search.frame()
        self.search_id = search.path.split("/")[-1]
        if self._frame["seed"].nunique() > 1:
            raise InputError("--seeds: the sweep's runs have several seeds already")
        self._seed = int(self._frame["seed"].iloc[0])
        first = races.race(self._frame, [self._seed])
        if "seed" in first.winner.config.without_effect:
            raise InputError("--seeds: the results of the sweep's best recipe do not depend on its seed")
        self.definitions: dict[str, dict[str, Any]] = {
            path: definition
            for path, definition in sweeps_beside(search.path).items()
            if more_seeds.follows(definition, self.search_id)
        }

    @property
    def repeats(self) -> dict[int, str]:
        """The sweeps that repeat recipes with another seed, by that seed, in order."""
        paths = {
            more_seeds.seeds_of(definition)[0]: path
            for path, definition in self.definitions.items()
            if more_seeds.is_round(definition, self.search_id)
        }
        return dict(sorted(paths.items()))

    def race(self) -> Race:
        """The race so far. All sweeps that repeat recipes must have ended."""
        import pandas as pd

        from wandb_tl.analysis import races
        from wandb_tl.analysis.results import Results

        frames = [self._frame, *(Results(path).frame() for path in self.repeats.values())]
        joined = pd.concat(frames, ignore_index=True)
        joined.attrs = self._frame.attrs
        return races.race(joined, [self._seed, *self.repeats])

    def fresh_seeds(self) -> list[int]:
        """Seeds that neither the search nor a sweep that follows it has used."""
        from wandb_tl.analysis import next_search

        followers = {seed for one in self.definitions.values() for seed in more_seeds.seeds_of(one)}
        return next_search.fresh_seeds({self._seed, *followers})

    def repeat(self, configs: Sequence[RunConfig], seed: int) -> str:
        """Create the sweep that repeats recipes with a seed; returns its path."""
        return self._create(more_seeds.round_name(self.search_id, seed), configs, [seed])

    def confirm(self, config: RunConfig) -> str:
        """Create the sweep that trains a recipe with fresh seeds, unless there is one; returns its path."""
        for path, definition in self.definitions.items():
            if more_seeds.is_confirmation(definition, self.search_id, config):
                return path
        return self._create(more_seeds.confirmation_name(self.search_id), [config], self.fresh_seeds())

    def _create(self, name: str, configs: Sequence[RunConfig], seeds: Sequence[int]) -> str:
        from wandb_tl.sweeping.work_queue import create_sweep

        definition = more_seeds.grid(self._search.definition(), name, configs, seeds)
        path = create_sweep(definition, self._search.path)
        self.definitions[path] = dict(definition)
        return path


def run(search: Results, options: argparse.Namespace, command: str) -> int:
    """Repeat the best recipes of a sweep with up to options.seeds seeds, then confirm the winner.

    command: what resumes the sweep. InputError if its recipes cannot be judged. FAILED if a run did not
    finish; resumed, the race goes on without recipes whose runs fail again.
    """
    from wandb_tl.analysis import races, report_folder
    from wandb_tl.export_table import check_targets, export, last_lines

    confirmed = options.reports and options.reports / "confirmation"
    check_targets(confirmed, None)
    rounds = Rounds(search)
    with sweep_agents.resumable(command):
        for path in rounds.repeats.values():
            failed = failed_alone(path)
            if finish(path, options, command):
                continue
            if not failed or failed_alone(path) != failed:
                return ExitCode.FAILED
            print("They failed again: the race goes on without their recipes.", file=sys.stderr)
        while len((race := rounds.race()).seeds) < options.seeds and len(race.going_on) > 1:
            seed = rounds.fresh_seeds()[0]
            print(races.next_seed(race, seed), flush=True)
            if not finish(rounds.repeat([one.config for one in race.going_on], seed), options, command):
                return ExitCode.FAILED
        print_ranking(race, options)
        path = rounds.confirm(race.winner.config)
        seeds = ", ".join(map(str, more_seeds.seeds_of(rounds.definitions[path])))
        print(f"\nRow 1 trains again with seeds that have not chosen it: {seeds}.", flush=True)
        if not finish(path, options, command):
            return ExitCode.FAILED
    answer = export(_results(path), confirmed)
    if options.reports:
        report_folder.point_to(options.reports, races.where_it_went_on(race))
    print("", races.confirmed(race).replace("`", ""), *last_lines(answer), sep="\n")
    return ExitCode.OK


def finish(path: str, options: argparse.Namespace, command: str) -> bool:
    """Run what a sweep lacks. Whether it has all runs then; if not, they are printed with the command."""
    from wandb_tl.sweeping.work_queue import resume_sweep

    results = _results(path)
    finished = sum(status.finished for status in results.statuses().values())
    if finished == results.expected_runs():
        return True
    resume_sweep(path)
    outcome = sweep_agents.run_agents(results, options)
    if not outcome.is_complete:
        outcome.print_missing(command)
    return outcome.is_complete


def failed_alone(path: str) -> set[str]:
    """The runs of a sweep that have failed, by id, if all others have finished; otherwise none."""
    results = _results(path)
    statuses = results.statuses()
    failed = {run_id for run_id, status in statuses.items() if status.ended and not status.finished}
    is_all = len(statuses) == results.expected_runs() and all(one.ended for one in statuses.values())
    return failed if is_all else set()


def print_ranking(race: Race, options: argparse.Namespace) -> None:
    """Print the recipes of a race, and write them into the folder of the report."""
    from wandb_tl.analysis import races

    text = f"{races.ranking(race)}\n\n{races.conclusion(race, options.seeds)}"
    print(text.replace("`", ""), flush=True)
    if options.reports:
        (options.reports / "seeds.md").write_text(f"{text}\n", encoding="utf-8")


def _results(path: str) -> Results:
    from wandb_tl.analysis.results import Results

    return Results(path)
