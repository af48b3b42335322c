"""Configs of sweeps: what is refused, what is warned of, and the same words as W&B's own engine."""

from __future__ import annotations

import itertools
import warnings

import pytest
import yaml

from wandb_tl.local.errors import RequestError
from wandb_tl.local.sweeps import sweep_config

with warnings.catch_warnings():
    # Of the engine's own making.
    warnings.simplefilter("ignore")
    from sweeps.config import schema_violations_from_proposed_config


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("parameters: {a: {value: 1}}", "names no method"),
        ("method: genetic\nparameters: {a: {value: 1}}", "method genetic is not supported"),
        ("method: custom\nparameters: {a: {value: 1}}", "custom needs a scheduler"),
        ("method: bayes\nparameters: {a: {min: 0.0, max: 1.0}}", "bayes needs a metric, as metric: {name: "),
        ("method: bayes\nmetric: loss\nparameters: {a: {min: 0.0, max: 1.0}}", "bayes needs a metric"),
        ("method: bayes\nmetric: {name: x}\nparameters: {a: {value: 1}}", "a parameter that varies"),
        ("method: grid", "has no parameters$"),
        ("method: grid\nparamters: {a: {value: 1}}", "no parameters; is paramters a misspelling"),
        ("method: grid\nparameters: {a: {}}", "parameter a needs a value"),
        ("method: grid\nparameters: {a: 3}", "parameter a must be a mapping"),
        ("method: grid\nparameters: {1: {value: 1}}", "parameter 1 must have a name that is text"),
        ("method: grid\nparameters: {a: {values: []}}", "parameter a needs a list"),
        ("method: grid\nparameters: {a: {min: 0.0, max: 1.0}}", "a grid needs its values"),
        (
            "method: grid\nparameters: {a: {distribution: uniform, min: 0, max: 1, values: 5}}",
            "a grid needs its values",
        ),
        (
            "method: grid\nparameters: {a: {distribution: q_uniform, min: 0, max: 1, q: 1.0e-15}}",
            "the grid has 1,000,000,000,000,000 points",
        ),
        ("method: grid\nparameters: {a: {distribution: q_uniform, min: 0, max: 1, q: 1.0e-320}}", "points"),
        ("method: grid\nparameters: {a: {min: 0, max: 9999999999999999999}}", "points"),
        ("method: grid\nparameters: {a: {min: 0, max: 2147483647}}", "the grid has 2,147,483,648 points"),
        ("method: random\nparameters: {a: {distribution: cubic}}", "no distribution cubic"),
        ("method: random\nparameters: {a: {distribution: uniform, min: 0}}", "needs a number as its max"),
        (
            "method: random\nparameters: {a: {distribution: uniform, min: 1e-5, max: 1}}",
            'not the text "1e-5"',
        ),
        ("method: random\nparameters: {a: {min: 2, max: 1}}", "min 2 is above max 1"),
        ("method: random\nparameters: {a: {distribution: log_uniform_values, min: 0, max: 1}}", "above 0"),
        ("method: random\nparameters: {a: {distribution: beta, a: 0}}", "a, b and q must be above 0"),
        ("method: random\nparameters: {a: {values: [1], probabilities: [1, 2]}}", "as many probabilities"),
        ("method: grid\nrun_cap: 0\nparameters: {a: {value: 1}}", "run_cap must be"),
        (
            "method: grid\nearly_terminate: {type: hyperband, min_iter: 1}\nparameters: {a: {value: 1}}",
            "metric",
        ),
        ("[unclosed", "is no YAML"),
        ("just text", "is no YAML mapping"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(config: str, says: str) -> None:
    with pytest.raises(RequestError, match=says) as refusal:
        sweep_config.check(sweep_config.parse(config))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("{type: median}", "type hyperband"),
        ("{type: hyperband}", "min_iter, or max_iter and s"),
        ("{type: hyperband, max_iter: 9}", "needs s"),
        ("{type: hyperband, max_iter: 2, s: 2}", "gives no band"),
        ("{type: hyperband, min_iter: 1, eta: 1}", "eta must be above 1"),
        ("{type: hyperband, min_iter: x}", "min_iter must be a number"),
        ("{type: hyperband, min_iter: 1, eta: .nan}", "eta must be a number up to 1,000,000,000, not nan"),
        ("{type: hyperband, max_iter: .inf, s: 2}", "max_iter must be a number up to .*, not inf"),
        ("{type: hyperband, max_iter: 9, s: .inf}", "s must be a number up to .*, not inf"),
    ],
)
def test_early_terminate_without_a_rule_is_refused(rule: str, says: str) -> None:
    config = f"method: grid\nmetric: {{name: loss}}\nearly_terminate: {rule}\nparameters: {{a: {{value: 1}}}}"
    with pytest.raises(RequestError, match=says):
        sweep_config.check(sweep_config.parse(config))


def test_warnings_are_those_of_the_engine() -> None:
    tops = ["", "progam: x.py", "name: 3", "run_cap: 2.5", "description: [a]", "command: python x.py"]
    metrics = ["", "metric: {name: l}", "metric: {name: l, goal: max}", "metric: {nam: l}", "metric: l"]
    parameters = [
        "{value: 1}",
        "{values: [1, 2], distribution: categorical}",
        "{values: [1, 2], probabilities: [0.5, 0.6]}",
        "{min: 1, max: 1}",
        "{min: 1, max: 2, q: 1}",
        "{distribution: log_uniform, min: -3, max: 1}",
        "{distribution: inv_log_uniform, min: -3, max: 1}",
        "{distribution: q_log_uniform, min: -3, max: 1}",
        "{distribution: normal, mean: 2}",
        "{parameters: {b: {values: [1, 2]}, c: {min: 0, max: 1.5}}}",
        "{parameters: {b: {values: [1, 2], oops: 1}}}",
    ]
    compared = 0
    for top, metric, spec in itertools.product(tops, metrics, parameters):
        text = f"method: random\n{top}\n{metric}\nparameters: {{a: {spec}}}"
        if top == "run_cap: 2.5":
            continue  # RequestError here.
        expected = schema_violations_from_proposed_config(yaml.safe_load(text))
        assert sweep_config.check(sweep_config.parse(text)) == list(dict.fromkeys(expected)), text
        compared += bool(expected)
    assert compared > 200


@pytest.mark.parametrize(
    "config",
    [
        {"method": "grid", "scheduler": {"engine": "wandb"}, "parameters": {"a": {"values": [1]}}},
        {"method": "custom", "scheduler": {"engine": "wandb"}, "parameters": {"a": {"values": [1]}}},
        {"method": "custom", "scheduler": {"engine": "hyperopt"}, "parameters": {"a": {"values": [1]}}},
        {"method": "custom", "scheduler": {"engine": "optuna", "search_space": "f", "source": "f.py"}},
        {"method": "custom", "scheduler": {"engine": "optuna", "search_space": "f"}},
        {"method": "custom", "scheduler": {"engine": "ax"}},
        {
            "method": "grid",
            "scheduler": {"engine": "wandb"},
            "metric": {"name": "x"},
            "metrics": [{"name": "x"}, {"name": "y"}],
            "early_terminate": {"type": "hyperband", "min_iter": 1},
            "parameters": {"a": {"values": [1]}},
        },
    ],
)
def test_warnings_about_schedulers_are_those_of_the_engine(config: dict) -> None:
    assert sweep_config.check(config) == schema_violations_from_proposed_config(config)


def test_what_the_schema_has_no_word_for() -> None:
    text = 'method: grid\nmetric: {name: "loss "}\ncontroller: {type: local}\nparameters: {a: {value: 1}}'
    blank, controller = sweep_config.check(sweep_config.parse(text))
    assert blank.startswith('metric name "loss " begins or ends with a blank')
    assert controller.startswith("controller type local has no effect")
