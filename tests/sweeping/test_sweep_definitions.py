"""Sweep definitions: what the presets hold, settings, and refusals in one line."""

import pytest
import yaml

from wandb_tl.config import RunConfig
from wandb_tl.errors import InputError
from wandb_tl.local.sweeps import config_check, grid
from wandb_tl.sweeping.sweep_definitions import data_configs, load


@pytest.mark.parametrize("preset", ["laptop", "as_published"])
def test_presets_hold_the_eight_recipes(preset):
    definition = load(preset, [])
    assert grid.grid_size(definition) == 8
    first = {name: p.get("values", [p.get("value")])[0] for name, p in definition["parameters"].items()}
    RunConfig.from_mapping(first)


def test_seeds_repeats_its_recipes_and_tune_selects_on_what_no_run_trains_on():
    seeds = load("seeds", [])
    assert grid.grid_size(seeds) == 10 and len(seeds["parameters"]["seed"]["values"]) == 5
    tune = load("tune", [])
    assert tune["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    assert tune["parameters"]["val_fraction"]["value"] > 0
    assert tune["early_terminate"]["min_iter"] < tune["parameters"]["epochs"]["value"]


def test_pareto_has_two_objectives_that_no_test_image_decides_and_is_accepted():
    pareto = load("pareto", ["image_size=32,48"])
    assert config_check.check(yaml.safe_dump(pareto)) == []
    assert [one["name"] for one in pareto["metrics"]] == ["val/accuracy", "images_per_second"]
    assert pareto["parameters"]["val_fraction"]["value"] > 0 and "value" in pareto["parameters"]["epochs"]
    optuna = pytest.importorskip("optuna", reason="needs the extra scheduler")
    from wandb.sdk.sweeps.scheduler import optuna as engine

    # As the scheduler reads it; its first suggestion is a recipe.
    study = engine.create_study_from_sweep_config(pareto)
    assert [one.name for one in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    trial = study.ask(engine.search_space_from_sweep_config(pareto["parameters"]))
    RunConfig.from_mapping(trial.params)
    # Not at random: NSGA-II would need more runs than this for its first generation.
    assert isinstance(study.sampler, optuna.samplers.TPESampler)


CONDITIONAL = """program: wandb_tl/train.py
method: custom
scheduler: {engine: optuna, source: space.py, search_space: space}
metric: {name: val/accuracy, goal: maximize}
"""


def test_conditional_space_needs_no_parameters_and_takes_no_settings(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(CONDITIONAL)
    definition = load(str(file), [])
    assert "parameters" not in definition and len(data_configs(definition)) == 1
    with pytest.raises(
        InputError, match=r"--set lr=1: the function space \(scheduler.search_space\) sets the"
    ):
        load(str(file), ["lr=1"])
    file.write_text(CONDITIONAL.replace(", search_space: space", ""))
    with pytest.raises(InputError, match="it has no parameters"):
        load(str(file), [])


def test_settings_replace_parameters():
    settings = ["epochs=2", "optimizer=SGD", "seed=0,1,2", "pretrained=true"]
    definition = load("laptop", settings)
    parameters = definition["parameters"]
    assert parameters["epochs"] == {"value": 2} and parameters["seed"] == {"values": [0, 1, 2]}
    assert grid.grid_size(definition) == 6


def test_folds_replace_the_fraction_that_a_preset_holds_out():
    definition = load("pictures", ["fold=1/3,2/3,3/3", "data_dir=/pictures"])
    assert "val_fraction" not in definition["parameters"]
    assert {config.fold for config in data_configs(definition)} == {"1/3", "2/3", "3/3"}
    both = load("pictures", ["fold=1/3", "val_fraction=0.2", "data_dir=/pictures"])
    with pytest.raises(InputError, match="fold: it says which images are held out; leave val_fraction out"):
        data_configs(both)


@pytest.mark.parametrize("preset", ["seeds", "laptop", "as_published"])
def test_a_preset_with_validation_images_is_chosen_by_them(preset):
    """As its report orders the recipes, so that the page of the sweep names the same winner."""
    for held_out in ("val_fraction=0.2", "val_fraction=0.1,0.2", "fold=1/2,2/2"):
        assert load(preset, [held_out])["metric"] == {"name": "val/accuracy", "goal": "maximize"}
    for none in ([], ["val_fraction=0"], ["val_fraction=0,0.2"]):
        assert load(preset, none)["metric"]["name"] == "test/accuracy"


def test_the_metric_of_a_file_stays_as_it_is(tmp_path):
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(load("seeds", [])))
    definition = load(str(tmp_path / "sweep.yaml"), ["val_fraction=0.2"])
    assert definition["metric"]["name"] == "test/accuracy"


def test_a_folder_of_pictures_is_one_value_and_makes_a_preset_train_on_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    parameters = load("laptop", ["data_dir=~/oak, pine"])["parameters"]
    # Absolute, because agents may work in another folder.
    assert parameters["data_dir"] == {"value": f"{tmp_path}/oak, pine"}
    assert parameters["dataset"] == {"value": "folder"}
    artifact = load("pictures", ["data_dir=artifact:me/p/leaves:v3"])["parameters"]["data_dir"]
    assert artifact == {"value": "artifact:me/p/leaves:v3"}
    weights = load("pictures", ["data_dir=x", "weights_file=me/p/model-abc:latest"])["parameters"][
        "weights_file"
    ]
    assert weights == {"value": "me/p/model-abc:latest"}


def test_configs_of_all_images_that_a_sweep_uses():
    settings = ["data_dir=/a", "image_size=32,64", "batch_size=8,16", "lr=0.1,0.2"]
    configs = data_configs(load("pictures", settings))
    assert {(config.image_size, config.batch_size) for config in configs} == {
        (32, 8),
        (32, 16),
        (64, 8),
        (64, 16),
    }
    assert len(configs) == 4 and {config.data_dir for config in configs} == {"/a"}


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (None, [], "no such sweep file or preset"),
        ("a: [", [], "not YAML"),
        (b"a: \xff", [], "not YAML"),
        ("- a list", [], "not a W&B sweep definition"),
        ("program: p.py\nparameters: {lr: 0.1}", [], "parameter lr takes"),
        (
            "program: p.py\nparameters: {learning_rate: {value: 0.1}}",
            [],
            "learning_rate: no such hyperparameter",
        ),
        ("program: p.py\nparameters: {optimizer: {values: [Adam, Lion]}}", [], "optimizer: got 'Lion'"),
        ("program: p.py\nparameters: {lr: {min: -1, max: 1}}", [], "lr: got -1"),
        ("program: p.py\nparameters: {lr: {values: 0.1}}", [], "parameter lr takes"),
        ("program: p.py\nparameters: {1: {value: 0.1}}", [], "1: no such hyperparameter"),
        ("program: p.py\nparameters: {epochs: {value: .inf}}", [], "epochs: got inf"),
        ("parameters: {lr: {value: 1}}", [], "has no program; add the line `program: wandb_tl/train.py`"),
        ("program: p.py\nparameters: {lr: {value: 1}}", ["lr"], "takes NAME=VALUE"),
        ("program: p.py\nparameters: {lr: {value: 1}}", ["lr=fast"], "lr: got 'fast'"),
        (
            "program: p.py\nparameters: {seed: {value: 1}}",
            ["seed=0-2"],
            "; to try several values, --set seed=0,1,2",
        ),
    ],
)
def test_bad_definitions_are_refused_in_one_line(tmp_path, content, settings, message):
    file = tmp_path / "sweep.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as refusal:
        load(str(file), settings)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)
