"""How sure the answer of a sweep is, in sentences, and what its runs cannot tell.

Sentences are Markdown in which `code` is the only markup.
"""

from __future__ import annotations

import math

from wandb_tl.analysis import formatting, proportions, search_conclusions
from wandb_tl.analysis.answer import Answer
from wandb_tl.analysis.effects import Lead
from wandb_tl.analysis.formatting import code, conjunction, count
from wandb_tl.analysis.intervals import ALPHA, ROUNDING
from wandb_tl.analysis.next_runs import MOST_SEEDS
from wandb_tl.analysis.runs_by_recipe import SELECTION

# Things that a sentence names one by one.
MOST_NAMED = 3


def between(mean: float, lead: Lead, answer: Answer) -> str:
    """The 95 % interval around a mean in points; if it leaves out 0, why the difference is not settled."""
    comparisons = len(answer.leads)
    is_one_of_many = comparisons > 1 and abs(mean) > lead.lead.half_width
    others = f", but that is one of {comparisons} comparisons" if is_one_of_many else ""
    return f"{interval(mean, lead)}{others}"


def interval(mean: float, lead: Lead) -> str:
    """The 95 % interval around a mean in points, with the half width of a lead."""
    if lead.lead.half_width < ROUNDING:
        return f"the same in each of {lead.lead.n} seeds"
    low, high = (formatting.signed(mean + sign * lead.lead.half_width) for sign in (-1, 1))
    return f"between {low} and {high} points"


def sentences(answer: Answer) -> list[str]:
    """How sure it is that the winner is the best recipe, in sentences."""
    if answer.most_seeds == 1:
        first, *others = _single_seed(answer)
        return [first, *_order(answer), *others]
    lines = [*_order(answer), *_best_of(answer)] if len(answer.recipes) > 1 else []
    if answer.most_seeds == 2:
        lines.append(
            "Two seeds decide next to nothing: the 95 % interval of a mean is ± 9.0 standard deviations with "
            "two seeds, ± 2.5 with three and ± 1.2 with five."
        )
    return lines


def short(answer: Answer) -> list[str]:
    """The sentences for a terminal: those about single models are left to the report."""
    return sentences(answer) if answer.most_seeds > 1 else sentences(answer)[: 1 + len(_order(answer))]


def better(answer: Answer) -> str:
    """Which recipes the test images settle to be better than the best one; there is at least one."""
    first, *others = answer.better
    other = answer.recipes[first.row - 1]
    mine = answer.winner.hyperparameters
    named = formatting.settings({k: v for k, v in other.hyperparameters.items() if v != mine[k]})
    by = f"by {-first.lead.mean:.2f} points ({interval(-first.lead.mean, first)})"
    if not others:
        return f"on the test images row {first.row} ({named}) is better {by}"
    rows = formatting.rows_in_words(lead.row for lead in answer.better)
    return f"on the test images {rows} are better, row {first.row} ({named}) the most, {by}"


def _order(answer: Answer) -> list[str]:
    """Whether the validation images settle that row 1 comes before row 2, if the test images do not."""
    selection = answer.selection
    # Those that are equal are said to be tied.
    if selection is None or not selection.is_close or answer.tied or answer.leads[0].settled:
        return []
    first, second = answer.recipes[:2]
    images = "validation" if math.isnan(selection.images) else f"{selection.images:,.0f} validation"
    numbers = f"{100 * first.judged:.2f} against {100 * second.judged:.2f} %"
    if answer.judged_by != SELECTION:
        numbers = f"{answer.judged_by} of {first.judged:.4f} against {second.judged:.4f}"
    return [f"The {images} images do not settle the order of rows 1 and 2: {numbers}."]


def _best_of(answer: Answer) -> list[str]:
    """Which recipes may be the best one, besides those that are better on the test images."""
    total = len(answer.recipes)
    if not answer.contenders:
        others = "the other one" if total == 2 else f"each of the other {total - 1}"
        return [
            f"It is the best of the {total} recipes: its lead over {others} is settled (95 % confidence)."
        ]
    parts = []
    if open_leads := [lead for lead in answer.contenders if lead not in answer.better]:
        parts.append(f"Not settled: {_not_settled(open_leads, answer)}.")
    if beaten := total - 1 - len(answer.contenders):
        others = "the other one" if beaten == 1 else f"the other {beaten:,}"
        if answer.better:
            others = count(beaten, "other recipe")
        parts.append(f"{'Row 1' if answer.better else 'It'} beats {others} (95 % confidence).")
    return [" ".join(parts)] if parts else []


def _not_settled(open_leads: list[Lead], answer: Answer) -> str:
    """The recipes that may be as good as the best one."""
    # Of recipes that validation images have put in order, the second one may be far behind.
    nearest = min(open_leads, key=lambda lead: (math.isnan(lead.lead.mean), lead.lead.mean))
    lead = "whether row 1 is better than" if nearest.lead.mean < 0 else "its lead over"
    if len(open_leads) <= MOST_NAMED:
        return f"{lead} {conjunction([_open(one, answer) for one in open_leads])}"
    others = len(answer.leads)
    which = "each" if len(open_leads) == others else f"{len(open_leads)}"
    return f"{lead} {which} of the other {others} recipes, the nearest of which is {_open(nearest, answer)}"


def _open(lead: Lead, answer: Answer) -> str:
    if lead.lead.n == 0:
        return f"row {lead.row} (no seed in common)"
    if math.isnan(lead.lead.half_width):
        return f"row {lead.row} ({formatting.signed(lead.lead.mean)} points with one common seed)"
    if lead.lead.mean == lead.lead.half_width == 0:
        return f"row {lead.row} (equal in each seed)"
    if lead.lead.half_width < ROUNDING:
        points = formatting.signed(lead.lead.mean)
        return f"row {lead.row} ({points} points, {interval(lead.lead.mean, lead)})"
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
        differ = [other for other in others if proportions.beyond_binomial(best, other, answer.images)]
        ahead = sum(other > best for other in differ)
        beyond = len(differ) - ahead
        everyone = "both" if beyond == 2 else f"all {beyond}"
        which = everyone if beyond == len(others) else f"{beyond} of the {len(others)}"
        who = f"{which} other recipes {'is' if beyond == 1 else 'are'}"
        if len(others) == 1:
            who = f"the other recipe is{'' if beyond else ' not'}"
        lines.append(
            f"For these single models, {who} behind by more than the choice of {answer.images:,.0f} test "
            "images explains (95 % binomial interval, each by itself)."
        )
        if ahead:
            lines.append(
                f"{count(ahead, 'other recipe')} {'is' if ahead == 1 else 'are'} ahead by more than that."
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
