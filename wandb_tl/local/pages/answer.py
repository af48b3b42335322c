"""The answer of a sweep, as its page shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wandb_tl.local.pages.values import Run
from wandb_tl.local.records.rows import SweepRow
from wandb_tl.local.records.run_states import RunState
from wandb_tl.local.records.transaction import Transaction
from wandb_tl.local.sweeps import answers
from wandb_tl.local.sweeps.answers import Command, Table

# A number, with a sign and an interval if it has them.
NUMBER = re.compile(r"(< )?[+\N{MINUS SIGN}-]?\d[\d.,]*( ± [\d.,]+)?")


@dataclass
class PageAnswer:
    """An answer.

    first: the first sentence; others: the sentences after it; each is a list of parts, every second of which
    is code. tables: each with the numbers of its columns of numbers. created: when it came (Unix seconds).
    newer: how many runs have finished since, negative if there are fewer now.
    """

    first: list[str]
    others: list[list[str]]
    commands: list[Command]
    tables: list[tuple[Table, set[int]]]
    created: float
    runs: int
    newer: int


def of_sweep(db: Transaction, sweep: SweepRow, runs: list[Run]) -> PageAnswer | None:
    """The answer of a sweep with these runs; None if it has none."""
    stored_answer = answers.of_sweep(db, sweep)
    if stored_answer is None:
        return None
    answer, created = stored_answer
    first, *others = (sentence.split("`") for sentence in answer["sentences"])
    finished = sum(run.state == RunState.FINISHED for run in runs)
    return PageAnswer(
        first=first,
        others=others,
        commands=answer["commands"],
        tables=[(table, columns_of_numbers(table)) for table in answer["tables"]],
        created=created,
        runs=answer["runs"],
        newer=finished - answer["finished"],
    )


def columns_of_numbers(table: Table) -> set[int]:
    """The columns, from 0, that hold nothing but numbers and empty cells."""
    columns = zip(*table["rows"], strict=True)
    return {
        i
        for i, cells in enumerate(columns)
        if any(cells) and all(NUMBER.fullmatch(cell) for cell in cells if cell)
    }
