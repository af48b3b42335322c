"""A run in W&B from its start to its end: new, resumed, of a sweep, or one that the caller has open."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import wandb
import yaml
from wandb import Run

from wandb_tl import wandb_process
from wandb_tl.config import DEFAULT_PROJECT, FIELDS, RECIPE, RunConfig, check_value, with_recipe
from wandb_tl.errors import ExitCode, FailedError, InputError, one_line
from wandb_tl.run_states import RunState
from wandb_tl.signals import TERMINATING, Terminated, at_most, deferred, ignored, terminated_by_signals

# How long a terminated run has to send what it has logged. Whoever terminates it does not wait much longer.
PREEMPTION_SECONDS = 45


@contextmanager
def start(config: RunConfig) -> Iterator[Run]:
    """A W&B run: the one that this process has open, or a new one, resumed if $WANDB_RUN_ID exists.

    InputError if W&B cannot be reached or has no API key, and for the id of a run that has finished or has
    other hyperparameters. Leaving the block ends a new run as finished. An exception ends it as failed, and
    SIGTERM or SIGHUP as preempted, so that its sweep hands it out again. The caller of `wandb.init` ends an
    open run. FailedError if W&B's own process dies before the server has the end of the run, which is to be
    resumed then.
    """
    run = open_run()
    if run is not None:
        if "test_accuracy" in dict(run.summary):
            # The client leaves a disabled run open at the end of its block.
            end = "end it with wandb.finish()" if run.disabled else "open another one"
            raise InputError(f"W&B: the open run {run.id} has been trained already; {end}")
        run.config.update(config.as_dict(), allow_val_change=True)
        _define_metrics(run)
        yield run
        return
    # A signal during `wandb.init` would leave a run behind that nothing ends.
    with terminated_by_signals(), deferred(TERMINATING) as deliver_signals:
        run = _init(config)
        try:
            _define_metrics(run)
            deliver_signals()
            yield run
            # Inside this block: the rest of the upload may take long, and a signal may come meanwhile.
            if not _finish(run, 0) and not _has_finished(run):
                raise _death_of_wandb(run.id)
        except Terminated as end:
            with ignored(TERMINATING), at_most(PREEMPTION_SECONDS):
                _preempt(run)
            end.reported = True
            raise
        except KeyboardInterrupt:
            _finish(run, 255)
            raise
        except BaseException as error:
            # The error alone does not tell: a ConnectionError may be of the block's own connections.
            if not _finish(run, 1):
                raise _death_of_wandb(run.id) from error
            if isinstance(error, wandb.Error):
                raise InputError(f"W&B: {one_line(error)}") from error
            raise


def _preempt(run: Run) -> None:
    """End a run as preempted, so that its sweep hands it out again."""
    # A run that is already finishing cannot be marked. Its agent then repeats it.
    with suppress(wandb.Error, *wandb_process.GONE_ERRORS):
        run.mark_preempting()
    _finish(run, int(ExitCode.TERMINATED))


def _finish(run: Run, exit_code: int) -> bool:
    """End a run; whether W&B's own process was alive to do it."""
    try:
        run.finish(exit_code=exit_code)
    except wandb_process.GONE_ERRORS:
        return False
    return True


def _has_finished(run: Run) -> bool:
    """Whether the server has the end of a run whose W&B process died meanwhile."""
    if run.offline:
        return False
    path = f"{run.entity}/{run.project}/{run.id}"
    wandb_process.forget()
    with suppress(*wandb_process.REQUEST_ERRORS):
        return bool(wandb.Api().run(path).state == RunState.FINISHED)
    return False


def open_run() -> Run | None:
    """The run that the caller has started with `wandb.init` and not finished; None if there is none."""
    return wandb.run


def no_run() -> Run:
    """A run that logs nothing, for a process that trains together with the one that logs."""
    return wandb.init(mode="disabled")


def values_of_run() -> dict[str, Any]:
    """The hyperparameters that the open run has, or that an agent of a sweep hands to the next run.

    Other entries of an open run's config belong to its caller, and are left out. Empty outside of both.
    """
    run = open_run()
    if run is not None:
        own = {*FIELDS, RECIPE}
        return with_recipe({name: value for name, value in run.config.as_dict().items() if name in own})
    file = os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if not file or not Path(file).is_file():
        return {}
    arguments: Mapping[str, Any] = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
    return with_recipe({name: one["value"] for name, one in arguments.items() if name != "wandb_version"})


def fail_handed_out_run() -> None:
    """End the run that an agent of a sweep has handed out as failed, if there is one, and was not started."""
    if os.environ.get("WANDB_SWEEP_PARAM_PATH") and open_run() is None:
        with suppress(wandb.Error, ValueError):
            wandb.init().finish(exit_code=int(ExitCode.BAD_INPUT))


def preempt_handed_out_run(end: Terminated) -> None:
    """End the run that an agent of a sweep has handed out as preempted, if it has not been started.

    Else it would count as crashed, which a sweep repeats a few times only.
    """
    if end.reported or not os.environ.get("WANDB_SWEEP_PARAM_PATH"):
        return
    errors = (wandb.Error, ValueError, *wandb_process.GONE_ERRORS)
    with ignored(TERMINATING), at_most(PREEMPTION_SECONDS), suppress(*errors):
        _preempt(wandb.init())
    end.reported = True


def forget_environment() -> None:
    """Make the next run of this process read its id and server from the environment again."""
    wandb_process.forget()


def _init(config: RunConfig) -> Run:
    run_id = os.environ.get("WANDB_RUN_ID")
    # An agent sets the project and id in the environment, and its sweep the hyperparameters.
    alone = "WANDB_SWEEP_ID" not in os.environ
    project = os.environ.get("WANDB_PROJECT", DEFAULT_PROJECT) if alone else None
    try:
        if run_id and alone and wandb.setup().settings.mode == "online":
            _refuse_another_recipe(f"{project}/{run_id}", config)
        return wandb.init(
            project=project,
            name=os.environ.get("WANDB_NAME") or config.run_name,
            config=config.as_dict(),
            resume="allow" if run_id else None,
        )
    except InputError:
        raise
    except wandb.errors.CommError as error:
        # The rest of wandb's message is about a setting that no flag of this command sets.
        reason = one_line(error).partition(" Consider increasing")[0]
        raise InputError(f"W&B: {reason}; WANDB_MODE=offline trains without a server") from error
    except (wandb.Error, ValueError) as error:
        raise InputError(f"W&B: {one_line(error)}") from error
    except Exception as error:
        if not wandb_process.is_gone(error):
            raise
        raise _death_of_wandb(run_id) from error


def _death_of_wandb(run_id: str | None) -> FailedError:
    """What a run ends with whose W&B process has died."""
    wandb_process.forget()
    how = (
        f"; started again with WANDB_RUN_ID={run_id}, the run resumes from its last saved epoch"
        if run_id
        else ""
    )
    return FailedError(f"W&B's own process, wandb-core, has died{how}")


def _define_metrics(run: Run) -> None:
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")


def _refuse_another_recipe(path: str, config: RunConfig) -> None:
    """InputError if the run has finished or has other hyperparameters: its history would mix two runs."""
    try:
        earlier = wandb.Api().run(path)
    except (wandb.Error, ValueError):
        # Either the run does not exist, or there is no server, which wandb.init waits for and reports.
        return
    if earlier.state == RunState.FINISHED:
        raise InputError(f"WANDB_RUN_ID: the run {path} has finished; use another id")
    for name, value in config.as_dict().items():
        before = earlier.config.get(name, value)
        # A run of a sweep has the values as the sweep file has them: 1e-3 is a string there.
        if check_value(name, before) != value:
            raise InputError(f"WANDB_RUN_ID: the run {path} has {name} {before}, not {value}; use another id")
