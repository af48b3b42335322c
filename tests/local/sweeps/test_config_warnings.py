"""Warnings about sweeps' configs: W&B's own engine gives the verdict on each of a list of configs."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import yaml

from wandb_tl.local.errors import RequestError
from wandb_tl.local.sweeps import config_check, config_warnings, distributions

with warnings.catch_warnings():
    # The engine's own warnings.
    warnings.simplefilter("ignore")
    from sweeps.config import schema_violations_from_proposed_config

OUTSIDE = {"method": "custom", "scheduler": {"engine": "optuna"}}


def valid_for_the_engine(config: dict[str, Any]) -> bool:
    try:
        return not schema_violations_from_proposed_config(config)
    except (ValueError, TypeError, AttributeError):
        # It does not get to an answer for a parameter that is not a mapping, say.
        return False


def verdict(config: dict[str, Any]) -> list[str] | None:
    """The warnings, None for a config that is refused."""
    try:
        return config_check.check(yaml.safe_dump(config))
    except RequestError:
        return None


def compare(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Configs are warned of, or refused, exactly if the engine finds them invalid.

    Returns the exceptions: configs that are refused although they are valid for the engine.
    """
    judged, exceptions = {True: 0, False: 0}, []
    for config in configs:
        lines, valid = verdict(config), valid_for_the_engine(config)
        judged[valid] += 1
        if lines is None and valid:
            exceptions.append(config)
        else:
            assert (lines == []) == valid, (config, lines)
    assert all(judged.values()), judged
    return exceptions


NUMBERS = {
    "min": [None, 0.5, 1, -2, "1"],
    "max": [None, 2.5, 1, True],
    "q": [None, 0.5, 0],
    "mu": [None, -1.5, "0"],
    "sigma": [None, 0, -1, False],
    "a": [None, 1.5, -1],
    "b": [None, 0, "2"],
    "value": [None, {"x": 1}],
    "values": [None, [1, "a"], [], "ab"],
    "probabilities": [None, [0.5, 0.5], [0.5, 0.6], [1], [-1, 2], ["a", "b"], []],
}


def specs_of(kind: str) -> list[dict[str, Any]]:
    """Parameters of a distribution with all combinations of its keys' values, and with one key too many."""
    needed, optional = distributions.KEYS[kind]
    keys = (*needed, *optional)
    specs = []
    for values in itertools.product(*(NUMBERS[key] for key in keys)):
        spec = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        specs += [spec, spec | {"distribution": kind}]
    extra = [key for key in NUMBERS if key not in keys]
    good = {key: NUMBERS[key][1] for key in keys}
    specs += [good | {"distribution": kind, key: NUMBERS[key][1]} for key in extra]
    return [*specs, good | {"distribution": kind, "oops": 1}]


def contradicts_itself(spec: dict[str, Any]) -> bool:
    """The engine takes such a parameter in a group, and a beta distribution without width anywhere."""
    inner = spec.get("parameters", {}).get("inner", {})
    return (
        0 in (spec.get("b"), inner.get("b"))
        or inner.get("min", 0) > inner.get("max", 9)
        or len(inner.get("values", [])) != len(inner.get("probabilities", []))
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", distributions.KEYS)
def test_parameters_of_each_distribution(kind: str) -> None:
    specs = specs_of(kind)
    groups = [{"parameters": {"inner": spec, "other": {"value": 1}}} for spec in specs[::3]]
    assert not compare([OUTSIDE | {"parameters": {"p": spec}} for spec in [*specs, *groups]])
    some = [*specs[::6], *groups[::6], {"value": 1}]
    exceptions = compare([{"method": "random", "parameters": {"p": spec}} for spec in some])
    assert all(contradicts_itself(config["parameters"]["p"]) for config in exceptions)


def test_groups_and_names_of_parameters() -> None:
    parameters: list[Any] = [
        {"a.b-c_D": {"value": 1}},
        {"_": {"value": None}},
        {"1a": {"value": 1}},
        {"a b": {"value": 1}},
        {"p": {"parameters": {"x y": {"value": 1}}}},
        {"p": {"parameters": {"x": {"parameters": {"y": {"values": [1]}}}}}},
        {"p": {"parameters": {"x": {"parameters": {"y": {"values": [1], "oops": 1}}}}}},
        {"p": {"parameters": {"x": {"value": 1}}, "value": 2}},
        {"p": {"parameters": {}}, "o": {"value": 1}},
        {"p": {"parameters": 3}, "o": {"value": 1}},
        {"p": {"distribution": "cubic"}},
        {"p": {"distribution": ["normal"]}},
        {"p": {}},
        {"p": 3},
        {},
        [],
        None,
    ]
    assert not compare([{"method": "random", "parameters": each} for each in parameters])
    assert not compare([OUTSIDE | {"parameters": each} for each in parameters])


METRIC_VALUES: dict[str, list[Any]] = {
    "name": ["loss", 3, None],
    "goal": ["minimize", "maximize", "max", 1, None],
    "target": [0, -1.5, "0", True, [1]],
    "impute": ["latest", "best", "worst", "mean", False],
    "impute_while_running": ["latest", "best", "worst", "false", False],
    "oops": [1],
}
RULE_VALUES: dict[str, list[Any]] = {
    "type": ["hyperband", "median", None],
    "max_iter": [27, 9.0, 9.5, "27", True],
    "min_iter": [1, 3.0, 2.5, 0, "1"],
    "s": [2, 1.5, "2", True],
    "eta": [2, 1.5, 1, 0, "2", True],
    "strict": [True, False, 0, "true"],
    "oops": [1],
}


def changes(good: dict[str, Any], values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The mapping with each key in turn given each of its values, and left out."""
    changed = [good | {key: value} for key, each in values.items() for value in each]
    return [good, *changed, *({k: v for k, v in good.items() if k != key} for key in good)]


def test_metric_and_early_terminate() -> None:
    base = {"method": "random", "parameters": {"a": {"values": [1, 2]}}}
    metrics = changes({"name": "loss", "goal": "minimize"}, METRIC_VALUES)
    assert not compare([base | {"metric": metric} for metric in [*metrics, "loss", None, [], {}]])
    rules: list[Any] = [
        *changes({"type": "hyperband", "min_iter": 1}, RULE_VALUES | {"max_iter": []}),
        *changes({"type": "hyperband", "max_iter": 27, "s": 2}, RULE_VALUES | {"min_iter": []}),
        {"type": "hyperband"},
        "hyperband",
    ]
    assert not compare([base | {"metric": {"name": "l"}, "early_terminate": rule} for rule in rules])


TOP_VALUES: dict[str, list[Any]] = {
    "apiVersion": ["1", 1],
    "kind": ["sweep", "run", 1],
    "controller": [{"type": "cloud"}, {"type": "cloud", "more": 1}, {"type": "edge"}, {}, "cloud", None],
    "description": ["a", ["a"]],
    "program": ["x.py", 3],
    "job": ["j", 3],
    "image_uri": ["i", 3],
    "entity": ["e", 3],
    "project": ["p", 3],
    "name": ["n", 3],
    "method": ["grid", "bayes", "custom", "genetic", 3],
    "command": [["python", 3, None], "python x.py", {}],
    "run_cap": [1, 0, -1, 2.5, "2", True],
    "metrics": [[{"name": "x"}, {"name": "y"}]],
    "progam": ["x.py"],
    "Method": ["grid"],
}


def test_keys_of_the_config() -> None:
    exceptions = compare(changes({"method": "random", "parameters": {"a": {"values": [1, 2]}}}, TOP_VALUES))
    # Without a metric, and without a scheduler.
    assert [config["method"] for config in exceptions] == ["bayes", "custom"]


def test_schedulers_and_metrics() -> None:
    values: dict[str, list[Any]] = {
        "engine": ["wandb", "ax", "hyperopt", 3, None],
        "source": ["f.py", 3],
        "optimizer": ["f", 3],
        "search_space": ["g", 3, ""],
        "oops": [1],
    }
    schedulers = changes({"engine": "optuna"}, values) + changes({"engine": "ax", "source": "f.py"}, values)
    both, one = {"parameters": {"a": {"value": 1}}}, [{"name": "x"}, {"name": "y"}]
    more: list[dict[str, Any]] = [
        {},
        both,
        both | {"metric": {"name": "x"}},
        both | {"metrics": one},
        both | {"metrics": one[:1]},
        both | {"metrics": [*one, {"nam": "z"}]},
        both | {"metrics": [*one, "z"]},
        both | {"metrics": "x"},
        both | {"metrics": one, "metric": {"name": "x"}},
        both | {"metric": {"name": "x"}, "early_terminate": {"type": "hyperband", "min_iter": 1}},
        both | {"controller": {"type": "local"}},
        both | {"controller": {"type": "cloud"}},
    ]
    for method in ("custom", "grid"):
        configs = [{"method": method, "scheduler": s, **both} for s in [*schedulers, None, {}, "ax"]]
        for scheduler in ({"engine": "ax"}, {"engine": "wandb", "source": "f.py", "search_space": "g"}):
            configs += [{"method": method, "scheduler": scheduler} | keys for keys in more]
        assert not compare(configs)
    configs = [{"method": "grid"} | keys for keys in more if keys.get("controller") != {"type": "local"}]
    assert not compare(configs)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            "progam: x.py\nparameters: {a: {value: 1}}",
            "progam is not a key of a sweep's config, and is ignored: did you mean program?",
        ),
        ("name: 3\nparameters: {a: {value: 1}}", "name must be a string, not 3"),
        ("command: python x.py\nparameters: {a: {value: 1}}", 'command must be a list, not "python x.py"'),
        (
            "metric: loss\nparameters: {a: {value: 1}}",
            'metric must be a mapping such as {name: ...}, not "loss"',
        ),
        ("metric: {nam: l}\nparameters: {a: {value: 1}}", "metric needs name: a string"),
        (
            "metric: {name: l, impute: mean}\nparameters: {a: {value: 1}}",
            'metric.impute must be worst or best or latest, not "mean"',
        ),
        (
            "metric: {name: l}\nearly_terminate: {type: hyperband, min_iter: 0.5, max_iter: 9, s: 2}\n"
            "parameters: {a: {value: 1}}",
            "early_terminate.min_iter must be a whole number of at least 1, not 0.5",
        ),
        ("parameters: {a: {min: 1, max: 1}}", "parameter a: min 1 is not less than max 1: write value: 1"),
        (
            "parameters: {a: {min: 1, max: 2, q: 1}}",
            "parameter a: the distribution int_uniform takes min, max, not q: remove q or change the"
            " distribution",
        ),
        ("parameters: {a: {mu: 2}}", "parameter a needs its distribution named: add distribution: normal"),
        (
            "parameters: {a: {values: [1, 2], probabilities: [0.5, 0.6]}}",
            "parameter a: its probabilities add up to 1.1, not to 1",
        ),
        (
            "parameters: {lr: {distribution: log_uniform, min: -3, max: 1}}",
            "parameter lr: min and max of log_uniform are exponents of e; use log_uniform_values to give the"
            " limits themselves",
        ),
    ],
)
def test_warnings_say_what_to_do(config: str, line: str) -> None:
    assert line in config_check.check(f"method: random\n{config}")


def test_warnings_about_valid_keys_without_effect() -> None:
    text = 'method: grid\nmetric: {name: "loss "}\ncontroller: {type: local}\nparameters: {a: {value: 1}}'
    blank, controller = config_check.check(text)
    assert blank.startswith('the metric name "loss " begins or ends with a blank')
    assert controller.startswith("controller type local has no effect")
    assert config_warnings.of_config({"method": "random", "parameters": {"a": {"value": 1}}}) == []
