import itertools

from wandb_tl.config import RunConfig
from wandb_tl.sweeping import equal_points, more_seeds, sweep_definitions

SEARCH = sweep_definitions.load("tune", [])
CONFIGS = [
    RunConfig(lr=0.1 + 0.2, optimizer="SGD", val_fraction=0.2, data_dir="/a b/c", dataset="folder", seed=5),
    RunConfig(lr=1e-7, optimizer="Adam", val_fraction=0.2, data_dir="/a b/c", dataset="folder"),
    RunConfig(lr=0.01, unfreeze="2", val_fraction=0.2, data_dir="/it's", dataset="folder", pretrained=False),
]


def test_the_grid_has_each_recipe_with_each_seed_and_nothing_else():
    name = more_seeds.round_name("abc", 3)
    definition = more_seeds.grid(SEARCH, name, CONFIGS, [3, 4])
    parameters = definition["parameters"]
    assert set(parameters) == {"recipe", "seed", "dataset", "val_fraction"}
    values = [spec.get("values", [spec.get("value")]) for spec in parameters.values()]
    points = [dict(zip(parameters, point, strict=True)) for point in itertools.product(*values)]
    # As an agent passes them on: strings.
    runs = [RunConfig.from_flags({key: str(value) for key, value in point.items()}) for point in points]
    wanted = [config.as_dict() | {"seed": seed} for config in CONFIGS for seed in (3, 4)]
    assert sorted(map(str, wanted)) == sorted(str(config.as_dict()) for config in runs)
    assert equal_points.count(definition)[:3] == (6, 6, 0)
    # What stops runs early, or ends the search, is not about these runs.
    assert set(definition) == {"name", "method", "parameters", "program", "command", "metric"}
    assert sweep_definitions.is_plain(definition)


def test_the_sweeps_that_follow_a_search_are_found_by_their_names():
    repeat = more_seeds.grid(SEARCH, more_seeds.round_name("abc", 3), CONFIGS, [3])
    confirmation = more_seeds.grid(SEARCH, more_seeds.confirmation_name("abc"), CONFIGS[:1], [6, 7])
    # A user may name a sweep of their own much like them.
    copy = {"name": "copy of abc", "parameters": {}}
    followers = [one for one in (SEARCH, copy, repeat, confirmation) if more_seeds.follows(one, "abc")]
    assert followers == [repeat, confirmation] and not more_seeds.follows(repeat, "bc")
    assert [more_seeds.is_round(one, "abc") for one in followers] == [True, False]
    assert [more_seeds.seeds_of(one) for one in followers] == [[3], [6, 7]]
    assert more_seeds.is_confirmation(confirmation, "abc", CONFIGS[0])
    assert not more_seeds.is_confirmation(confirmation, "abc", CONFIGS[1])
    assert not more_seeds.is_confirmation(repeat, "abc", CONFIGS[0])
