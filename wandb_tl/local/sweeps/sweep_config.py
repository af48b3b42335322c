"""A sweep's config: the types of its keys, and the config that a YAML text holds.

https://docs.wandb.ai/models/sweeps/sweep-config-keys documents the keys. config_warnings.py compares a config
with these types, so every key and the values that it takes are declared here only.
"""

# Without `from __future__ import annotations`: the annotations are read at run time, NotRequired among them.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast, get_args

import yaml

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.json_path import finite, storable
from wandb_tl.local.records.kept import Kept

# Of a config as YAML: characters, keys and values, levels.
LONGEST, MOST_VALUES, DEEPEST = 256 * 2**10, 20_000, 30
# Of the configs that are kept parsed: 16 of the longest, or thousands of others.
KEPT_CHARACTERS = 16 * LONGEST
# Ten times as fast as the loader in Python; some builds of PyYAML have none.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Method = Literal["grid", "bayes", "random", "custom"]
Imputation = Literal["worst", "best", "latest"]


@dataclass(frozen=True)
class AtLeast:
    """The least number that a key takes."""

    limit: float

    def holds(self, value: float) -> bool:
        return not value < self.limit

    def __str__(self) -> str:
        return f"of at least {self.limit}"


@dataclass(frozen=True)
class Above:
    """A key takes numbers greater than the limit."""

    limit: float

    def holds(self, value: float) -> bool:
        return not value <= self.limit

    def __str__(self) -> str:
        return f"above {self.limit}"


class Metric(TypedDict):
    """What the runs of a sweep are compared by."""

    name: str
    goal: NotRequired[Literal["minimize", "maximize"]]
    # The sweep ends once a run reaches it.
    target: NotRequired[float]
    # The value that Bayesian search assumes for runs that failed, and for those that are still running.
    impute: NotRequired[Imputation]
    impute_while_running: NotRequired[Literal["worst", "best", "latest", "false"]]


class EarlyTerminate(TypedDict):
    """Hyperband; see hyperband.py. It needs min_iter, or max_iter and s."""

    type: Literal["hyperband"]
    min_iter: NotRequired[Annotated[int, AtLeast(1)]]
    max_iter: NotRequired[int]
    s: NotRequired[float]
    eta: NotRequired[Annotated[float, Above(1)]]
    strict: NotRequired[bool]


class Scheduler(TypedDict):
    """What `wandb sweep-scheduler` chooses the runs with, in place of the server."""

    engine: Literal["wandb", "optuna", "ax"]
    source: NotRequired[str]
    optimizer: NotRequired[str]
    search_space: NotRequired[str]


class Controller(TypedDict):
    """Who chooses the runs. seed: of this server; the same one draws the same points. W&B ignores it.

    W&B's schema allows further keys here, and nowhere else.
    """

    type: Literal["local", "cloud"]
    seed: NotRequired[Annotated[int, AtLeast(0)]]


class Parameter(TypedDict, total=False):
    """A constant, a list of values, a distribution with its numbers, or a group of parameters.

    distributions.py says which keys go together.
    """

    distribution: str
    value: Any
    values: list[Any]
    probabilities: list[Annotated[float, AtLeast(0)]]
    min: float
    max: float
    mu: float
    sigma: Annotated[float, AtLeast(0)]
    a: Annotated[float, AtLeast(0)]
    b: Annotated[float, AtLeast(0)]
    q: Annotated[float, Above(0)]
    parameters: "dict[str, Parameter]"


Parameters = dict[str, Parameter]


class SweepConfig(TypedDict):
    """All keys of a sweep's config. The server itself reads those before `metrics`."""

    method: Method
    parameters: Parameters
    metric: NotRequired[Metric]
    early_terminate: NotRequired[EarlyTerminate]
    run_cap: NotRequired[int]
    scheduler: NotRequired[Scheduler]
    name: NotRequired[str]
    program: NotRequired[str]
    controller: NotRequired[Controller]
    metrics: NotRequired[list[Metric]]
    description: NotRequired[str]
    command: NotRequired[list[Any]]
    entity: NotRequired[str]
    project: NotRequired[str]
    job: NotRequired[str]
    image_uri: NotRequired[str]
    apiVersion: NotRequired[str]
    kind: NotRequired[Literal["sweep"]]


class Argument(TypedDict):
    value: Any


# What an agent gets for a run: {"lr": {"value": 0.1}, "optimizer": {"value": {"name": "sgd"}}}.
Point = dict[str, Argument]


def read(text: str) -> dict[str, Any]:
    """The mapping in a YAML text, not yet checked. Raises RequestError for any other or a too large text."""
    if len(text) > LONGEST:
        raise RequestError(f"a sweep's config can have {LONGEST:,} characters, not {len(text):,}")
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        _check_size(node)
        config = loader.construct_document(node) if node else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"the sweep's config is not valid YAML: {reason}") from None
    finally:
        loader.dispose()
    if not isinstance(config, dict):
        raise RequestError("the sweep's config is not a YAML mapping such as {method: grid, parameters: …}")
    try:
        checked: dict[str, Any] = storable(config)
    except ValueError as error:
        raise RequestError(f"the sweep's config cannot be used: {error}") from None
    return checked


def _check_size(node: yaml.Node | None) -> None:
    """Raises RequestError for YAML with too many values. An alias counts as all that it stands for."""
    sizes: dict[yaml.Node, int] = {}

    def size(part: yaml.Node, levels: int) -> int:
        if part not in sizes:
            if levels > DEEPEST:
                raise RequestError(f"a sweep's config can be nested {DEEPEST} levels deep")
            items = part.value if isinstance(part, yaml.CollectionNode) else []
            if isinstance(part, yaml.MappingNode):
                items = [each for pair in items for each in pair]
            sizes[part] = 1 + sum(size(item, levels + 1) for item in items)
        return sizes[part]

    if node and (count := size(node, 1)) > MOST_VALUES:
        raise RequestError(f"a sweep's config can have {MOST_VALUES:,} keys and values, not {count:,}")


def _parse(text: str) -> SweepConfig:
    """The keys that the server reads of a config that config_check.check accepts. Do not change the result.

    A name, a program or a part of the metric of another type than declared is left out; check warns of it.
    """
    config = read(text)
    parsed = SweepConfig(method=config["method"], parameters=_parameters(config.get("parameters")))
    if metric := _metric(config.get("metric")):
        parsed["metric"] = metric
    if metrics := _metrics(config.get("metrics")):
        parsed["metrics"] = metrics
    if config.get("early_terminate"):
        parsed["early_terminate"] = config["early_terminate"]
    if config.get("run_cap") is not None:
        parsed["run_cap"] = config["run_cap"]
    if config.get("scheduler"):
        parsed["scheduler"] = config["scheduler"]
    if isinstance(config.get("name"), str):
        parsed["name"] = config["name"]
    if isinstance(config.get("program"), str):
        parsed["program"] = config["program"]
    if isinstance(config.get("controller"), dict):
        parsed["controller"] = config["controller"]
    return parsed


parse = Kept(_parse, KEPT_CHARACTERS)


def _metric(value: Any) -> Metric | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    metric = Metric(name=value["name"], goal="maximize" if value.get("goal") == "maximize" else "minimize")
    if (target := finite(value.get("target"))) is not None:
        metric["target"] = target
    if value.get("impute") in get_args(Imputation):
        metric["impute"] = value["impute"]
    if value.get("impute_while_running") in get_args(Imputation):
        metric["impute_while_running"] = value["impute_while_running"]
    return metric


def _metrics(value: Any) -> list[Metric]:
    """The metrics of a sweep that has several, without entries that have no name."""
    metrics = [_metric(item) for item in value] if isinstance(value, list) else []
    return [metric for metric in metrics if metric is not None]


def _parameters(value: Any) -> Parameters:
    """The parameters that are mappings. Only those of a sweep with a scheduler may be anything else."""
    if not isinstance(value, dict):
        return {}
    parameters: Parameters = {}
    for name, spec in value.items():
        if isinstance(name, str) and isinstance(spec, dict):
            parameters[name] = cast(Parameter, spec)
            if isinstance(spec.get("parameters"), dict):
                parameters[name] = {"parameters": _parameters(spec["parameters"])}
    return parameters


def objectives(config: SweepConfig) -> list[Metric]:
    """The metrics that the sweep optimizes: `metrics`, which schedulers read first, or its metric."""
    if metrics := config.get("metrics"):
        return metrics
    return [config["metric"]] if "metric" in config else []


def metric_name(config: SweepConfig) -> str | None:
    """The name of the sweep's metric, of the first if there are several; None for a sweep without one."""
    return next((metric["name"] for metric in objectives(config)), None)


def maximizes(config: SweepConfig) -> bool:
    """Whether the greater value of the sweep's metric is the better one. Sweeps minimize by default."""
    return any(metric.get("goal") == "maximize" for metric in objectives(config)[:1])


def seed_of(config: SweepConfig) -> int | None:
    """The seed with which the sweep draws its points, controller.seed; None if it has none."""
    seed = config.get("controller", {}).get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def scheduled_outside(config: Mapping[str, Any] | SweepConfig) -> bool:
    """Whether `wandb sweep-scheduler` chooses the sweep's runs, and the server only hands them out."""
    return bool(config.get("scheduler"))
