"""The answer of a sweep in one call: what the report, the commands and a notebook say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from wandb_tl.analysis import runs_by_recipe
from wandb_tl.analysis.answer import Answer, answer
from wandb_tl.analysis.proportions import McNemar
from wandb_tl.analysis.results import Results


class Source(Protocol):
    """Where runs come from: a server, see results.Results, or the folder of a report."""

    path: str

    def image_by_image(self, recipes: pd.DataFrame) -> McNemar | None: ...


def compare(path: str, flags: Sequence[str] = ()) -> Answer:
    """What the runs at ENTITY/PROJECT/SWEEP or ENTITY/PROJECT say; a notebook shows it as a page.

    flags: of commands that use the same server, such as --local. InputError if there is no such sweep or
    project, or if none of its runs has a test accuracy.
    """
    results = Results(path)
    return answer_of(results, results.frame(), flags)


def answer_of(source: Source, frame: pd.DataFrame, flags: Sequence[str] = ()) -> Answer:
    """What the runs in the frame of a source say. InputError if none of them has a test accuracy.

    flags: of commands that use the same server. If each recipe ran once, it reads the predictions of the two
    best runs, to compare them image by image.
    """
    result = answer(frame, source.path).with_flags(flags)
    if result.most_seeds > 1:
        return result
    recipes = runs_by_recipe.recipes(runs_by_recipe.by_test_images(frame)[0])
    return dataclasses.replace(result, mcnemar=source.image_by_image(recipes))
