"""What is refused of a sweep's config, and what the server reads of one that it accepts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from wandb_tl.local.errors import RequestError
from wandb_tl.local.sweeps import config_check, sweep_config

MANY = ", ".join(f"p{number}: {{value: 1}}" for number in range(1001))
# Aliases that stand for lists of aliases: 2^17 values in 17 lines.
DOUBLED = "\n".join(f"{one}: &{one} [*{before}, *{before}]" for before, one in pairwise("abcdefghijklmnopq"))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("parameters: {a: {value: 1}}", "has no method"),
        ("method: genetic\nparameters: {a: {value: 1}}", "method genetic is not supported"),
        ("method: custom\nparameters: {a: {value: 1}}", "custom needs a scheduler"),
        ("method: bayes\nparameters: {a: {min: 0.0, max: 1.0}}", "bayes needs a metric, as metric: {name: "),
        ("method: bayes\nmetric: loss\nparameters: {a: {min: 0.0, max: 1.0}}", "bayes needs a metric"),
        ("method: bayes\nmetric: {name: x}\nparameters: {a: {value: 1}}", "a parameter that varies"),
        (
            "method: grid\nmetric: {name: x, goal: max}\nparameters: {a: {value: 1}}",
            "use minimize or maximize",
        ),
        (
            "{method: custom, scheduler: {engine: ax}, metrics: [{name: x}, {name: y, goal: [1]}]}",
            r"goal \[1\] is not valid",
        ),
        ("method: grid", "has no parameters$"),
        ("method: grid\nparamters: {a: {value: 1}}", "no parameters; is paramters a misspelling"),
        ("method: grid\nparameters: {a: {}}", "parameter a needs a value"),
        ("method: grid\nparameters: {a: 3}", "parameter a must be a mapping"),
        ("method: grid\nparameters: {1: {value: 1}}", "parameter 1 must have a string as its name"),
        ("method: grid\nparameters: {a: {values: []}}", "parameter a needs a list"),
        ("method: grid\nparameters: {a: {min: 0.0, max: 1.0}}", "a grid needs a list of values"),
        (
            "method: grid\nparameters: {a: {distribution: uniform, min: 0, max: 1, values: 5}}",
            "a grid needs a list of values",
        ),
        (
            "method: grid\nparameters: {a: {distribution: q_uniform, min: 0, max: 1, q: 1.0e-15}}",
            "the grid has 1,000,000,000,000,000 points",
        ),
        ("method: grid\nparameters: {a: {distribution: q_uniform, min: 0, max: 1, q: 1.0e-320}}", "points"),
        ("method: grid\nparameters: {a: {min: 0, max: 9999999999999999999}}", "points"),
        ("method: grid\nparameters: {a: {min: 0, max: 2147483647}}", "the grid has 2,147,483,648 points"),
        ("method: random\nparameters: {a: {distribution: cubic}}", "cubic is not one of constant, "),
        ("method: random\nparameters: {a: {distribution: uniform, min: 0}}", "needs a number as its max"),
        (
            "method: random\nparameters: {a: {distribution: uniform, min: 1e-5, max: 1}}",
            'not the string "1e-5" .*write 1.0e-5',
        ),
        (
            "method: random\nparameters: {a: {min: 2, max: 1}}",
            "has min 2, which is greater than max 1: swap them",
        ),
        ("method: random\nparameters: {a: {distribution: log_uniform_values, min: 0, max: 1}}", "above 0"),
        ("method: random\nparameters: {a: {distribution: beta, a: 0}}", "has a 0: make it greater than 0"),
        ("method: random\nparameters: {a: {distribution: normal, sigma: -1}}", "sigma -1: make it 0 or more"),
        ("method: random\nparameters: {a: {distribution: q_uniform, min: 0, max: 1, q: 0}}", "has q 0"),
        ("method: random\nparameters: {a: {distribution: int_uniform, min: 0, max: 1.5}}", "whole number"),
        ("method: random\nparameters: {a: {min: .inf, max: 1.0}}", "needs a number as its min"),
        (f"method: random\nparameters: {{a: {{min: 0, max: 1{'0' * 400}}}}}", "needs a number as its max"),
        ("method: random\nparameters: {a: {distribution: [normal]}}", "is not one of constant, "),
        ("method: random\nparameters: {a: {distribution: q_inv_log_uniform, min: 0, max: 1}}", "not one of"),
        ("method: random\nparameters: {a: {distribution: constant}}", "parameter a needs a value"),
        ("method: random\nparameters: {a: {values: [1], probabilities: [1, 2]}}", "as many probabilities"),
        ("method: random\nparameters: {a: {values: [1, 2], probabilities: [-1, 2]}}", "numbers from 0 on"),
        ("method: random\nparameters: {a: {values: [1], probabilities: [0]}}", "not all of them 0"),
        ("method: random\nparameters: {a: {parameters: {b: {values: []}}}}", "parameter a.b needs a list"),
        ("method: random\nrun_cap: 1.5\nparameters: {a: {value: 1}}", "run_cap must be a whole number"),
        ("method: random\nrun_cap: true\nparameters: {a: {value: 1}}", "run_cap must be a whole number"),
        ("method: grid\nrun_cap: 0\nparameters: {a: {value: 1}}", "run_cap must be"),
        (
            "method: grid\nearly_terminate: {type: hyperband, min_iter: 1}\nparameters: {a: {value: 1}}",
            "metric",
        ),
        (
            f"method: grid\nparameters: {{a: {{values: {list(range(20_000))}}}}}",
            "20,000 keys and values, not",
        ),
        (f"method: grid\nx: {'y' * 300_000}", "262,144 characters, not 300,0"),
        (f"method: random\nparameters: {{{MANY}}}", "1,000 parameters, not 1,001"),
        (f"method: grid\na: &a [1, 1]\n{DOUBLED}", "20,000 keys and values, not"),
        ("a: &a [*a]", "30 levels deep"),
        ("[" * 50_000, "is not valid YAML"),
        (f"a: {'9' * 10_000}", "is not valid YAML"),
        ("[unclosed", "is not valid YAML"),
        ("just text", "is not a YAML mapping"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(config: str, says: str) -> None:
    with pytest.raises(RequestError, match=says) as refusal:
        config_check.check(config)
    assert "\n" not in str(refusal.value)


def test_lists_that_parameters_share_are_read() -> None:
    """The client writes a list that two parameters have as an alias."""
    config = "method: grid\nparameters: {a: {values: &x [1, 2]}, b: {values: *x}}"
    assert config_check.check(config) == []
    assert sweep_config.parse(config)["parameters"]["b"] == {"values": [1, 2]}


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("{type: median}", "type: hyperband"),
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
        config_check.check(config)


def test_server_reads_what_is_valid_and_leaves_out_the_rest() -> None:
    """A name, a program or a part of the metric of another type has a warning and no effect."""
    metric = "{name: loss, target: low, impute: mean, impute_while_running: 'false'}"
    text = f"method: grid\nname: [a]\nprogram: 3\nmetric: {metric}\nparameters: {{a: {{value: 1}}}}"
    assert len(config_check.check(text)) == 4
    config = sweep_config.parse(text)
    assert config == {
        "method": "grid",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"a": {"value": 1}},
    }
    assert not sweep_config.maximizes(config)
    assert sweep_config.maximizes(sweep_config.parse(text.replace("target: low", "goal: maximize")))
    assert sweep_config.metric_name(sweep_config.parse("{method: grid, metric: {name: 3}}")) is None
    outside = sweep_config.parse("{method: custom, scheduler: {engine: ax}, parameters: {a: 3, b: {c: {}}}}")
    assert sweep_config.scheduled_outside(outside) and outside["parameters"] == {"b": {"c": {}}}
