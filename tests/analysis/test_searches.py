"""What a search says: checked against scipy, and on searches whose best recipes lie in a known place."""

import itertools
import math
import sys

import numpy as np
import pytest
from scipy import stats
from sweep_frames import GRID, grid, runs_of

from wandb_tl.analysis import (
    answer_html,
    certainty,
    conclusions,
    importance,
    report_folder,
    search_charts,
    search_conclusions,
    searches,
    tables,
)
from wandb_tl.analysis.answer import answer
from wandb_tl.analysis.commands import SEARCH_PRESET, SEARCH_RUNS, SET_BY_SEARCH, VARIED_BY_SEARCH
from wandb_tl.analysis.saved_report import SavedReport
from wandb_tl.config import RunConfig
from wandb_tl.export_table import last_lines
from wandb_tl.sweeping import sweep_definitions

SPACES = {
    "lr": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.1},
    "weight_decay": {"distribution": "log_uniform_values", "min": 0.00001, "max": 0.1},
    "optimizer": {"values": ["AdamW", "SGD"]},
    "batch_size": {"values": [16, 32, 64]},
    "image_size": {"value": 64},
}


def drawn(metric, n=24, seed=0, spaces=SPACES, method="random", **fixed):
    """The frame of a random search. metric: validation accuracy (a share) of a config, or NaN."""
    random = np.random.default_rng(seed)

    def value(spec):
        if "value" in spec:
            return spec["value"]
        if "values" in spec:
            return random.choice(spec["values"]).item()
        low, high = spec["min"], spec["max"]
        if "log" in spec.get("distribution", ""):
            return math.exp(random.uniform(math.log(low), math.log(high)))
        return random.uniform(low, high)

    configs = [
        RunConfig(**{name: value(spec) for name, spec in spaces.items()} | {"val_fraction": 0.2} | fixed)
        for _ in range(n)
    ]
    shares = [metric(config) for config in configs]
    # By the test images, which do not choose, the order is the opposite.
    frame = runs_of(configs, [50 - 10 * (0.1 if math.isnan(share) else share) for share in shares])
    frame["val/accuracy"] = np.nan_to_num(shares, nan=0.1)
    frame.loc[np.isnan(shares), "avg_train_loss"] = math.nan
    frame.attrs |= {"method": method, "metric": "val/accuracy", "parameters": spaces}
    return frame


def noise(config):
    """A number between -1 and 1 that depends on all hyperparameters, but on none of them alone."""
    return math.sin(1e5 * config.lr + 1e6 * config.weight_decay + config.batch_size)


def peak(config):
    return 0.8 - 0.1 * (math.log10(config.lr) + 2.5) ** 2 + 0.005 * noise(config)


def rising(config):
    return 0.8 + 0.1 * math.log10(config.lr) + 0.005 * noise(config)


def by_name(search):
    return {one.name: one for one in search.hyperparameters}


def configs_of(command):
    """The values that a run_sweep command tries, by hyperparameter."""
    preset, *arguments = command.arguments
    assert command.module == "wandb_tl.run_sweep" and set(arguments[::2]) == {"--set"}
    parameters = sweep_definitions.load(preset, list(arguments[1::2]))["parameters"]
    values = {name: one["values"] if "values" in one else [one["value"]] for name, one in parameters.items()}
    for point in itertools.islice(itertools.product(*values.values()), 0, 10**5, 97):
        RunConfig.from_flags(dict(zip(values, point, strict=True)))
    return values


def test_the_preset_of_a_search_sets_what_the_command_overwrites():
    definition = sweep_definitions.load(SEARCH_PRESET, [])
    varied = {name for name, one in definition["parameters"].items() if "value" not in one}
    assert set(definition["parameters"]) == set(SET_BY_SEARCH) and varied == set(VARIED_BY_SEARCH)
    assert definition["run_cap"] == SEARCH_RUNS and definition["metric"]["name"] == "val/accuracy"


def test_correlations_and_the_best_quarter_are_those_of_scipy_and_of_a_sorted_list():
    frame = drawn(rising)
    search = by_name(answer(frame, "a/b/c").search)
    assert set(search) == {"lr", "weight_decay", "optimizer", "batch_size"}
    p_values = []
    for name in ("batch_size", "lr", "weight_decay"):
        rho, p = stats.spearmanr(frame[name], frame["val/accuracy"])
        assert search[name].correlation.rho == pytest.approx(rho)
        assert search[name].correlation.p == pytest.approx(p) and search[name].correlation.n == 24
        p_values.append(p)
    assert search["lr"].correlation.p_corrected == pytest.approx(3 * min(p_values))
    assert [one.name for one in search.values() if one.correlation and one.correlation.settled] == ["lr"]
    best = frame.sort_values("val/accuracy", ascending=False).head(6)
    assert search["lr"].best_quarter == tuple(sorted(best["lr"]))
    counts = {
        value: ((best["optimizer"] == value).sum(), (frame["optimizer"] == value).sum())
        for value in ("AdamW", "SGD")
    }
    assert search["optimizer"].counts == counts
    assert search["lr"].best == best["lr"].iloc[0], "validation images choose"


def test_the_only_hyperparameter_that_matters_is_named():
    search = answer(drawn(peak), "a/b/c").search
    first, *others = importance.importances(search)
    assert first.name == "lr" and first.settled and not any(one.settled for one in others)
    sentence = search_conclusions.importance(search, [first, *others])
    assert sentence.startswith("Importance, with 95 % intervals: `lr` +") and "include 0" in sentence
    # It is best inside of its range, so it neither rises nor falls throughout.
    assert "none is settled; not causal" in search_conclusions.correlations(search)
    assert importance.importances(search) == [first, *others]


def test_a_search_in_which_nothing_matters_says_so():
    search = answer(drawn(lambda config: 0.5 + 0.1 * noise(config)), "a/b/c").search
    assert "none is settled" in search_conclusions.importance(search, importance.importances(search))
    assert "none is settled" in search_conclusions.correlations(search)
    equal = answer(drawn(lambda config: 0.5), "a/b/c").search
    assert importance.importances(equal) == []
    assert "all recipes have the same" in search_conclusions.importance(equal, [])


def test_a_best_value_at_a_bound_is_named_and_the_next_search_goes_beyond_it():
    result = answer(drawn(rising, n=40), "a/b/c")
    assert by_name(result.search)["lr"].end == "upper" and by_name(result.search)["lr"].leans
    line = next(
        line for line in conclusions.last_lines(result) if line.startswith("At a bound: the best lr=")
    )
    assert "lies at the upper end of 0.0001 to 0.1, and so does the best quarter" in line
    assert result.next_runs.command is result.next_search.search and result.next_runs.runs == SEARCH_RUNS
    values = configs_of(result.next_search.search)
    # As wide as before, and with the bound in the middle.
    assert values["lr"] == [0.0032, 0.01, 0.032, 0.1, 0.32, 1.0, 3.2]
    assert "`lr` widened" in conclusions.next_step(result)
    assert values["image_size"] == [64] and values["val_fraction"] == [0.2]


def test_the_winner_is_confirmed_with_seeds_that_the_search_has_not_used():
    result = answer(drawn(rising, n=40), "a/b/c")
    best = result.winner.hyperparameters
    values = configs_of(result.next_search.confirmation)
    assert values["seed"] == [1, 2, 3, 4, 5] and values["lr"] == [best["lr"]]
    *_, predict, last = last_lines(result)
    purpose = "To confirm row 1 with 5 seeds that the search has not used; their test accuracy is the one to "
    assert last.startswith(f"{purpose}report: ") and "--set seed=1,2,3,4,5" in last
    assert predict.startswith("To classify pictures")

    listed = drawn(rising, n=40)
    listed.attrs["parameters"] |= {"seed": {"values": [0, 2, 7]}}
    assert configs_of(answer(listed, "a/b/c").next_search.confirmation)["seed"] == [1, 3, 4, 5, 6]
    # With the test images as judges, other seeds do not make up for it.
    by_test = drawn(rising, n=40).drop(columns="val/accuracy")
    *_, last = last_lines(answer(by_test, "a/b/c"))
    assert "seeds that the search has not used: " in last


def test_a_bound_that_no_value_may_pass_stays():
    spaces = SPACES | {"momentum": {"min": 0.0, "max": 0.99}, "optimizer": {"value": "SGD"}}
    result = answer(drawn(lambda c: 0.5 - 0.3 * c.momentum, n=40, spaces=spaces), "a/b/c")
    assert by_name(result.search)["momentum"].end == "lower"
    assert result.next_search.changes["momentum"] == "narrowed"
    assert any("Values beyond it are not allowed" in line for line in certainty.cautions(result))
    assert 0 <= min(configs_of(result.next_search.search)["momentum"]) < 0.05


def test_a_best_value_inside_narrows_the_range_and_bad_categories_are_dropped():
    result = answer(drawn(lambda c: peak(c) - 0.5 * (c.optimizer == "SGD"), n=40), "a/b/c")
    values = configs_of(result.next_search.search)
    assert values["optimizer"] == ["AdamW"]
    assert 0.0001 < min(values["lr"]) < 10**-2.5 < max(values["lr"]) < 0.1
    assert result.next_search.changes["lr"] == "narrowed"


def test_few_runs_get_more_runs_and_no_importance():
    result = answer(drawn(peak, n=9), "a/b/c")
    assert importance.importances(result.search) == []
    assert "9 recipes are too few" in search_conclusions.importance(result.search, [])
    assert "at least 10 recipes" in search_conclusions.correlations(result.search)
    assert "narrowed" not in result.next_search.changes.values()
    assert set(configs_of(result.next_search.search)["optimizer"]) == {"AdamW", "SGD"}


def test_one_hyperparameter_has_no_importance_to_compare():
    result = answer(drawn(peak, spaces={"lr": SPACES["lr"]}), "a/b/c")
    assert importance.importances(result.search) == []
    assert search_conclusions.importance(result.search, []).startswith("Only `lr` differs")
    assert len(search_charts.hyperparameters(result.search).axes) == 1


def test_runs_that_diverged_are_the_worst_ones():
    frame = drawn(lambda c: math.nan if c.lr > 0.02 else rising(c))
    lost = int(np.isnan(frame["avg_train_loss"]).sum())
    # One of them has no accuracy either.
    frame.loc[frame["avg_train_loss"].isna().idxmax(), ["test_accuracy", "val/accuracy"]] = math.nan
    result = answer(frame, "a/b/c")
    assert result.search.diverged == lost > 1 and len(result.search.metric) == 24
    assert result.search.ranks[-lost:] == [(lost + 1) / 2] * lost
    assert f"{lost} recipes that diverged are the worst" in search_conclusions.introduction(result.search)
    figure = search_charts.hyperparameters(result.search)
    assert "diverged" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_figure_has_the_scale_that_values_were_drawn_on():
    spaces = SPACES | {"momentum": {"min": 0.5, "max": 0.99}}
    frame = drawn(peak, spaces=spaces)
    panels = {
        axes.get_title(): axes for axes in search_charts.hyperparameters(answer(frame, "a").search).axes
    }
    scales = {name: panels[name].get_xscale() for name in ("lr", "weight_decay", "momentum", "optimizer")}
    assert scales == {"lr": "log", "weight_decay": "log", "momentum": "linear", "optimizer": "linear"}
    assert [text.get_text() for text in panels["batch_size"].get_xticklabels()] == ["16", "32", "64"]
    # Momentum has an effect under SGD only.
    of_sgd = int((frame["optimizer"] == "SGD").sum())
    points = sum(
        np.ma.masked_invalid(marks.get_offsets()[:, 0]).count() for marks in panels["momentum"].collections
    )
    assert points == of_sgd < 24


@pytest.mark.parametrize(
    "spec, levels, expected",
    [
        ({"distribution": "log_uniform", "min": -4, "max": 0}, [0.1, 0.5], (math.exp(-4), 1, True)),
        ({"distribution": "inv_log_uniform", "min": 0, "max": 4}, [0.1, 0.5], (math.exp(-4), 1, True)),
        ({"min": 0, "max": 1}, [0.1, 0.5], (0, 1, False)),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 9, "q": 4}, [0, 4, 8], (1, 9, False)),
        ({"distribution": "log_normal", "mu": 0}, [0.1, 5.0, 6.0], (0.1, 6, True)),
        ({"values": [16, 32, 64, 128]}, [32, 64], (16, 128, True)),
        (None, [64, 96, 128], (64, 128, False)),
    ],
)
def test_what_a_sweep_draws_from(spec, levels, expected):
    space = searches.space(levels, spec)
    assert (space.low, space.high, space.logarithmic) == pytest.approx(expected)
    assert [space.share(space.at(share)) for share in (-0.2, 0, 0.4, 1.1)] == pytest.approx(
        [-0.2, 0, 0.4, 1.1]
    )


def test_a_grid_is_no_search():
    result = answer(runs_of(grid(GRID | {"lr": [0.1, 0.01, 0.001]}), lambda c: 80 + c.seed), "a/b/c")
    assert result.search is None and result.next_search is None


class Runs:
    """A source of runs without media."""

    path = "a/b/c"

    def media(self, run_id, keys):
        return {}

    def image_by_image(self, recipes):
        return None


def test_the_report_has_it_and_is_the_same_again_from_its_files(tmp_path):
    frame = drawn(peak, method="bayes")
    frame.attrs["left_out"] = {"killed": 7}
    result = report_folder.write(Runs(), frame, tmp_path)
    page = (tmp_path / "README.md").read_text()
    section = page.partition("## The search")[2].partition("\n## ")[0]
    assert "A Bayesian search of 24 recipes, ordered by `val/accuracy`, so that no test image" in section
    assert "7 runs without results, such as those that were stopped early, are not among them" in section
    assert "(figures/search.png)" in section and str(result.next_search.confirmation) in section
    files = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    saved = SavedReport(tmp_path / "results.csv")
    report_folder.write(saved, saved.frame(), tmp_path)
    assert files == {file: file.read_bytes() for file in tmp_path.rglob("*.*")}
    assert tmp_path / "search.yaml" in files and tmp_path / "figures" / "search.png" in files
    assert "The metric against each hyperparameter" in answer_html.render(result)
    # Another report there, of a grid, has neither.
    report_folder.write(Runs(), runs_of(grid(GRID), lambda c: 80 + c.pretrained + c.seed / 9), tmp_path)
    assert not (tmp_path / "search.yaml").exists() and not (tmp_path / "figures" / "search.png").exists()


def test_a_search_without_validation_images_says_that_test_images_choose():
    frame = drawn(peak, n=9, val_fraction=0.0).drop(columns="val/accuracy")
    result = answer(frame, "a/b/c")
    assert "the test images choose" in search_conclusions.introduction(result.search)
    # The next one has some.
    assert configs_of(result.next_search.search)["val_fraction"] == [0.2]


def test_without_scikit_learn_the_page_says_what_to_install(monkeypatch):
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    search = answer(drawn(peak), "a/b/c").search
    found = importance.importances(search)
    assert "pip install scikit-learn" in search_conclusions.importance(search, found)
    assert "Importance" not in tables.searched(search, found)
