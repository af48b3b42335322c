"""A sweep as its agents see it, on any W&B server: it hands out runs, and says which of them shall stop."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import Any

import requests
import wandb

from wandb_tl.errors import InputError, one_line

# Seconds: to wait for an answer, between tries while the server is away, and until it is given up.
TIMEOUT = 60
PAUSE = 5
OUTAGE = 3600

# The project of a sweep that names none.
DEFAULT_PROJECT = "wandb_tl"

CREATE_AGENT = """
mutation CreateAgent($host: String!, $projectName: String, $entityName: String, $sweep: String!) {
  createAgent(input: {host: $host, projectName: $projectName, entityName: $entityName, sweep: $sweep}) {
    agent { id }
  }
}"""

HEARTBEAT = """
mutation Heartbeat($id: ID!, $metrics: JSONString, $runState: JSONString) {
  agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) {
    agent { id }
    commands
  }
}"""


@dataclass(frozen=True)
class AgentCommand:
    """What an agent is to do: "run", "resume" or "stop" a run, or "exit".

    arguments: the run's hyperparameters as the sweep gives them, {"lr": {"value": 0.1}, …}.
    """

    kind: str
    run_id: str
    arguments: dict[str, dict[str, Any]]


class WorkQueue:
    """What the sweep ENTITY/PROJECT/SWEEP hands out to one agent. program, command: those of its definition.

    InputError if there is no such sweep, no key, or no server. Later it waits for a server that is away for
    up to an hour.
    """

    def __init__(self, path: str) -> None:
        try:
            api = wandb.Api()
            sweep = api.sweep(path)
        except (wandb.Error, ValueError) as error:
            raise InputError(f"{path}: {one_line(error)}") from error
        self.entity, self.project, self.sweep = sweep.entity, sweep.project, sweep.id
        self.program: str = sweep.config.get("program") or ""
        self.command: list[str] = [str(word) for word in sweep.config.get("command") or []]
        self._path = path
        self._url = f"{api.settings['base_url'].rstrip('/')}/graphql"
        self._session = requests.Session()
        self._session.auth = ("api", api.api_key or "")
        self._agent: str | None = None
        # wandb's helper process is this one's: it would hold on to a run whose own process dies.
        os.environ.pop("WANDB_SERVICE", None)

    def ask(self, working_on: str | None = None) -> list[AgentCommand]:
        """Say which run this agent is at work on, by id; returns what it is to do now."""
        if self._agent is None:
            names = {"projectName": self.project, "entityName": self.entity, "sweep": self.sweep}
            made = self._send(CREATE_AGENT, host=socket.gethostname(), **names)
            self._agent = made["createAgent"]["agent"]["id"]
        alive = json.dumps({working_on: True} if working_on else {})
        try:
            answer = self._send(HEARTBEAT, id=self._agent, metrics="{}", runState=alive)
        except _Deleted:
            if working_on:
                # What has begun may end; nobody misses it.
                return []
            raise
        found = json.loads(answer["agentHeartbeat"]["commands"] or "[]")
        return [AgentCommand(each["type"], each.get("run_id", ""), each.get("args") or {}) for each in found]

    def _send(self, document: str, **variables: Any) -> dict[str, Any]:
        deadline, told = time.monotonic() + OUTAGE, ""
        while True:
            try:
                body = {"query": document, "variables": variables}
                response = self._session.post(self._url, json=body, timeout=TIMEOUT)
                if response.status_code == 404:
                    raise _Deleted(f"{self._path}: the sweep was deleted")
                if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
                    raise InputError(f"{self._path}: the server answers {response.status_code}")
                response.raise_for_status()
                answer = response.json()
                if not answer.get("errors"):
                    return answer["data"]
                problem = one_line(ValueError(answer["errors"][0].get("message")))
                if document == CREATE_AGENT:
                    raise InputError(f"{self._path}: {problem}")
            except requests.RequestException as error:
                problem = one_line(error)
            if time.monotonic() > deadline:
                raise InputError(f"{self._path}: {problem}")
            if problem != told:
                print(f"no answer from W&B, trying again: {problem}", flush=True)
                told = problem
            time.sleep(PAUSE)


def create_sweep(definition: dict[str, Any]) -> str:
    """Create a sweep on the W&B server; returns ENTITY/PROJECT/SWEEP.

    $WANDB_ENTITY and $WANDB_PROJECT override what the definition names. wandb prints the server's warnings
    about the definition. InputError if the server refuses it or cannot be reached.
    """
    try:
        api = wandb.Api()
        entity = os.environ.get("WANDB_ENTITY") or definition.get("entity") or api.default_entity
        project = os.environ.get("WANDB_PROJECT") or definition.get("project") or DEFAULT_PROJECT
        # What it prints on stdout are the id and a link, which the caller shows in its own way.
        with contextlib.redirect_stdout(io.StringIO()):
            sweep = wandb.sweep(definition, entity=entity, project=project)
    except (wandb.Error, ValueError) as error:
        raise InputError(f"the sweep cannot be created: {one_line(error)}") from error
    return f"{entity}/{project}/{sweep}"


class _Deleted(InputError):
    """The sweep, or this agent of it, is no more."""
