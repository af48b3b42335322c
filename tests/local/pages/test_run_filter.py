"""The filter of the table of runs: its matches, what it says of one that cannot be used, and its cost."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from wandb_tl.local.pages import run_filter
from wandb_tl.local.pages.values import Run


def run(name: str, config: dict[str, Any], summary: dict[str, Any], **fields: Any) -> Run:
    values = {
        "state": "finished",
        "created": datetime.datetime(2026, 11, int(fields.pop("day", 1)), 12).timestamp(),
        "seconds": 60.0,
        "tags": [],
        "group": None,
        "job_type": None,
        "sweep": None,
        "color": "",
        "dash": "",
        "row": None,
    }
    return Run(id=name, name=f"run {name}", config=config, summary=summary, **values | fields)


RUNS = [
    run("a", {"lr": 0.1, "opt": "Adam", "frozen": True}, {"acc": 0.5}, tags=["good", "two words"], day=1),
    run("b", {"lr": 0.01, "opt": "SGD", "frozen": False}, {"acc": 0.9}, seconds=7200.0, day=2, group="g"),
    run("c", {"lr": "high", "opt": "Adam"}, {"acc": float("nan")}, state="failed", label="label c", day=3),
    run("d", {"lr": 10, "deep.er": "[1, 2]"}, {}, day=4),
]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "abcd"),
        ("   ", "abcd"),
        ("adam", "ac"),
        ("lr>0.05", "ad"),
        ("lr<=0.01", "b"),
        ("lr=high", "c"),
        ("lr!=0.1", "bcd"),
        ("opt = Adam acc >= 0.5", "a"),
        ("opt!=Adam", "bd"),
        ("frozen=true", "a"),
        ("frozen = False", "b"),
        ("state=failed", "c"),
        ("state!=FAILED", "abd"),
        ("tag=good", "a"),
        ("tag!=good", "bcd"),
        ("tag='two words'", "a"),
        ('tag="two words" lr>0', "a"),
        ("good", "a"),
        ("group=g", "b"),
        ("group=''", "acd"),
        ("name='run b'", "b"),
        ("name='Label C'", "c"),
        ("name!='run b'", "acd"),
        ("id=d", "d"),
        ("config.deep.er='[1, 2]'", "d"),
        ("deep.er='[1, 2]'", "d"),
        ("summary.acc>0.6", "b"),
        ("opt=SGD or acc<0.6", "ab"),
        ("opt=Adam lr=0.1 OR state=failed or id=d", "acd"),
        ("'or'", "a"),
        ("nobody", ""),
        ("created > 2026-11-02", "cd"),
        ("created>=2026-11-02", "bcd"),
        ("created<2026-11-02", "a"),
        ("created<=2026-11-02", "ab"),
        ("created=2026-11-02", "b"),
        ("created!=2026-11-02", "acd"),
        ("created>2026-11-02T11:00 created<2026-11-02T13:00", "b"),
        ("duration>1h", "b"),
        ("duration<=60", "acd"),
        ("duration>=1.5min", "b"),
    ],
)
def test_filter(text: str, names: str) -> None:
    matches, problem = run_filter.matching(RUNS, text)
    assert ("".join(run.id for run in matches), problem) == (names, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("'open", "a quote in the filter is not closed"),
        ("lrr=1", "no run has lrr"),
        ("optt=Adam", "no run has optt; did you mean opt?"),
        ("lr>", "a value is missing after lr>"),
        ("lr >> 3 or", ">> after lr is not an operator; the operators are != >= <= = > <"),
        ("lr == 3", "== after lr is not an operator"),
        ("lr> > 3", ">> after lr is not an operator"),
        ("> 3", "the name of a field is missing before >"),
        ("or lr=1", "a condition is missing before or after “or”"),
        ("lr=0.1 or", "a condition is missing before or after “or”"),
        ("lr>high", "> takes a number, not high"),
        ("opt>3", "opt is not a number: use = or !="),
        ("acc=good", "acc is a number, not good"),
        ("frozen=maybe", "frozen is true or false, not maybe"),
        ("state=done", "a run is not done; it can be pending, running, preempting"),
        ("state>failed", "state takes = or !=, not >"),
        ("tag>good", "tag takes = or !=, not >"),
        ("name<x", "name takes = or !=, not <"),
        ("created>yesterday", "created takes a date such as 2026-11-01, not yesterday"),
        ("duration>long", "duration takes seconds, or a time such as 10min or 2h, not long"),
        ("x" * 1001, "a filter can have 1,000 characters, not 1,001"),
        ("x " * 51, "a filter can have 50 conditions"),
    ],
)
def test_a_filter_that_cannot_be_used_shows_all_runs_and_says_why(text: str, problem: str) -> None:
    matches, reason = run_filter.matching(RUNS, text)
    assert matches == RUNS and reason is not None and reason.startswith(problem)


def test_the_fields_of_no_run_are_not_refused() -> None:
    assert run_filter.matching([], "lr>0.1 state=failed") == ([], None)


@pytest.mark.parametrize(
    "text",
    [" " * 20_000, "a " * 10_000, "'" * 20_000, "= " * 10_000, "or " * 7_000, "lr >" * 5_000, "x" * 20_000],
)
def test_a_filter_that_would_hold_up_the_server_is_refused_unread(text: str) -> None:
    matches, reason = run_filter.matching(RUNS, text)
    assert matches == RUNS and reason == f"a filter can have 1,000 characters, not {len(text):,}"
