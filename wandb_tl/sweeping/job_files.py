"""Agents of a sweep as a job of Kubernetes or a task of SkyPilot: the YAML file that starts them.

The file contains no API key. Kubernetes reads it from a Secret, and SkyPilot from the variable of the user
who launches the task.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from wandb_tl.errors import ExitCode, UsageError, nearest
from wandb_tl.sweeping import key_values
from wandb_tl.sweeping.key_values import Options, Reader, not_negative, positive

DEFAULT_AGENTS = 2
# How long an agent has to end after SIGTERM: its run has 30 s, and then sends what it has logged.
GRACE_SECONDS = 120
# How often an agent that fails starts again. An agent whose machine is taken away does not count as failed.
RETRIES = 3
# Where the cache is in a pod.
CACHE = "/cache"
# The variables of the server that agents on other machines need. The key is not one of them.
SERVER_VARIABLES = ("WANDB_BASE_URL", "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "WANDB_ERROR_REPORTING")

YamlObject = dict[str, Any]


@dataclass(frozen=True)
class Agents:
    """The agents of a job. path: ENTITY/PROJECT/SWEEP. variables: an environment with SERVER_VARIABLES."""

    path: str
    count: int
    process_per_run: bool
    variables: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the job. Kubernetes allows lower-case letters, digits and dashes."""
        sweep = re.sub("[^a-z0-9]+", "-", self.path.split("/")[-1].lower()).strip("-")
        return f"wandb-tl-{sweep}"[:50]

    @property
    def command(self) -> list[str]:
        flags = ["--process-per-run"] if self.process_per_run else []
        return ["python", "-m", "wandb_tl.agent", self.path, *flags]

    @property
    def server_variables(self) -> dict[str, str]:
        return {name: self.variables[name] for name in SERVER_VARIABLES if name in self.variables}


def kubernetes(agents: Agents, options: Options) -> YamlObject:
    """An Indexed Job with one agent per index.

    A pod that Kubernetes evicts is replaced any number of times, and the sweep hands its run out again.
    """
    count = {"cpu": options.get("cpus"), "memory": options.get("memory")}
    # Kubernetes takes GPUs as a limit, and requests as many.
    limits = {"nvidia.com/gpu": options["gpus"]} if options["gpus"] else {}
    resources = {"requests": {name: str(value) for name, value in count.items() if value}, "limits": limits}
    claim = {"persistentVolumeClaim": {"claimName": options["claim"]}} if "claim" in options else None
    key = {"secretKeyRef": {"name": options["secret"], "key": "api-key"}}
    variables = agents.server_variables | {"WANDB_TL_CACHE": CACHE, "WANDB_DIR": "/tmp"}
    agent = {
        "name": "agent",
        "image": options["image"],
        "command": agents.command,
        "env": [{"name": name, "value": value} for name, value in variables.items()]
        + [{"name": "WANDB_API_KEY", "valueFrom": key}],
        "resources": {name: value for name, value in resources.items() if value},
        "volumeMounts": [{"name": "cache", "mountPath": CACHE}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [agent],
        "volumes": [{"name": "cache", **(claim or {"emptyDir": {}})}],
    }
    failures = [
        # The pod was preempted or evicted, or its node was drained or lost.
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        # Another try would fail too, for example because the sweep was deleted.
        {
            "action": "FailIndex",
            "onExitCodes": {
                "containerName": "agent",
                "operator": "In",
                "values": [int(ExitCode.BAD_INPUT)],
            },
        },
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": agents.name, "labels": {"app": "wandb-tl"}},
        "spec": {
            "completionMode": "Indexed",
            "completions": agents.count,
            "parallelism": agents.count,
            "backoffLimitPerIndex": RETRIES,
            "podFailurePolicy": {"rules": failures},
            "template": {"metadata": {"labels": {"app": "wandb-tl"}}, "spec": pod},
        },
    }


def skypilot(agents: Agents, options: Options) -> YamlObject:
    """A task that runs one agent on a spot instance. Launched several times, it is as many agents."""
    wanted = {key: options[key] for key in ("accelerators", "cpus", "memory") if key in options}
    image = {"image_id": f"docker:{options['image']}"} if "image" in options else {}
    command = shlex.join(agents.command)
    task: YamlObject = {
        "name": agents.name,
        "resources": {**wanted, **image, "use_spot": True},
        "envs": agents.server_variables,
        "secrets": {"WANDB_API_KEY": None},
    }
    if image:
        return task | {"run": f"exec {command}\n"}
    setup = "pip install --quiet uv\nuv sync --extra local\n"
    return task | {"workdir": ".", "setup": setup, "run": f"exec uv run --extra local {command}\n"}


@dataclass(frozen=True)
class Kind:
    """A kind of job file. keys: its options. starts: the lines that say how to start the job."""

    keys: Mapping[str, Reader]
    required: tuple[str, ...]
    defaults: Options
    example: str
    make: Callable[[Agents, Options], YamlObject]
    starts: Callable[[Agents, Options], str]


def _start_kubernetes(agents: Agents, options: Options) -> str:
    secret = shlex.quote(str(options["secret"]))
    return (
        f'the API key: printf %s "$WANDB_API_KEY" | kubectl create secret generic {secret} '
        "--from-file=api-key=/dev/stdin\nto start: kubectl apply --filename FILE"
    )


def _start_skypilot(agents: Agents, options: Options) -> str:
    numbers = " ".join(str(number) for number in range(agents.count))
    launch = f"sky jobs launch --yes --detach-run --name {agents.name}-$agent --secret WANDB_API_KEY FILE"
    return f"to start, with the API key in WANDB_API_KEY: for agent in {numbers}; do {launch}; done"


KINDS = {
    "kubernetes": Kind(
        keys={
            "image": str,
            "gpus": not_negative,
            "cpus": positive,
            "memory": str,
            "secret": str,
            "claim": str,
        },
        required=("image",),
        defaults={"gpus": 1, "secret": "wandb"},
        example="image=REGISTRY/IMAGE,gpus=1",
        make=kubernetes,
        starts=_start_kubernetes,
    ),
    "skypilot": Kind(
        keys={"image": str, "accelerators": str, "cpus": str, "memory": str},
        required=(),
        defaults={},
        example="accelerators=L4:1",
        make=skypilot,
        starts=_start_skypilot,
    ),
}
SYNONYMS = {"gpu": "gpus", "cpu": "cpus", "mem": "memory", "volume": "claim", "pvc": "claim"}


@dataclass(frozen=True)
class JobFile:
    """What kind of job file the user wants, and its options."""

    kind: str
    options: Options

    def text(self, agents: Agents) -> str:
        """The YAML file, which starts with comments that say how to use it."""
        kind = KINDS[self.kind]
        comments = f"Agents of the sweep {agents.path}\n{kind.starts(agents, self.options)}"
        head = "".join(f"# {line}\n" for line in comments.splitlines())
        return head + yaml.dump(
            kind.make(agents, self.options), Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True
        )


class _Dumper(yaml.SafeDumper):
    """Writes strings of several lines as blocks, as a person would."""


def _represent_string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_string)


def parse(text: str) -> JobFile:
    """The job file that KIND[,KEY=VALUE…] describes. UsageError for one that cannot be made."""
    name, _, rest = text.partition(",")
    if name not in KINDS:
        close = nearest(name, KINDS, {"k8s": "kubernetes", "sky": "skypilot"})
        hint = f"did you mean {close}?" if close else f"takes {' or '.join(KINDS)}"
        raise UsageError(f"--print-job: {name} is not a known kind of job; {hint}")
    kind = KINDS[name]
    options = key_values.parse(f"--print-job {name}", rest, kind.keys, SYNONYMS, kind.example) if rest else {}
    for key in kind.required:
        if key not in options:
            raise UsageError(f"--print-job {name}: add {key}, such as {name},{kind.example}")
    return JobFile(name, kind.defaults | options)
