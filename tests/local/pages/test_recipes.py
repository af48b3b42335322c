"""Groups of runs, means over them and their intervals."""

from __future__ import annotations

import pytest
from scipy import stats

from wandb_tl.local.pages import recipes
from wandb_tl.local.pages.values import Run


def run(number: int, accuracy: float | None, **config: object) -> Run:
    summary = {} if accuracy is None else {"acc": accuracy}
    none: dict = {"tags": [], "group": None, "job_type": None, "sweep": "s", "row": {}}
    return Run(
        f"r{number}",
        f"n{number}",
        "finished",
        0,
        0,
        config,
        summary,
        color=f"#{number:06}",
        dash="solid",
        **none,
    )


@pytest.mark.parametrize("freedom", [2, 3, 4, 5, 9, 19, 100])
def test_quantiles_are_those_of_students_t(freedom: int) -> None:
    assert recipes.t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_a_mean_comes_with_its_interval() -> None:
    values = [0.80, 0.82, 0.81, 0.85, 0.79]
    average = recipes.mean(values)
    low, high = stats.t.interval(0.95, 4, stats.tmean(values), stats.sem(values))
    assert (average.low, average.high, average.n) == (
        pytest.approx(low, abs=1e-4),
        pytest.approx(high, abs=1e-4),
        5,
    )
    assert average.text == "0.814 ± 0.029"
    assert recipes.mean([0.8, 0.9]) == (pytest.approx(0.85), 0.8, 0.9, 2)
    assert recipes.mean([0.8, 0.9]).text == "0.850 (2 runs: 0.800 to 0.900)"
    assert recipes.mean([0.8]) == (0.8, None, None, 1) and recipes.mean([0.8]).text == "0.8"
    assert recipes.mean([0.5, 0.5, 0.5]).text == "0.5000 ± 0.0000"


def test_means_of_very_large_and_very_small_numbers() -> None:
    huge = recipes.mean([1.7e308, 1.7e308, -1.7e308])
    assert huge.value == pytest.approx(1.7e308 / 3) and huge.low is None and huge.text == "5.667e+307"
    assert recipes.mean([1.7e308] * 3).text == "1.7e+308 ± 0"
    assert recipes.mean([-1.7e308, 1.7e308]).text == "0 (2 runs: -1.7e+308 to 1.7e+308)"
    assert recipes.mean([2e-6, 4e-6]).text == "3e-06 (2 runs: 2e-06 to 4e-06)"
    [*_, (x, last)] = recipes.mean_curve([[(0, -1.7e308), (1, 1.7e308)], [(0.5, 0.0)], [(0.25, 1.0)]])
    assert x == 1 and last.value == 1.7e308


def test_different_recipes_have_different_labels() -> None:
    def labels(**columns: list) -> list[str]:
        configs = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        runs = [run(number, 0.5, **config) for number, config in enumerate(configs)]
        return [recipe.label for recipe in recipes.group(runs, "recipe").recipes]

    assert labels(data=["/v1/pictures", "/v2/pictures"]) == ["data /v1/pictures", "data /v2/pictures"]
    assert labels(lr=[0.1, 0.100000001, 0.2]) == ["lr 0.1", "lr 0.100000001", "lr 0.2"]
    seven = {f"p{i}": [number >> i & 1 == 1 for number in range(128)] for i in range(7)}
    assert len(set(labels(**seven))) == 128
    # Values that are written alike.
    assert labels(depth=["1", 1]) == ["depth 1 · r0", "depth 1 · r1"]


def test_seeds_of_different_keys_are_not_repetitions() -> None:
    apart = [run(i, 0.5, **{"lr": i, "seed": 1, "data.seed": 7}) for i in range(2)]
    assert recipes.group(apart, None).by == "none"
    apart.append(run(2, 0.5, **{"lr": 1, "seed": 1, "data.seed": 8}))
    assert recipes.group(apart, None).by == "recipe"


def test_n_is_that_of_the_mean() -> None:
    runs = [run(i, None if i == 2 else 0.5, seed=i) for i in range(3)]
    grouping = recipes.group(runs, "recipe")
    [row] = recipes.rows(grouping, ["acc"], "acc", maximize=True)
    assert row["n"] == row["means"][0].n == 2
    assert recipes.rows(grouping, [], None, maximize=True)[0]["n"] == 3


def test_runs_are_grouped_by_themselves_only_where_seeds_are_repeated() -> None:
    repeated = [run(i, 0.5 + i / 10, lr=[0.1, 0.2][i % 2], seed=i // 2) for i in range(4)]
    grouping = recipes.group(repeated, None)
    assert grouping.by == "recipe" and grouping.options == ["none", "recipe", "lr"]
    assert [(recipe.label, len(recipe.runs)) for recipe in grouping.recipes] == [("lr 0.1", 2), ("lr 0.2", 2)]
    # Runs of a recipe have one colour, that of the oldest.
    assert [one.color for one in repeated] == ["#000000", "#000001"] * 2
    assert [recipe.label for recipe in grouping.ranked("acc", maximize=True)] == ["lr 0.2", "lr 0.1"]
    assert recipes.group(repeated, "none").recipes == []
    once = [run(i, 0.5, lr=i, seed=0) for i in range(3)]
    assert recipes.group(once, None).by == "none"
    twice = [run(i, 0.5, lr=1, seed=0) for i in range(2)]
    assert recipes.group(twice, None).by == "none"
    assert recipes.group(twice, "recipe").recipes[0].label == "all runs"


def test_runs_can_be_grouped_by_a_column() -> None:
    runs = [run(i, None if i == 3 else float(i), lr=i % 2, opt=["Adam", "SGD"][i // 2]) for i in range(4)]
    grouping = recipes.group(runs, "opt")
    assert [(recipe.label, recipe.mean("acc")) for recipe in grouping.recipes] == [
        ("Adam", (0.5, 0.0, 1.0, 2)),
        ("SGD", (2.0, None, None, 1)),
    ]


def test_the_mean_of_curves() -> None:
    short, long = [(1, 1.0), (2, None), (3, 3.0)], [(1, 3.0), (2, 4.0), (3, 5.0), (4, 6.0)]
    means = recipes.mean_curve([short, long])
    # A gap is bridged; where one curve has ended, the mean is of the other.
    assert [(x, mean.value, mean.n) for x, mean in means] == [(1, 2, 2), (2, 3, 2), (3, 4, 2), (4, 6, 1)]
    assert recipes.mean_curve([[], [(1, None)]]) == []
    apart = [[(i + shift, float(i + shift)) for i in range(50)] for shift in (0.0, 0.3, 0.6)]
    means = recipes.mean_curve(apart)
    assert len(means) == recipes.GRID
    assert all(mean.value == pytest.approx(x) for x, mean in means)
