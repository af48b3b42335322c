"""A sweep as its agents see it, on any W&B server: it hands out runs, and says which of them to stop."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypedDict

import requests
import wandb

from wandb_tl import wandb_process
from wandb_tl.config import DEFAULT_PROJECT
from wandb_tl.errors import InputError, one_line
from wandb_tl.hyperparameters import Value
from wandb_tl.sweeping.sweep_definitions import Definition

# Seconds: limit of a request, pause between retries, and how long to retry while the server is away.
REQUEST_SECONDS = 60
PAUSE_SECONDS = 5
OUTAGE_SECONDS = 3600

# W&B allows no more in the id of a run. The agent names a file after it.
RUN_ID = re.compile(r"(?!\.\.?$)[\w .=@~+-]{1,128}")
# The answers take a few hundred bytes.
MOST_BYTES = 16 * 2**20
PIECE_BYTES = 2**16
# More than a project has; a server could send pages for ever.
MOST_SWEEPS = 100_000

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


class Argument(TypedDict):
    """The value of a hyperparameter, in the form that wandb reads from a run's file of parameters."""

    value: Value


@dataclass(frozen=True)
class AgentCommand:
    """What an agent is to do. kind: "run", "resume" or "stop" a run, or "exit".

    arguments: the run's hyperparameters, {"lr": {"value": 0.1}, …}.
    """

    kind: str
    run_id: str
    arguments: dict[str, Argument]

    @classmethod
    def of(cls, command: Any) -> AgentCommand:
        """A command as the server sends it. ValueError for anything else."""
        if not isinstance(command, dict):
            raise ValueError("a command is not an object")
        kind, run_id = command.get("type"), command.get("run_id") or ""
        arguments = command.get("args") or {}
        needs_id = kind in ("run", "resume") or run_id != ""
        if needs_id and not (isinstance(run_id, str) and RUN_ID.fullmatch(run_id)):
            raise ValueError(f"{run_id!r} is not a valid id of a run")
        if not isinstance(arguments, dict) or not all(
            isinstance(one, dict) and "value" in one for one in arguments.values()
        ):
            raise ValueError(f"run {run_id} has no valid hyperparameters")
        return cls(str(kind), run_id, arguments)


class WorkQueue:
    """The sweep ENTITY/PROJECT/SWEEP as it hands out runs to one agent.

    program, command: those of the sweep's definition. InputError if there is no such sweep, no key, or no
    server. Later requests are retried for up to an hour while the server is away.
    """

    def __init__(self, path: str) -> None:
        try:
            api = wandb.Api()
            sweep = api.sweep(path)
        except wandb_process.REQUEST_ERRORS as error:
            raise InputError(f"{path}: {wandb_process.reason(error)}") from error
        self.entity, self.project, self.sweep = sweep.entity, sweep.project, sweep.id
        self.program: str = sweep.config.get("program") or ""
        self.command: list[str] = [str(word) for word in sweep.config.get("command") or []]
        self._path = path
        self._url = f"{api.settings['base_url'].rstrip('/')}/graphql"
        self._session = requests.Session()
        self._session.auth = ("api", api.api_key or "")
        self._agent: str | None = None
        # The requests below do not need W&B's own process. Runs must not share it: it would keep a run open
        # after the run's own process dies.
        wandb_process.forget()

    def ask(self, working_on: str | None = None) -> list[AgentCommand]:
        """What this agent is to do now. working_on: id of the run that it works on."""
        if self._agent is None:
            names = {"projectName": self.project, "entityName": self.entity, "sweep": self.sweep}
            agent = self._send(CREATE_AGENT, host=socket.gethostname(), **names)
            try:
                self._agent = str(agent["createAgent"]["agent"]["id"])
            except (TypeError, KeyError) as error:
                raise self._odd_answer(error) from error
        alive = json.dumps({working_on: True} if working_on else {})
        try:
            answer = self._send(HEARTBEAT, id=self._agent, metrics="{}", runState=alive)
        except SweepDeletedError:
            if working_on:
                # The run may end by itself.
                return []
            raise
        try:
            commands = json.loads(answer["agentHeartbeat"]["commands"] or "[]")
            return [AgentCommand.of(one) for one in commands]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._odd_answer(error) from error

    def _odd_answer(self, error: Exception) -> InputError:
        return InputError(f"{self._path}: the server answers as no W&B server does: {one_line(error)[:200]}")

    def _send(self, document: str, **variables: str) -> dict[str, Any]:
        """The data that the server answers. Retries while the server is away."""
        deadline, printed = time.monotonic() + OUTAGE_SECONDS, ""
        while True:
            try:
                return self._request(document, variables)
            except requests.RequestException as error:
                problem = one_line(error)
            if time.monotonic() > deadline:
                raise InputError(f"{self._path}: {problem}")
            if problem != printed:
                print(f"no answer from W&B, retrying: {problem}", flush=True)
                printed = problem
            time.sleep(PAUSE_SECONDS)

    def _request(self, document: str, variables: dict[str, str]) -> dict[str, Any]:
        """One request. RequestException for errors that may pass, InputError for others."""
        body = {"query": document, "variables": variables}
        # Not redirected: the key is for this address, and netrc may have one for another host.
        with self._session.post(
            self._url, json=body, timeout=REQUEST_SECONDS, allow_redirects=False, stream=True
        ) as response:
            content = bytearray()
            for piece in response.iter_content(PIECE_BYTES):
                content += piece
                if len(content) > MOST_BYTES:
                    raise InputError(f"{self._path}: the server answers with more than {MOST_BYTES:,} bytes")
        if response.is_redirect:
            raise InputError(f"{self._path}: the server redirects elsewhere; log in to that address itself")
        if response.status_code == 404:
            raise SweepDeletedError(f"{self._path}: the sweep was deleted")
        if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
            raise InputError(f"{self._path}: the server answers {response.status_code}")
        response.raise_for_status()
        try:
            answer = json.loads(content)
            message = str(answer["errors"][0].get("message")) if answer.get("errors") else ""
            data: dict[str, Any] = answer.get("data")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            # As of a proxy whose server is away.
            raise requests.RequestException(
                f"its answer is not one of W&B: {type(error).__name__}"
            ) from error
        if message:
            if document == CREATE_AGENT:
                raise InputError(f"{self._path}: {' '.join(message.split())}")
            raise requests.RequestException(message)
        return data


class SweepDeletedError(InputError):
    """The sweep, or this agent of it, does not exist any more."""


def create_sweep(definition: Definition, beside: str = "") -> str:
    """Create a sweep on the W&B server; returns ENTITY/PROJECT/SWEEP.

    beside: ENTITY/PROJECT/SWEEP, a sweep whose entity and project it gets. Otherwise these are $WANDB_ENTITY
    and $WANDB_PROJECT, else the definition's, else those of `wandb init` in this folder, else the key's
    default entity and wandb_tl. wandb prints the server's warnings about the definition on stderr. InputError
    if the server refuses it or cannot be reached.
    """
    try:
        api = wandb.Api()
        entity = os.environ.get("WANDB_ENTITY") or definition.get("entity") or api.settings["entity"]
        project = os.environ.get("WANDB_PROJECT") or definition.get("project") or api.settings["project"]
        entity, project = entity or api.default_entity, project or DEFAULT_PROJECT
        if beside:
            entity, project, _ = beside.split("/")
        # On stdout wandb prints the sweep's id and link, which the caller prints itself.
        with _default_project_kept(), contextlib.redirect_stdout(io.StringIO()):
            sweep = wandb.sweep(dict(definition), entity=entity, project=project)
    except wandb_process.REQUEST_ERRORS as error:
        raise InputError(f"the sweep cannot be created: {one_line(error)}") from error
    return f"{entity}/{project}/{sweep}"


def sweeps_beside(path: str) -> dict[str, dict[str, Any]]:
    """The definitions of the sweeps in a sweep's project, by ENTITY/PROJECT/SWEEP.

    InputError if W&B cannot be reached.
    """
    entity, project, _ = path.split("/")
    try:
        sweeps = wandb.Api().project(project, entity).sweeps()
        return {
            f"{entity}/{project}/{sweep.id}": dict(sweep.config)
            for sweep in islice(sweeps, MOST_SWEEPS)
            if isinstance(sweep.config, dict)
        }
    except wandb_process.REQUEST_ERRORS as error:
        raise InputError(f"{path}: {one_line(error)}") from error


def resume_sweep(path: str) -> None:
    """Let a sweep that is over hand out runs again: points whose runs were deleted, and crashed runs.

    A sweep that is not over stays as it is, and so does one without an end, as a search. InputError if there
    is no such sweep, or W&B cannot be reached.
    """
    try:
        sweep = wandb.Api().sweep(path)
    except wandb_process.REQUEST_ERRORS as error:
        raise InputError(f"{path}: {wandb_process.reason(error)}") from error
    if sweep.state != "FINISHED" or sweep.expected_run_count is None:
        return
    # The client has no public function for this.
    command = [
        sys.executable,
        "-m",
        "wandb",
        "sweep",
        "--resume",
        f"{sweep.entity}/{sweep.project}/{sweep.id}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(f"{path}: it cannot be resumed: {lines[-1]}")


@contextlib.contextmanager
def _default_project_kept() -> Iterator[None]:
    """Undo that wandb.sweep makes its sweep's entity and project the defaults of this process."""
    before = {name: os.environ.get(name) for name in ("WANDB_ENTITY", "WANDB_PROJECT")}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def server_address() -> str:
    """The address of the W&B server that this process uses."""
    return str(wandb.Api().settings["base_url"])
