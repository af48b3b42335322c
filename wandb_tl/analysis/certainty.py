"""How sure the answer of a sweep is, in sentences, and what its runs cannot tell.

Sentences are Markdown in which `code` is the only markup.
"""

from __future__ import annotations

import math

from wandb_tl.analysis import formatting, proportions, search_conclusions
from wandb_tl.analysis.answer import Answer
from wandb_tl.analysis.effects import Lead
from wandb_tl.analysis.formatting import code, conjunction, count
from wandb_tl.analysis.intervals import ALPHA
from wandb_tl.analysis.next_runs import MOST_SEEDS

# Things that a sentence names one by one.
MOST_NAMED = 3


def between(mean: float, lead: Lead, answer: Answer) -> str:
    """The 95 % interval around a mean in points; if it leaves out 0, why the lead is not settled."""
    low, high = (formatting.signed(mean + sign * lead.lead.half_width) for sign in (-1, 1))
    others = (
        f", but that is one of {len(answer.leads)} comparisons" if abs(mean) > lead.lead.half_width else ""
    )
    return f"between {low} and {high} points{others}"


def sentences(answer: Answer) -> list[str]:
    """How sure it is that the winner is the best recipe, in sentences."""
    if answer.most_seeds == 1:
        return _single_seed(answer)
    lines = [_best_of(answer)] if len(answer.recipes) > 1 else []
    if answer.most_seeds == 2:
        lines.append(
            "Two seeds decide next to nothing: the 95 % interval of a mean is ± 9.0 standard deviations with "
            "two seeds, ± 2.5 with three and ± 1.2 with five."
        )
    return lines


def _best_of(answer: Answer) -> str:
    """Which recipes may be the best one."""
    total, open_leads = len(answer.recipes), answer.contenders
    beaten = total - 1 - len(open_leads)
    if not open_leads:
        others = "the other one" if total == 2 else f"each of the other {total - 1}"
        return f"It is the best of the {total} recipes: its lead over {others} is settled (95 % confidence)."
    others = "one" if beaten == 1 else f"{beaten:,}"
    beats = f" It beats the other {others} (95 % confidence)." if beaten else ""
    if len(open_leads) <= MOST_NAMED:
        named = conjunction([_open(lead, answer) for lead in open_leads])
        return f"Not settled: its lead over {named}.{beats}"
    which = f"{len(open_leads)} of the other {total - 1}" if beaten else f"each of the other {total - 1}"
    nearest = _open(open_leads[0], answer)
    return f"Not settled: its lead over {which} recipes, the nearest of which is {nearest}.{beats}"


def _open(lead: Lead, answer: Answer) -> str:
    if lead.lead.n == 0:
        return f"row {lead.row} (no seed in common)"
    if math.isnan(lead.lead.half_width):
        return f"row {lead.row} ({formatting.signed(lead.lead.mean)} points with one common seed)"
    if lead.lead.mean == lead.lead.half_width == 0:
        return f"row {lead.row} (equal in each seed)"
    return f"row {lead.row} ({between(lead.lead.mean, lead, answer)})"


def _single_seed(answer: Answer) -> list[str]:
    """What recipes that ran once tell: which differences are larger than the error of the test images."""
    chance = "It ran with one seed: how another one would come out is unknown."
    each = "Each ran with one seed, and how another seed would come out is unknown."
    if not answer.has_luck:
        chance = "It draws no random numbers: another seed gives the same model."
        each = "No run draws random numbers, so seeds change nothing. Other pictures may."
    if len(answer.recipes) == 1:
        return [chance]
    lines = [f"Not settled: whether it is the best recipe. {each}"]
    if not math.isnan(answer.images):
        best, *others = (recipe.accuracy.mean for recipe in answer.recipes)
        beyond = sum(proportions.beyond_binomial(best, other, answer.images) for other in others)
        everyone = "both" if beyond == 2 else f"all {beyond}"
        which = everyone if beyond == len(others) else f"{beyond} of the {len(others)}"
        who = f"{which} other recipes {'is' if beyond == 1 else 'are'}"
        if len(others) == 1:
            who = f"the other recipe is{'' if beyond else ' not'}"
        lines.append(
            f"For these single models, {who} behind by more than the choice of {answer.images:,.0f} test "
            "images explains (95 % binomial interval, each by itself)."
        )
    if answer.mcnemar is not None:
        test = answer.mcnemar
        verdict = "differ" if test.p < ALPHA else "are not told apart"
        lines.append(
            f"Of {test.n:,} test images, {test.only_first:,} are right in row 1 alone and "
            f"{test.only_second:,} in row 2 alone: these two models {verdict} (McNemar's exact test, "
            f"p {formatting.equals(test.p)}), which says nothing about their recipes."
        )
    return lines


def cautions(answer: Answer) -> list[str]:
    """What the runs cannot tell, in sentences."""
    lines = bounds(answer)
    if answer.tie is not None and answer.next_runs.command is None:
        lines.append("More pictures would tell the recipes apart.")
    if answer.diverged:
        named = [
            f"{code(one.name)} (run {code(one.run)}{f', row {one.row}' if one.row else ''})"
            for one in answer.diverged[:MOST_NAMED]
        ]
        more = len(answer.diverged) - len(named)
        others = [f"{more} more"] if more else []
        lines.append(f"Diverged, the loss is not a number: {conjunction([*named, *others])}.")
    if answer.left_out:
        states = conjunction([f"{number} {state}" for state, number in answer.left_out.items()])
        lines.append(f"Runs without results are not counted: {states}.")
    for names in answer.inseparable:
        together = conjunction([code(name) for name in names])
        lines.append(f"Inseparable: {together} always change together, so no run tells their effects apart.")
    if answer.never_alone:
        named = [code(name) for name in answer.never_alone]
        verb = "changes" if len(named) == 1 else "change"
        lines.append(f"Not compared: {conjunction(named)} never {verb} alone between two recipes.")
    if row := answer.next_runs.too_similar:
        lines.append(f"Row {row} is so similar to row 1 that {MOST_SEEDS} seeds would not tell them apart.")
    if answer.other_images:
        verb = "is" if answer.other_images == 1 else "are"
        lines.append(
            f"{count(answer.other_images, 'run')} with other test images {verb} not compared with these."
        )
    return lines


def bounds(answer: Answer) -> list[str]:
    """Which hyperparameters of a search have their best value at a bound."""
    if answer.search is None or answer.next_search is None:
        return []
    return search_conclusions.bounds(answer.search, answer.next_search)
