"""What to run next, and that the commands do it."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import certainty, commands, conclusions, next_runs, report_folder
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.intervals import Mean
from wandb_tl.analysis.next_runs import seeds_to_settle
from wandb_tl.config import FIELDS, RunConfig
from wandb_tl.sweeping import sweep_definitions


def configs_of(command):
    """The runs that a run_sweep command would start."""
    preset, *arguments = command.arguments
    assert command.module == "wandb_tl.run_sweep" and set(arguments[::2]) == {"--set"}
    parameters = sweep_definitions.load(preset, list(arguments[1::2]))["parameters"]
    values = [one["values"] if "values" in one else [one["value"]] for one in parameters.values()]
    return [RunConfig(**dict(zip(parameters, point, strict=True))) for point in itertools.product(*values)]


def recipe(config):
    values = {**config.as_dict(), **dict.fromkeys(config.without_effect)}
    return {name: value for name, value in values.items() if name != "seed"}


def test_the_preset_sets_what_the_commands_overwrite():
    assert set(sweep_definitions.load(commands.PRESET, [])["parameters"]) == set(commands.SET_BY_PRESET)


def test_a_lead_that_is_not_settled_gets_the_seeds_that_it_needs():
    # The two best ones differ by half a point, more or less from seed to seed.
    differences = [0.5 + 0.55 * x for x in (-1, -0.5, 0, 0.5, 1)]
    frame = runs_of(
        grid(GRID, lr=0.01, augment="flip", image_size=96),
        lambda c: 80 + 5 * c.pretrained + 4 * c.finetuning + (c.optimizer == "SGD") * differences[c.seed],
    )
    plan = answer(frame, "a/b/c").next_runs
    seeds = seeds_to_settle(Mean(0.5, float(np.std(differences, ddof=1)), 0, 5))
    assert plan.row == 2 and plan.varies is None and plan.seeds == seeds
    started = configs_of(plan.command)
    assert len(started) == plan.runs == 2 * seeds
    assert {config.seed for config in started} == set(range(5, 5 + seeds))
    expected = [
        RunConfig(finetuning=True, optimizer=o, lr=0.01, augment="flip", image_size=96)
        for o in ("SGD", "Adam")
    ]
    assert {str(recipe(config)) for config in started} == {str(recipe(config)) for config in expected}


def test_after_a_probe_its_last_stage_trains():
    recipes = grid({"image_size": [64, 96]}, [0], optimizer="probe", finetuning=False)
    frame = runs_of(recipes, lambda c: 80 + c.image_size / 10)
    result = answer(frame, "a/b/c")
    started = configs_of(result.next_runs.command)
    assert len(started) == result.next_runs.runs == 10 and {config.image_size for config in started} == {96}
    assert all(config.finetuning and config.stages_to_open == 1 for config in started)
    assert {config.classifier_start for config in started} == {"probe", "random"}
    step = "to train the last stage too, from this classifier and from a random one (10 runs)"
    assert conclusions.next_step(result) == step
    assert "No run draws random numbers" in " ".join(certainty.sentences(result))
    few = answer(frame.assign(train_images=39), "a/b/c").next_runs
    assert {config.batch_size for config in configs_of(few.command)} == {32}
    both = grid({"optimizer": ["probe", "AdamW"]}, [0], finetuning=False)
    mixed = answer(runs_of(both, lambda c: 80 + (c.optimizer == "probe")), "a/b/c")
    assert "how another seed would come out is unknown" in " ".join(certainty.sentences(mixed))


def test_where_all_is_settled_a_hyperparameter_that_never_varied_is_next():
    frame = runs_of(grid(GRID), lambda c: 80 + 5 * c.pretrained + 3 * c.finetuning + (c.optimizer == "SGD"))
    plan = answer(frame, "a/b/c").next_runs
    assert (plan.row, plan.varies) == (None, "lr") and "lr" in plan.never_varied
    assert "optimizer" not in plan.never_varied
    assert {config.lr for config in configs_of(plan.command)} == {0.0003, 0.001, 0.003}
    assert len(configs_of(plan.command)) == plan.runs == 15
    assert set(next_runs.WORTH_VARYING) <= set(FIELDS)


def test_the_number_of_seeds_has_the_power_that_simulation_gives():
    difference = Mean(1.0, 0.8, math.nan, 5)
    seeds = seeds_to_settle(difference)
    draws = np.random.default_rng(0).normal(1.0, 0.8, size=(20_000, seeds))
    power = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    fewer = np.mean(stats.ttest_1samp(draws[:, : seeds - 1], 0, axis=1).pvalue < 0.05)
    assert fewer < 0.8 <= power + 0.01
    assert seeds_to_settle(Mean(0.01, 0.8, math.nan, 5)) is None
    # They are new ones, however many there have been.
    assert seeds_to_settle(Mean(1.0, 0.8, 0, 12)) == seeds
    assert seeds_to_settle(Mean(1.0, math.nan, math.nan, 1)) == seeds_to_settle(Mean(9.0, 0.1, 1, 2)) == 5


def test_what_python_code_handed_over_has_no_command():
    frame = runs_of(grid({"lr": [0.1, 0.01]}, model_name="own:Net"), lambda c: 80 + c.lr)
    result = answer(frame, "a/b/c")
    assert result.train is None and result.next_runs.command is None and result.next_runs.runs > 0
    assert all(len(tried) > 1 for tried in result.next_runs.values.values())
    assert "run_sweep" not in "".join(report_folder.first_screen(result))
    assert "run_sweep" not in result._repr_html_()


@pytest.mark.parametrize("weights", [True, False])
def test_the_training_command_has_the_recipe_and_nothing_without_effect(weights):
    config = RunConfig(pretrained=weights, lr=0.01, momentum=0.5, seed=3)
    command = commands.train(config, ["pretrained", "optimizer"])
    flags = dict(zip(command.arguments[::2], command.arguments[1::2], strict=True))
    values = {name.removeprefix("--"): value for name, value in flags.items()}
    assert recipe(RunConfig.from_flags(values)) == recipe(config) and values["seed"] == "3"
    assert "momentum" not in values and {"pretrained", "optimizer"} <= set(values)
    assert str(command).startswith("python -m wandb_tl.train --pretrained")
