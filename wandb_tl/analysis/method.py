"""How the numbers of a report are computed, in sentences: only what its runs need."""

from __future__ import annotations

import pandas as pd

from wandb_tl.analysis import formatting, runs_by_recipe
from wandb_tl.analysis.answer import Answer
from wandb_tl.analysis.intervals import ALPHA
from wandb_tl.analysis.runs_by_recipe import MACRO, SELECTION

BINOMIAL = (
    "Binomial interval: of the difference of two independent shares of so many images. All runs saw the same "
    "images, so it is rather too wide."
)
MCNEMAR = (
    "McNemar's test (exact, two-sided) compares the runs of rows 1 and 2 on the test images that only one of "
    "them has right."
)


def sentences(answer: Answer, frame: pd.DataFrame) -> list[str]:
    """The method of a report. frame: the runs that it compares."""
    lines = ["A recipe is all hyperparameters but the seed."]
    if len(answer.recipes) > 1:
        lines += _seeds(answer) if answer.most_seeds > 1 else [BINOMIAL]
    if answer.mcnemar is not None:
        lines.append(MCNEMAR)
    if len(answer.recipes) > 1 and answer.judged_by not in (SELECTION, "val/f1_macro"):
        judge = "macro F1 of the test images" if answer.judged_by in MACRO else "test accuracy"
        lines.append(f"Row 1 was chosen by its {judge}, which makes its own accuracy look better than it is.")
    same = runs_by_recipe.same_in_all(frame).items()
    values = (formatting.code(f"{name}={formatting.level(value)}") for name, value in same)
    lines.append(f"The same in all runs: {', '.join(values)}.")
    lines.append(
        "`results.csv` has every run, `effects.csv` every comparison, `results.tex` the table of results "
        "(booktabs)."
    )
    return lines


def _seeds(answer: Answer) -> list[str]:
    """How recipes with several seeds are compared."""
    seeds = answer.most_seeds
    missed = 0.8**seeds
    least = 2 ** (1 - seeds)
    return [
        "Differences are of test accuracy between runs with the same seed, which share initial weights and "
        "the order of images, so a seed is one observation. ± is half of the 95 % t-interval over the seeds, "
        "for the one number beside it; p is of the paired t-test.",
        f"A difference is settled if its corrected p is below {ALPHA}. The leads of row 1 are corrected by "
        f"Holm for {len(answer.leads)}.{_changes(answer)}{_interactions(answer)}",
        f"The t-test assumes that differences between seeds are about normal, which {seeds} seeds cannot "
        f"show. Without that assumption no p below {least:.3g} exists for them (exact sign-flip test).",
        "Intervals are over seeds like these, and over the same test images. A failure that strikes one seed "
        f"in five stays unseen in {100 * missed:.0f} % of sweeps with {seeds} seeds.",
    ]


def _changes(answer: Answer) -> str:
    """What the p-values of the changes of row 1 are corrected for."""
    if not answer.effects:
        return ""
    text = f" Its changes are corrected by Holm for {len(answer.effects)}"
    candidates = f"multiplied by {len(answer.contenders) + 1}, the number of recipes that may be the best one"
    if answer.selection is None:
        return f"{text}, and {candidates}: the same accuracies chose row 1."
    return (
        f"{text}. Where row 1 comes out better, they are also {candidates}: validation images chose it by "
        "the same runs, and a run that is lucky on them is mostly lucky on the test images too. Where row 1 "
        "comes out worse, that luck spoke against the difference, so Holm's correction is enough."
    )


def _interactions(answer: Answer) -> str:
    """What the p-values of interactions are corrected for, if the report shows one."""
    if not any(one.settled for one in answer.interactions):
        return ""
    return f" Interactions are corrected by Holm for {len(answer.interactions)}."
